package clickhouse

import (
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"weir/capture"
	"weir/flows"
)

func TestRowsArriveAsTheyWere(t *testing.T) {
	o := applied(t)
	start := day.Add(15*time.Hour + 4*time.Minute)
	rich := flows.Record{
		Key:       flows.NewKey(netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::2"), 40000, 443, 4095, 6, flows.DirectionOut),
		Forward:   flows.Counters{Packets: math.MaxUint64, Octets: 1 << 63, TCPFlags: 0xff},
		Reverse:   flows.Counters{Packets: 2, Octets: 99, TCPFlags: 0x12},
		First:     start.UnixNano() - 1,
		Last:      start.UnixNano() + 1_500_999_999,
		Start:     start.UnixNano() - 60e9,
		Initiator: flows.InitiatorSYN, EndReason: flows.EndLack,
	}
	ping := flows.Record{Key: flows.NewKey(netip.MustParseAddr("::1"), netip.MustParseAddr("::2"), 0, 128<<8|7, 0, 58, flows.DirectionUnknown),
		First: start.UnixNano(), Last: start.UnixNano(), Start: start.UnixNano()}
	b := batchOf(start, []flows.Record{rich, ping})
	b.Host, b.Interface = "host '\"`\\\x00\x1b\xff", "naïve\n"
	send(t, o, SinkOptions{}, b)
	a := dial(t, o)
	defer a.close()
	where := a.table("flows") + " WHERE proto = 6"
	for expr, want := range map[string]string{
		"ts": "2026-01-02 15:04:00", "hex(host)": "686F73742027226" + "05C001BFF", "iface": "naïve\n", "direction": "out", "proto": "6",
		"src_ip": "::ffff:192.0.2.1", "dst_ip": "2001:db8::2", "src_port": "40000", "dst_port": "443", "vlan": "4095",
		"packets": "18446744073709551615", "bytes": "9223372036854775808", "tcp_flags": "255",
		"reverse_packets": "2", "reverse_bytes": "99", "reverse_tcp_flags": "18",
		"first_ms": "-1", "dur_ms": "1501", "start_ms": "3420000", "initiator": "syn", "end_reason": "lack",
		"first": "2026-01-02 15:03:59.999", "last": "2026-01-02 15:04:01.500", "flow_start": "2026-01-02 15:03:00.000",
		"icmp_type": "0", "icmp_code": "0", "count()": "1",
	} {
		if got := a.one(t, expr, where); got != want {
			t.Errorf("%s = %q, want %q", expr, got, want)
		}
	}
	where = a.table("flows") + " WHERE proto = 58"
	for expr, want := range map[string]string{"icmp_type": "128", "icmp_code": "7", "direction": "unknown", "initiator": "none", "end_reason": "none", "src_ip": "::1"} {
		if got := a.one(t, expr, where); got != want {
			t.Errorf("ICMPv6: %s = %q, want %q", expr, got, want)
		}
	}
}

func TestTimesBeyondDateTimeAreClamped(t *testing.T) {
	o := applied(t)
	b := batchOf(time.Unix(0, capture.MaxTime), []flows.Record{{First: capture.MaxTime, Last: capture.MaxTime, Start: 0,
		Key: flows.NewKey(netip.IPv4Unspecified(), netip.IPv4Unspecified(), 0, 0, 0, 0, 0)}})
	b.Start = capture.MaxTime
	zero := batchOf(time.Unix(0, 0), b.Records[:1:1])
	send(t, o, SinkOptions{}, b, zero)
	a := dial(t, o)
	defer a.close()
	for expr, want := range map[string]string{"ts": "2106-02-07 06:28:15", "first": "2116-02-20 23:53:38.427", "start_ms": "4294967295"} {
		if got := a.one(t, expr, a.table("flows")+" WHERE toYear(ts) > 2000"); got != want {
			t.Errorf("%s = %s, want %s", expr, got, want)
		}
	}
}

func TestManyDaysAreSplit(t *testing.T) {
	o := applied(t)
	var batches []*flows.Batch
	for i := range 250 {
		batches = append(batches, batchOf(day.AddDate(0, 0, i), records(2, day.AddDate(0, 0, i), uint64(i))))
	}
	send(t, o, SinkOptions{Token: "days"}, batches...)
	send(t, o, SinkOptions{Token: "days"}, batches...)
	a := dial(t, o)
	defer a.close()
	if got := a.one(t, "count()", a.table("flows")); got != "500" {
		t.Errorf("%s rows, want 500", got)
	}
	if got := a.one(t, "sum(records)", a.table("flows_1m")); got != "500" {
		t.Errorf("%s records in the roll-up, want 500", got)
	}
}

func TestOnceUnderOneToken(t *testing.T) {
	o := applied(t)
	var batches []*flows.Batch
	for i := range 20 {
		start := day.Add(time.Duration(i) * 10 * time.Second)
		b := batchOf(start, records(5000, start, uint64(i)))
		b.Ledger = &flows.Ledger{Packets: 10, Metered: 7, Octets: 700, Records: 5000}
		b.Ledger.Causes[flows.NotIPARP] = 2
		b.Ledger.Causes[flows.ErrorIHL] = 1
		batches = append(batches, b)
	}
	totals := func() (rows, bytes, rolled, rolledBytes, ledgers string) {
		a := dial(t, o)
		defer a.close()
		return a.one(t, "count()", a.table("flows")), a.one(t, "sum(bytes)", a.table("flows")),
			a.one(t, "sum(records)", a.table("flows_1m")), a.one(t, "sum(bytes)", a.table("flows_1m")), a.one(t, "count()", a.table("ledger"))
	}
	so := SinkOptions{Token: "file.pcap", MaxRows: 33_000, Version: "test"} // several inserts, of several blocks
	send(t, o, so, batches...)
	rows, bytes, rolled, rolledBytes, ledgers := totals()
	if rows != "100000" || rolled != rows || bytes != rolledBytes || ledgers != "20" {
		t.Fatalf("rows %s, bytes %s, in the roll-up %s and %s, ledgers %s", rows, bytes, rolled, rolledBytes, ledgers)
	}
	send(t, o, so, batches...)
	if r, b, m, mb, l := totals(); r != rows || b != bytes || m != rolled || mb != rolledBytes || l != ledgers {
		t.Errorf("sent again: rows %s, bytes %s, in the roll-up %s and %s, ledgers %s", r, b, m, mb, l)
	}
	// The same token with other rows must not lose them.
	other := batchOf(day, records(5000, day, 99))
	send(t, o, so, other)
	if r, _, m, _, _ := totals(); r != "105000" || m != "105000" {
		t.Errorf("other rows under the same token: %s rows, %s in the roll-up, want 105000", r, m)
	}
	send(t, o, SinkOptions{Token: "another"}, other)
	send(t, o, SinkOptions{}, other)
	send(t, o, SinkOptions{}, other)
	if r, _, m, _, _ := totals(); r != "120000" || m != "120000" {
		t.Errorf("three more tokens: %s rows, %s in the roll-up, want 120000", r, m)
	}
	a := dial(t, o)
	defer a.close()
	for expr, want := range map[string]string{
		"sum(packets)": "200", "sum(metered) + sum(not_ip['arp']) + sum(decode_errors['ip_ihl'])": "200",
		"any(interval_ms)": "10000", "any(version)": "test", "countIf(records = 5000)": "20",
		"count(DISTINCT ts)": "20", "any(length(not_ip))": "1",
		"countIf(batch NOT IN (SELECT batch FROM " + a.table("flows") + "))": "0",
	} {
		if got := a.one(t, expr, a.table("ledger")); got != want {
			t.Errorf("ledger: %s = %s, want %s", expr, got, want)
		}
	}
	if got := a.one(t, "count(DISTINCT service_port) = 1 AND any(service_port) = 443", a.table("flows_1m")); got != "1" {
		t.Error("the roll-up has other service ports than 443")
	}
}

func TestLedgerAloneIsWritten(t *testing.T) {
	o := applied(t)
	b := batchOf(day, nil)
	b.Ledger = &flows.Ledger{Packets: 3, Drops: 5}
	b.Ledger.Causes[flows.NotIPLLDP] = 3
	send(t, o, SinkOptions{}, b)
	a := dial(t, o)
	defer a.close()
	if got := a.one(t, "(packets, drops, not_ip['lldp'], records)", a.table("ledger")); got != "(3,5,3,0)" {
		t.Errorf("ledger: %s", got)
	}
}

func TestManyHosts(t *testing.T) {
	o := applied(t)
	rs := records(1, day, 1)
	s := newSink(t, o, SinkOptions{MaxRows: 1 << 20})
	b := batchOf(day, rs)
	const hosts = maxWords + 100
	for i := range hosts {
		b.Host = strings.Repeat("x", i%7) + time.Duration(i).String()
		if err := s.Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	a := dial(t, o)
	defer a.close()
	if got := a.one(t, "count()", a.table("flows")); got != "65636" {
		t.Errorf("%s rows, want %d", got, hosts)
	}
}

package table

import (
	"bytes"
	"encoding/csv"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"weir/exporter"
	"weir/flows"
)

var start = time.Date(2026, 1, 2, 23, 59, 50, 0, time.UTC).UnixNano()

func record(src, dst string, sport, dport uint16, proto uint8) flows.Record {
	return flows.Record{
		Key:       flows.NewKey(netip.MustParseAddr(src), netip.MustParseAddr(dst), sport, dport, 0, proto, flows.DirectionIn),
		Forward:   flows.Counters{Packets: 3412, Octets: 1_234_567, TCPFlags: 0x1b},
		Reverse:   flows.Counters{Packets: 2, Octets: 99, TCPFlags: 0x12},
		First:     start + 5_006_000_000,
		Last:      start + 6_256_000_000,
		Start:     start,
		Initiator: flows.InitiatorSYN,
	}
}

func batch(r ...flows.Record) *flows.Batch {
	return &flows.Batch{Host: "h", Interface: "eth0", Start: start, Records: r}
}

func written(t *testing.T, newSink func(io.Writer) exporter.Sink, batches ...*flows.Batch) string {
	t.Helper()
	var out bytes.Buffer
	s := newSink(&out)
	for _, b := range batches {
		if err := s.Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestRecordTable(t *testing.T) {
	widest := record("255.255.255.255", "255.255.255.255", 65535, 65535, 6)
	widest.Forward = flows.Counters{Packets: 123_456_789, Octets: 999_400_000, TCPFlags: 0x3f}
	widest.Reverse = widest.Forward
	widest.Last = widest.First + int64(59*time.Minute+59*time.Second)
	widest.EndReason = flows.EndForced
	late := record("192.0.2.1", "198.51.100.2", 0, 0x0800, 1)
	late.First += 10e9
	late.Last = late.First
	late.EndReason = flows.EndIdle
	v6 := record("2001:db8:1111:2222:3333:4444:5555:6666", "2001:db8::1", 40000, 443, 17)
	v6.First, v6.Last = late.First, late.First
	got := written(t, func(w io.Writer) exporter.Sink { return NewSink(w, false, Screen{}) },
		batch(record("192.0.2.1", "198.51.100.2", 40000, 443, 6), widest, late, v6))
	want := strings.TrimPrefix(`
2026-01-02 UTC  host h  interface eth0
first         lasts dir proto  pkts  bytes flags   back  bytes flags  end    source                destination
23:59:55.006  1.25s in  tcp   3.4 k 1.2 MB APSF       2   99 B AS            192.0.2.1:40000       198.51.100.2:443
23:59:55.006 59m59s in  tcp   123 M 999 MB UAPRSF 123 M 999 MB UAPRSF forced 255.255.255.255:65535 255.255.255.255:65535

2026-01-03 UTC  host h  interface eth0
00:00:05.006      0 in  icmp  3.4 k 1.2 MB APSF       2   99 B AS     idle   192.0.2.1             198.51.100.2 8/0
00:00:05.006      0 in  udp   3.4 k 1.2 MB APSF       2   99 B AS            [2001:db8:1111:2222:3333:4444:5555:6666]:40000 [2001:db8::1]:443
`, "\n")
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for i, l := range strings.Split(got, "\n") {
		if strings.Contains(l, "2001:") {
			continue
		}
		if len(l) > 120 {
			t.Errorf("line %d has %d columns: %s", i, len(l), l)
		}
		if strings.HasSuffix(l, " ") {
			t.Errorf("line %d ends in a space", i)
		}
	}
	xmas := record("192.0.2.1", "198.51.100.2", 40000, 443, 6)
	xmas.Forward.TCPFlags = 0xff
	all := written(t, func(w io.Writer) exporter.Sink { return NewSink(w, false, Screen{}) }, batch(xmas))
	if !strings.Contains(all, "1.2 MB CEUAPRSF   2   99 B AS            192.0.2.1:40000") {
		t.Errorf("eight flags do not borrow from the next column:\n%s", all)
	}
	uni := written(t, func(w io.Writer) exporter.Sink { return NewSink(w, true, Screen{}) }, batch(widest))
	if strings.Contains(uni, "back") || strings.Count(uni, "UAPRSF") != 1 {
		t.Errorf("uniflow shows the other direction:\n%s", uni)
	}
}

func TestRecordTableEscapesNames(t *testing.T) {
	b := batch(record("192.0.2.1", "198.51.100.2", 1, 2, 6))
	b.Host, b.Interface = "evil\x1b]0;x\a", "n\nflow"
	got := written(t, func(w io.Writer) exporter.Sink { return NewSink(w, false, Screen{}) }, b)
	if strings.ContainsAny(got, "\x1b\a") || strings.Count(got, "\n") != 3 {
		t.Errorf("control characters got through: %q", got)
	}
	other := batch(b.Records...)
	other.Interface = "eth1"
	two := written(t, func(w io.Writer) exporter.Sink { return NewSink(w, false, Screen{}) }, b, other, other)
	if strings.Count(two, "interface") != 2 || strings.Count(two, "destination") != 1 {
		t.Errorf("headings are not as the interfaces change:\n%s", two)
	}
}

func TestCSV(t *testing.T) {
	b := batch(record("192.0.2.1", "2001:db8::2", 40000, 443, 6))
	b.Host = "a,\"b\"\r\nc\x00"
	got := written(t, func(w io.Writer) exporter.Sink { return NewCSV(w, false) }, b, b)
	rows, err := csv.NewReader(strings.NewReader(got)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 3 {
		t.Fatalf("%d rows with the header, want 3:\n%s", len(rows), got)
	}
	columns := exporter.Select(exporter.Shown, false)
	want := map[string]string{"ts": "2026-01-02T23:59:50.000000000Z", "host": "a,\"b\"\nc\x00", // encoding/csv reads \r\n as \n
		"direction": "in", "proto": "6", "src_ip": "192.0.2.1", "dst_ip": "2001:db8::2", "bytes": "1234567", "reverse_tcp_flags": "18",
		"first": "2026-01-02T23:59:55.006000000Z", "initiator": "syn", "end_reason": "none"}
	for i, c := range columns {
		if rows[0][i] != c.Name {
			t.Errorf("header %d is %q, want %q", i, rows[0][i], c.Name)
		}
		if w, ok := want[c.Name]; ok && rows[1][i] != w {
			t.Errorf("%s = %q, want %q", c.Name, rows[1][i], w)
		}
	}
	empty := written(t, func(w io.Writer) exporter.Sink { return NewCSV(w, true) })
	if strings.Count(empty, "\n") != 1 || strings.Contains(empty, "reverse") || !strings.HasPrefix(empty, "ts,host,iface,") {
		t.Errorf("header alone, uniflow: %q", empty)
	}
}

func TestNoAllocationPerRecord(t *testing.T) {
	b := batch()
	for range 500 {
		b.Records = append(b.Records, record("192.0.2.1", "2001:db8::2", 40000, 443, 6))
	}
	ctx := t.Context()
	for name, s := range map[string]exporter.Sink{"table": NewSink(io.Discard, false, Screen{}), "csv": NewCSV(io.Discard, false)} {
		if n := testing.AllocsPerRun(20, func() {
			if err := s.Write(ctx, b); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations for 500 records", name, n)
		}
	}
}

func BenchmarkRecordTable(b *testing.B) {
	s := NewSink(io.Discard, false, Screen{})
	in := batch()
	for range 1000 {
		in.Records = append(in.Records, record("192.0.2.1", "198.51.100.2", 40000, 443, 6))
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Write(b.Context(), in); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "rows/s")
}

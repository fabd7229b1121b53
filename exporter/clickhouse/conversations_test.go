package clickhouse

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"weir/flows"
)

// A conversation that two hosts saw, one of them on two interfaces, over several intervals, is one
// row an hour with the counts of who saw most, and the initiator by the best reason.
func TestConversations(t *testing.T) {
	o := applied(t)
	client, server := netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("10.0.0.1")
	record := func(src, dst netip.Addr, srcPort, dstPort uint16, at time.Time, packets, reverse uint64, by flows.Initiator) flows.Record {
		there, back := flows.Counters{Octets: 100, TCPFlags: 2}, flows.Counters{Octets: 1000, TCPFlags: 16}
		if src == server {
			there, back = back, there
		}
		there.Packets, there.Octets = packets, packets*there.Octets
		back.Packets, back.Octets = reverse, reverse*back.Octets
		return flows.Record{Key: flows.NewKey(src, dst, srcPort, dstPort, 0, 6, flows.DirectionIn), Initiator: by, Forward: there, Reverse: back,
			First: at.UnixNano(), Last: at.Add(2 * time.Second).UnixNano(), Start: at.UnixNano()}
	}
	at := day.Add(3 * time.Hour)
	var batches []*flows.Batch
	for _, b := range []struct {
		host, iface string
		records     []flows.Record
	}{
		{"edge", "eth0", []flows.Record{record(client, server, 50000, 443, at, 3, 2, flows.InitiatorSYN)}},
		{"edge", "eth1", []flows.Record{record(client, server, 50000, 443, at, 3, 2, flows.InitiatorSYN)}},
		// Came late to it, and takes the server for who began.
		{"inner", "eth0", []flows.Record{record(server, client, 443, 50000, at.Add(time.Second), 2, 1, flows.InitiatorFirst)}},
		{"edge", "eth0", []flows.Record{record(client, server, 50000, 443, at.Add(10*time.Second), 4, 4, flows.InitiatorSYN)}},
		{"edge", "eth1", []flows.Record{record(client, server, 50000, 443, at.Add(10*time.Second), 4, 4, flows.InitiatorSYN)}},
		{"edge", "eth0", []flows.Record{record(client, server, 50000, 443, at.Add(time.Hour), 1, 1, flows.InitiatorSYN)}}, // goes on
		{"edge", "eth0", []flows.Record{record(client, server, 50001, 443, at, 1, 0, flows.InitiatorSYN)}},                // another
	} {
		batch := batchOf(time.Unix(0, b.records[0].First).Truncate(10*time.Second), b.records)
		batch.Host, batch.Interface = b.host, b.iface
		batches = append(batches, batch)
	}
	send(t, o, SinkOptions{}, batches...)
	a := dial(t, o)
	defer a.close()
	const list = "(ts, proto, src_ip, src_port, dst_ip, dst_port, initiator, first, last, packets, bytes, tcp_flags, reverse_packets, reverse_bytes, reverse_tcp_flags, records, places, hosts, service)"
	want := "[('2026-01-02 03:00:00',6,'::ffff:203.0.113.9',50000,'::ffff:10.0.0.1',443,'syn','2026-01-02 03:00:00.000','2026-01-02 03:00:12.000',7,700,2,6,6000,16,5,3,['edge','inner'],'https')," +
		"('2026-01-02 03:00:00',6,'::ffff:203.0.113.9',50001,'::ffff:10.0.0.1',443,'syn','2026-01-02 03:00:00.000','2026-01-02 03:00:02.000',1,100,2,0,0,16,1,1,['edge'],'https')," +
		"('2026-01-02 04:00:00',6,'::ffff:203.0.113.9',50000,'::ffff:10.0.0.1',443,'syn','2026-01-02 04:00:00.000','2026-01-02 04:00:02.000',1,100,2,1,1000,16,1,1,['edge'],'https')]"
	if got := a.one(t, "groupArray("+list+")", "(SELECT * FROM "+a.table(conversationsView)+" ORDER BY ts, src_port)"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := a.one(t, "uniqExact(community_id)", a.table(conversationsView)); got != "2" {
		t.Errorf("%s community ids", got)
	}
}

// A condition on the view's time reads only what can meet it.
func TestConversationsReadAnHour(t *testing.T) {
	o := applied(t)
	var batches []*flows.Batch
	for i := range 48 {
		start := day.Add(time.Duration(i) * time.Hour)
		batches = append(batches, batchOf(start, records(10_000, start, uint64(i))))
	}
	send(t, o, SinkOptions{}, batches...)
	a := dial(t, o)
	defer a.close()
	a.run(t, "OPTIMIZE TABLE "+a.table(flowsTable)+" FINAL")
	rows, err := a.conn.Query(t.Context(), "EXPLAIN indexes = 1 SELECT src_ip, dst_ip, packets FROM "+a.table(conversationsView)+" WHERE ts >= '2026-01-02 12:00:00' AND ts < '2026-01-02 13:00:00'")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		text.WriteString(line + "\n")
	}
	if err := firstError(rows.Err(), rows.Close()); err != nil {
		t.Fatal(err)
	}
	granules := regexp.MustCompile(`Granules: (\d+)/(\d+)`).FindAllStringSubmatch(text.String(), -1)
	if len(granules) == 0 {
		t.Fatalf("no granules in\n%s", text.String())
	}
	all, _ := strconv.Atoi(granules[0][2])
	read, _ := strconv.Atoi(granules[len(granules)-1][1])
	if all < 48 || read > all/16 {
		t.Errorf("one hour of 48 reads %d granules of %d\n%s", read, all, text.String())
	}
}

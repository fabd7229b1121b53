package clickhouse

import (
	"net/netip"
	"testing"

	"weir/flows"
)

// communityIDs are the reference vectors: of github.com/corelight/community-id-spec, baseline/README.md
// and baseline/baseline_deflt.json, and of the tests of corelight/pycommunityid, with
// ICMP's type and code as records have them.
var communityIDs = []struct {
	proto            uint8
	src, dst         string
	srcPort, dstPort uint16
	want             string
}{
	{6, "1.2.3.4", "5.6.7.8", 1122, 3344, "1:wCb3OG7yAFWelaUydu0D+125CLM="},
	{6, "5.6.7.8", "1.2.3.4", 3344, 1122, "1:wCb3OG7yAFWelaUydu0D+125CLM="},
	{17, "1.2.3.4", "5.6.7.8", 1122, 3344, "1:0Mu9InQx6z4ZiCZM/7HXi2WMhOg="},
	{17, "5.6.7.8", "1.2.3.4", 3344, 1122, "1:0Mu9InQx6z4ZiCZM/7HXi2WMhOg="},
	{132, "1.2.3.4", "5.6.7.8", 1122, 3344, "1:EKt4MsxuyaE6mL+hmrEkQ9csDD8="},
	{132, "5.6.7.8", "1.2.3.4", 3344, 1122, "1:EKt4MsxuyaE6mL+hmrEkQ9csDD8="},
	{1, "1.2.3.4", "5.6.7.8", 0, 8 << 8, "1:crodRHL2FEsHjbv3UkRrfbs4bZ0="},
	{1, "5.6.7.8", "1.2.3.4", 0, 0 << 8, "1:crodRHL2FEsHjbv3UkRrfbs4bZ0="},
	{1, "1.2.3.4", "5.6.7.8", 0, 11 << 8, "1:f/YiSyWqczrTgfUCZlBUnvHRcPk="},
	{58, "fe80:0001:0203:0405:0607:0809:0A0B:0C0D", "fe80:1011:1213:1415:1617:1819:1A1B:1C1D", 0, 128 << 8, "1:0bf7hyMJUwt3fMED7z8LIfRpBeo="},
	{58, "fe80:1011:1213:1415:1617:1819:1A1B:1C1D", "fe80:0001:0203:0405:0607:0809:0A0B:0C0D", 0, 129 << 8, "1:0bf7hyMJUwt3fMED7z8LIfRpBeo="},
	// baseline/README.md has its addresses the other way round, make-tables.py which makes it has not.
	{58, "fe80:0001:0203:0405:0607:0809:0A0B:0C0D", "fe80:1011:1213:1415:1617:1819:1A1B:1C1D", 0, 146 << 8, "1:fYC8+pz24E+EhANP1EZhpX0Dw10="},
	{46, "1.2.3.4", "5.6.7.8", 0, 0, "1:ikv3kmf89luf73WPz1jOs49S768="},
	{46, "5.6.7.8", "1.2.3.4", 0, 0, "1:ikv3kmf89luf73WPz1jOs49S768="},
	{46, "fe80:0001:0203:0405:0607:0809:0A0B:0C0D", "fe80:1011:1213:1415:1617:1819:1A1B:1C1D", 0, 0, "1:wQ/2mwrnXP4lmJcHdGL5ePjR+e0="},
	{46, "fe80:1011:1213:1415:1617:1819:1A1B:1C1D", "fe80:0001:0203:0405:0607:0809:0A0B:0C0D", 0, 0, "1:wQ/2mwrnXP4lmJcHdGL5ePjR+e0="},

	{58, "fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea", 0, 135 << 8, "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="},
	{58, "fe80::260:97ff:fe07:69ea", "fe80::200:86ff:fe05:80da", 0, 136 << 8, "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="},
	{58, "fe80::260:97ff:fe07:69ea", "fe80::200:86ff:fe05:80da", 0, 135 << 8, "1:zavyT/cezQr1fmImYCwYnMXbgck="},
	{58, "fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea", 0, 136 << 8, "1:zavyT/cezQr1fmImYCwYnMXbgck="},
	{58, "3ffe:501:1800:2345::2", "3ffe:507:0:1:200:86ff:fe05:80da", 0, 3 << 8, "1:2ObVBgIn28oZvibYZhZMBgh7WdQ="},
	{58, "3ffe:501:410:0:2c0:dfff:fe47:33e", "3ffe:507:0:1:200:86ff:fe05:80da", 0, 1<<8 | 4, "1:hLZd0XGWojozrvxqE0dWB1iM6R0="},
	{58, "3ffe:507:0:1:200:86ff:fe05:80da", "3ffe:501:0:1001::2", 0, 128 << 8, "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg="},
	{58, "3ffe:501:0:1001::2", "3ffe:507:0:1:200:86ff:fe05:80da", 0, 129 << 8, "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg="},
	{58, "fe80::200:86ff:fe05:80da", "ff02::2", 0, 133 << 8, "1:hO+sN4H+MG5MY/8hIrXPqc4ZQz0="},
	{58, "fe80::260:97ff:fe07:69ea", "ff02::1", 0, 134 << 8, "1:pkvHqCL88/tg1k4cPigmZXUtL00="},
	{1, "192.168.0.89", "192.168.0.1", 0, 8 << 8, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="},
	{1, "192.168.0.1", "192.168.0.89", 0, 0, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="},
	{1, "10.0.0.1", "10.0.0.2", 0, 11 << 8, "1:YHxtAirCG//0OzkcVAukqKQN9xM="},
	{6, "2001:470:e5bf:dead:4957:2174:e82c:4887", "2607:f8b0:400c:c03::1a", 63943, 25, "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4="},
	{6, "2607:f8b0:400c:c03::1a", "2001:470:e5bf:dead:4957:2174:e82c:4887", 25, 63943, "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4="},
	{132, "192.168.170.8", "192.168.170.56", 7, 7, "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="},
	{132, "192.168.170.56", "192.168.170.8", 7, 7, "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="},
	{6, "128.232.110.120", "66.35.250.204", 34855, 80, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="},
	{6, "66.35.250.204", "128.232.110.120", 80, 34855, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="},
	{17, "192.168.1.52", "8.8.8.8", 54585, 53, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="},
	{17, "8.8.8.8", "192.168.1.52", 53, 54585, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="},
	{46, "10.1.12.1", "10.1.12.2", 0, 0, "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="},
	{46, "10.1.12.2", "10.1.12.1", 0, 0, "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="},

	{1, "192.168.0.89", "192.168.0.1", 0, 20 << 8, "1:3o2RFccXzUgjl7zDpqmY7yJi8rI="},
	{1, "192.168.0.89", "192.168.0.1", 0, 20<<8 | 1, "1:tz/fHIDUHs19NkixVVoOZywde+I="},
	{1, "192.168.0.1", "192.168.0.89", 0, 0<<8 | 20, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="},
	{58, "3ffe:507:0:1:260:97ff:fe07:69ea", "3ffe:507:0:1:200:86ff:fe05:80da", 0, 3 << 8, "1:NdobDX8PQNJbAyfkWxhtL2Pqp5w="},
	{58, "3ffe:507:0:1:200:86ff:fe05:80da", "3ffe:507:0:1:260:97ff:fe07:69ea", 0, 3 << 8, "1:/OGBt9BN1ofenrmSPWYicpij2Vc="},
	{132, "192.168.170.8", "192.168.170.56", 7, 80, "1:jQgCxbku+pNGw8WPbEc/TS/uTpQ="},
	{132, "192.168.170.56", "192.168.170.8", 80, 7, "1:jQgCxbku+pNGw8WPbEc/TS/uTpQ="},
	{6, "10.0.0.1", "10.0.0.2", 10, 11569, "1:SXBGMX1lBOwhhoDrZynfROxnhnM="},
	{46, "10.1.24.4", "10.1.12.1", 0, 0, "1:/nQI4Rh/TtY3mf0R2gJFBkVlgS4="},
	{46, "10.1.12.1", "10.1.24.4", 0, 0, "1:/nQI4Rh/TtY3mf0R2gJFBkVlgS4="},
	// Ports that are no part of it.
	{46, "10.1.12.1", "10.1.24.4", 5, 6, "1:/nQI4Rh/TtY3mf0R2gJFBkVlgS4="},
}

func TestCommunityID(t *testing.T) {
	o := applied(t)
	var rs []flows.Record
	for i, v := range communityIDs {
		rs = append(rs, flows.Record{Key: flows.NewKey(netip.MustParseAddr(v.src), netip.MustParseAddr(v.dst), v.srcPort, v.dstPort, 0, v.proto, flows.DirectionIn),
			Forward: flows.Counters{Packets: uint64(i)}, First: day.UnixNano(), Last: day.UnixNano(), Start: day.UnixNano()})
	}
	send(t, o, SinkOptions{}, batchOf(day, rs))
	a := dial(t, o)
	defer a.close()
	rows, err := a.conn.Query(t.Context(), "SELECT packets, community_id FROM "+a.table(flowsTable)+" ORDER BY packets")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var i uint64
		var got string
		if err := rows.Scan(&i, &got); err != nil {
			t.Fatal(err)
		}
		if v := communityIDs[i]; got != v.want {
			t.Errorf("%+v: got %s", v, got)
		}
	}
	if rows.Err() != nil || n != len(communityIDs) {
		t.Errorf("%d rows of %d, %v", n, len(communityIDs), rows.Err())
	}
	if got := a.one(t, "groupArray(community_id) = (SELECT groupArray(community_id) FROM (SELECT community_id FROM "+a.table(flowsTable)+" WHERE proto NOT IN (1, 58) ORDER BY ALL))",
		"(SELECT community_id FROM "+a.table(conversationsView)+" ARRAY JOIN range(records) WHERE proto NOT IN (1, 58) ORDER BY ALL)"); got != "1" {
		t.Error("the view has other ids than the table")
	}
}

func TestServices(t *testing.T) {
	seen := map[uint32]bool{}
	for _, s := range services {
		for _, p := range s.protos {
			if k := uint32(p)<<16 | uint32(s.port); seen[k] {
				t.Errorf("%s: port %d of protocol %d has a name already", s.name, s.port, p)
			} else {
				seen[k] = true
			}
		}
	}
	o := applied(t)
	var rs []flows.Record
	a1, a2 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for i, v := range []struct {
		proto            uint8
		srcPort, dstPort uint16
		by               flows.Initiator
	}{{6, 22, 443, flows.InitiatorSYN}, {17, 50000, 53, flows.InitiatorPort}, {17, 53, 50000, flows.InitiatorNone}, {6, 443, 50000, flows.InitiatorSYN},
		{1, 0, 53, flows.InitiatorICMP}, {58, 0, 128 << 8, flows.InitiatorICMP}, {6, 40000, 51820, flows.InitiatorSYN}, {132, 38412, 38412, flows.InitiatorFirst}} {
		rs = append(rs, flows.Record{Key: flows.NewKey(a1, a2, v.srcPort, v.dstPort, uint16(i), v.proto, flows.DirectionIn), Initiator: v.by,
			Forward: flows.Counters{Packets: uint64(i)}, First: day.UnixNano(), Last: day.UnixNano(), Start: day.UnixNano()})
	}
	send(t, o, SinkOptions{}, batchOf(day, rs))
	a := dial(t, o)
	defer a.close()
	for _, table := range []string{flowsTable, minuteTable, hourTable, conversationsView} {
		if got, want := a.one(t, "groupArray(service)", "(SELECT service FROM "+a.table(table)+" ORDER BY packets)"), "['https','domain','domain','','','','','ngap']"; got != want {
			t.Errorf("%s: %s, want %s", table, got, want)
		}
	}
}

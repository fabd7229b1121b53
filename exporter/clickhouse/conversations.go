package clickhouse

import "strings"

// conversationsSQL makes one row of each conversation and hour, whatever number of
// intervals and interfaces it was seen in.
//
// The hour is part of the key so that a condition on ts gets through to the rows of
// flows: of a view that sums over all time, ClickHouse reads all rows, whatever is asked
// of the sums.
//
// Innermost, the rows of each place that packets were seen at are added up, by the
// endpoints in order, since two rows may have other ideas of who began. Then the places
// are put side by side: they saw the same packets, so the counts of the one that saw
// most are those of the conversation, and not the sum. At last the best of the reasons
// tells who began.
//
// What is computed goes by other names than the computed columns of flows: a Distributed table
// puts their expressions in their place, name and all.
const conversationsSQL = `SELECT ts, proto,
    if(way.2, high, low).1 AS src_ip, if(way.2, high, low).2 AS src_port,
    if(way.2, low, high).1 AS dst_ip, if(way.2, low, high).2 AS dst_port, way.1 AS initiator, first, last,
    if(way.2, down, up).1 AS packets, if(way.2, down, up).2 AS bytes, if(way.2, down_flags, up_flags) AS tcp_flags,
    if(way.2, up, down).1 AS reverse_packets, if(way.2, up, down).2 AS reverse_bytes, if(way.2, up_flags, down_flags) AS reverse_tcp_flags,
    records, places, hosts,
    $service AS service,
    $community_id AS community_id
FROM
(
    SELECT ts, proto, low, high, max(way) AS way, min(begin) AS first, max(finish) AS last,
        (max(up.1), max(up.2)) AS up, (max(down.1), max(down.2)) AS down, groupBitOr(up_flags) AS up_flags, groupBitOr(down_flags) AS down_flags,
        sum(records) AS records, count() AS places, arraySort(groupUniqArray(host)) AS hosts
    FROM
    (
        SELECT toStartOfHour(f.ts) AS ts, f.proto AS proto,
            if($flip, (f.dst_ip, f.dst_port), (f.src_ip, f.src_port)) AS low,
            if($flip, (f.src_ip, f.src_port), (f.dst_ip, f.dst_port)) AS high,
            max((f.initiator, $flip)) AS way, min(f.first) AS begin, max(f.last) AS finish,
            (sum(if($flip, f.reverse_packets, f.packets)), sum(if($flip, f.reverse_bytes, f.bytes))) AS up,
            (sum(if($flip, f.packets, f.reverse_packets)), sum(if($flip, f.bytes, f.reverse_bytes))) AS down,
            groupBitOr(if($flip, f.reverse_tcp_flags, f.tcp_flags)) AS up_flags,
            groupBitOr(if($flip, f.tcp_flags, f.reverse_tcp_flags)) AS down_flags,
            count() AS records, toString(f.host) AS host
        FROM $flows AS f
        GROUP BY toStartOfHour(f.ts), f.proto, low, high, f.host, f.iface, f.vlan
    )
    GROUP BY ts, proto, low, high
)`

// conversations returns the view conversations.
func (l layout) conversations() tableDef {
	of := map[string]columnDef{}
	for _, c := range flowsColumns() {
		of[c.name] = c
	}
	docs := map[string]string{
		"ts":    "the hour; a condition on it keeps the answer fast",
		"first": "first packet in the hour", "last": "last packet in the hour, which ends the conversation if none follows in the next",
	}
	var columns []columnDef
	for _, name := range []string{"ts", "proto", "src_ip", "src_port", "dst_ip", "dst_port", "initiator", "first", "last",
		"packets", "bytes", "tcp_flags", "reverse_packets", "reverse_bytes", "reverse_tcp_flags"} {
		c := columnDef{name: name, typ: of[name].typ, doc: of[name].doc}
		if doc, ok := docs[name]; ok {
			c.doc = doc
		}
		columns = append(columns, c)
	}
	columns = append(columns,
		columnDef{name: "records", typ: "UInt64", doc: "rows of flows that this row sums up"},
		columnDef{name: "places", typ: "UInt64", doc: "interfaces and VLANs of hosts that saw it; the counts are of the one that saw most"},
		columnDef{name: "hosts", typ: "Array(String)", doc: "hosts that saw it"},
		columnDef{name: "service", typ: "String", doc: of["service"].doc},
		columnDef{name: "community_id", typ: "String", doc: of["community_id"].doc})
	return tableDef{name: conversationsView, since: 2, doc: "one row for each conversation and hour, over all intervals, interfaces and hosts", columns: columns,
		query: strings.NewReplacer(
			"$flip", "((f.src_ip, f.src_port) > (f.dst_ip, f.dst_port))",
			"$flows", l.full(flowsTable),
			"$service", serviceName("proto", servicePort("")),
			"$community_id", communityID(),
		).Replace(conversationsSQL)}
}

package clickhouse

import (
	"fmt"
	"strings"
)

// rollupKeys and rollupSums are the columns of the roll-ups, but for the time, the service and
// the number of records.
var (
	rollupKeys = []string{"host", "iface", "direction", "vlan", "proto", "src_ip", "dst_ip"}
	rollupSums = []string{"packets", "bytes", "reverse_packets", "reverse_bytes"}
)

func rollupColumns(unit string) []columnDef {
	by := map[string]columnDef{}
	for _, c := range flowsColumns() {
		by[c.name] = c
	}
	cs := []columnDef{stored("ts", "DateTime('UTC')", "start of the "+unit)}
	for _, k := range rollupKeys {
		cs = append(cs, by[k])
	}
	cs = append(cs, stored("service_port", "UInt16", "port of the responder; where nobody knows who that is, the lower one; ICMP: type * 256 + code"))
	for _, k := range rollupSums {
		cs = append(cs, by[k])
	}
	records := stored("records", "UInt64", "rows of flows that this row sums up")
	records.codec = codecs["packets"]
	return append(cs, records,
		columnDef{name: "service", typ: "String", alias: serviceName("proto", "service_port"), doc: by["service"].doc, since: 2})
}

// rollup returns a roll-up of flows and the view that fills it.
func (l layout) rollup(unit, name, view string, since int) []tableDef {
	columns := rollupColumns(unit)
	t := tableDef{name: name, since: since, doc: "flows summed by " + unit + ", addresses and service", columns: columns, spread: true, ages: true,
		family: "SummingMergeTree", args: []string{"(" + strings.Join(append(append([]string{}, rollupSums...), "records"), ", ") + ")"},
		keys: "PARTITION BY toDate(ts)\nPRIMARY KEY (toStartOfHour(ts), host)\n" +
			"ORDER BY (toStartOfHour(ts), host, src_ip, dst_ip, proto, service_port, iface, direction, vlan, ts)"}
	mv := tableDef{name: view, since: since, doc: "fills " + name + " from flows as rows are inserted", to: l.local(name),
		query: rollupQuery("toStartOf"+strings.ToUpper(unit[:1])+unit[1:], servicePort("f."), "count()") + "\nFROM " + l.full(l.local(flowsTable)) + " AS f\nGROUP BY ALL"}
	for _, c := range columns {
		if c.alias == "" {
			mv.columns = append(mv.columns, c)
		}
	}
	return []tableDef{t, mv}
}

// rollupQuery begins a query that sums up rows of f.
//
// The target could sum a block by itself as it sorts it (optimize_on_insert),
// but that takes twice as long as GROUP BY and sorting less.
func rollupQuery(start, port, records string) string {
	var sb strings.Builder
	sb.WriteString("SELECT " + start + "(f.ts) AS ts")
	for _, k := range rollupKeys {
		sb.WriteString(", f." + k + " AS " + k)
	}
	sb.WriteString(",\n    " + port + " AS service_port")
	for _, k := range rollupSums {
		sb.WriteString(", sum(f." + k + ") AS " + k)
	}
	sb.WriteString(", " + records + " AS records")
	return sb.String()
}

// backfill returns the statements that make flows_1h anew for a day that is over, of flows_1m. Its
// view sees only what is inserted after it was made. They may be repeated: what they write
// replaces the day, and must not be taken for a repetition.
func (l layout) backfill(day string) []string {
	hours := l.local(hourTable)
	return []string{
		fmt.Sprintf("ALTER TABLE %s%s DROP PARTITION %s", l.full(hours), l.on(), literal(day)),
		fmt.Sprintf("INSERT INTO %s (ts, %s, service_port, %s, records)\n%s\nFROM %s AS f\nWHERE toDate(f.ts) = %s\nGROUP BY ALL\nSETTINGS insert_deduplicate = 0",
			l.full(hours), strings.Join(rollupKeys, ", "), strings.Join(rollupSums, ", "),
			rollupQuery("toStartOfHour", "f.service_port", "sum(f.records)"), l.full(l.local(minuteTable)), literal(day)),
	}
}

package clickhouse

import (
	"fmt"
	"strings"

	"weir/exporter"
)

// Names of the tables.
const (
	flowsTable        = "flows"
	minuteTable       = "flows_1m"
	minuteView        = "flows_1m_mv"
	hourTable         = "flows_1h"
	hourView          = "flows_1h_mv"
	ledgerTable       = "ledger"
	conversationsView = "conversations"
	versionTable      = "weir_schema"
)

// columnDef is a column of a table, as SHOW CREATE TABLE and system.columns write it.
type columnDef struct {
	name  string
	typ   string
	alias string // expression of an ALIAS column, which is not stored
	codec string
	doc   string
	since int // version of the schema that brought it; 0 for the first
}

// tableDef is a table or a view.
type tableDef struct {
	name    string
	since   int // version of the schema that brought it; 0 for the first
	doc     string
	columns []columnDef
	indexes []string
	family  string   // of a table: MergeTree, SummingMergeTree, Distributed
	args    []string // of the family
	keys    string   // PARTITION BY, PRIMARY KEY, ORDER BY
	spread  bool     // rows are inserted, each once; in a cluster they lie on shards
	ages    bool     // a TTL may be set
	query   string   // of a view: after AS
	to      string   // of a materialized view: the table that it fills
}

// What a table remembers to recognise a block that is sent again; it counts those of
// the whole table, from all who insert.
const (
	// window is how many blocks. Each takes 220 octets of memory in every table, 22 MB
	// when it is full; ten times as many take ten times as much, and seconds at each start of the
	// server (docs/clickhouse.md).
	window = 100_000
	// replicatedWindow is the same of a replicated table, whose blocks are nodes in Keeper,
	// and windowSeconds how long it remembers them at most.
	replicatedWindow = 10_000
	windowSeconds    = 7 * 24 * 60 * 60
)

// codecs of the columns that gain by another than the default: small numbers in
// wide types.
var codecs = map[string]string{
	"packets": "T64, ZSTD(1)", "bytes": "T64, ZSTD(1)",
	"reverse_packets": "T64, ZSTD(1)", "reverse_bytes": "T64, ZSTD(1)",
	"first_ms": "T64, ZSTD(1)", "dur_ms": "T64, ZSTD(1)", "batch": "T64, ZSTD(1)",
}

const defaultCodec = "ZSTD(1)"

// columnType returns the type of a stored column in the server's own spelling.
func columnType(c exporter.Column) string {
	switch c.Kind {
	case exporter.Text:
		return typeText
	case exporter.Addr:
		return "IPv6"
	case exporter.Uint:
		return fmt.Sprintf("UInt%d", c.Bits)
	case exporter.Int:
		return fmt.Sprintf("Int%d", c.Bits)
	case exporter.Time:
		return "DateTime('UTC')"
	}
	return enumType(c.Names)
}

func enumType(names []string) string {
	var items []string
	for i, n := range names {
		items = append(items, fmt.Sprintf("'%s' = %d", n, i))
	}
	return "Enum8(" + strings.Join(items, ", ") + ")"
}

// LostReasons are why records were given up, by number.
var LostReasons = []string{"none", "full", "age", "corrupt", "refused"}

func stored(name, typ, doc string) columnDef {
	c := columnDef{name: name, typ: typ, doc: doc, codec: defaultCodec}
	if other, ok := codecs[name]; ok {
		c.codec = other
	}
	return c
}

const aliasTime = "DateTime64(3, 'UTC')"

// flowsColumns are the columns of flows: those of the mapping, then what only
// this sink knows, then what can be computed and therefore is not stored.
func flowsColumns() []columnDef {
	var cs []columnDef
	for _, c := range exporter.Select(exporter.Stored, false) {
		cs = append(cs, stored(c.Name, columnType(c), c.Doc))
	}
	cs = append(cs, stored("batch", "UInt64", "the insert that brought the row; also in ledger"))
	const first = "(toInt64(toUnixTimestamp(ts)) * 1000) + first_ms"
	for _, a := range []columnDef{
		{name: "first", typ: aliasTime, alias: "fromUnixTimestamp64Milli(" + first + ", 'UTC')"},
		{name: "last", typ: aliasTime, alias: "fromUnixTimestamp64Milli(" + first + " + toInt64(dur_ms), 'UTC')", doc: "last packet in the interval: the end time of the record"},
		{name: "flow_start", typ: aliasTime, alias: "fromUnixTimestamp64Milli(if(start_ms = 0, " + first + ", (toInt64(toUnixTimestamp(toStartOfHour(ts))) * 1000) + 3600000 - toInt64(start_ms)), 'UTC')"},
		{name: "icmp_type", typ: "UInt8", alias: "if(proto IN (1, 58), toUInt8(bitShiftRight(dst_port, 8)), 0)", doc: "ICMP type, 0 for other protocols"},
		{name: "icmp_code", typ: "UInt8", alias: "if(proto IN (1, 58), toUInt8(bitAnd(dst_port, 255)), 0)", doc: "ICMP code, 0 for other protocols"},
		{name: "service", typ: "String", alias: serviceName("proto", servicePort("")), doc: "name of the service by the port of the responder, empty if it is not well known", since: 2},
		{name: "community_id", typ: "String", alias: communityID(), doc: "Community ID v1, seed 0: the name of the flow in Zeek, Suricata and others", since: 2},
	} {
		for _, c := range exporter.Columns {
			if c.Name == a.name && a.doc == "" {
				a.doc = c.Doc
			}
		}
		cs = append(cs, a)
	}
	return cs
}

func ledgerColumns() []columnDef {
	cs := []columnDef{
		stored("ts", "DateTime('UTC')", "start of the interval"),
		stored("host", typeText, "host that captured"),
		stored("iface", typeText, "interface that captured"),
		stored("interval_ms", "UInt64", "length of the interval, milliseconds"),
		stored("batch", "UInt64", "the insert that brought the last rows of the interval"),
		stored("records", "UInt64", "rows of flows made of the interval"),
		stored("packets", "UInt64", "packets handed to the meter"),
		stored("metered", "UInt64", "packets counted in flows, those of overflow rows included"),
		stored("octets", "UInt64", "IP octets of the metered packets"),
		stored("overflow", "UInt64", "metered packets that lost their detail because the flow table was full"),
		stored("not_ip", typeCounts, "packets that carried no IP, by cause"),
		stored("decode_errors", typeCounts, "packets that could not be decoded, by cause"),
		stored("drops", "UInt64", "packets lost by the kernel before the meter saw them"),
		stored("freezes", "UInt64", "times that the ring stood still"),
		stored("version", typeText, "version of the program"),
	}
	for _, c := range []columnDef{
		stored("run", aliasTime, "start of the agent's run"),
		stored("boot_id", typeText, "the kernel's random name for this boot of the host"),
		stored("spool", "UInt64", "random number of the spool that the rows went through, 0 for none"),
		stored("sequence", "UInt64", "number of the flush, one by one within a spool"),
		stored("lost", "UInt64", "records of these that were given up and are not in flows"),
		stored("lost_reason", enumType(LostReasons), "why they were given up"),
		stored("nic_packets_in", "UInt64", "packets that the interface counted as received (rx_packets)"),
		stored("nic_packets_out", "UInt64", "packets that the interface counted as sent (tx_packets)"),
		stored("nic_octets_in", "UInt64", "octets likewise, link layer included (rx_bytes)"),
		stored("nic_octets_out", "UInt64", "octets likewise, link layer included (tx_bytes)"),
		stored("nic_drops_in", "UInt64", "packets that the interface or the kernel dropped before capture (rx_dropped, rx_missed_errors)"),
		stored("nic_drops_out", "UInt64", "packets that were not sent (tx_dropped)"),
	} {
		c.since = 2
		cs = append(cs, c)
	}
	return cs
}

// versions is where the versions that were applied are kept.
func versions() tableDef {
	return tableDef{name: versionTable, doc: "versions of the schema that were applied",
		columns: []columnDef{
			{name: "version", typ: "UInt32", doc: "version of the schema"},
			{name: "applied", typ: "DateTime('UTC')", doc: "when it was applied"},
		},
		family: "MergeTree", keys: "ORDER BY version"}
}

// flows is the table of the records.
//
// Rows that share addresses lie side by side within the hour: that is what
// compresses. A wider bucket prunes worse, a narrower one repeats more
// (BenchmarkSchema, docs/clickhouse.md).
func (l layout) flows() tableDef {
	return tableDef{name: flowsTable, doc: "one row for each flow and interval, both directions", columns: flowsColumns(), spread: true, ages: true,
		indexes: []string{
			"INDEX ix_src src_ip TYPE bloom_filter(0.01) GRANULARITY 1",
			"INDEX ix_dst dst_ip TYPE bloom_filter(0.01) GRANULARITY 1",
		},
		family: "MergeTree",
		keys: "PARTITION BY toDate(ts)\nPRIMARY KEY (toStartOfHour(ts), host)\n" +
			"ORDER BY (toStartOfHour(ts), host, src_ip, proto, dst_port, dst_ip, src_port, ts)"}
}

// ledger is the table of the accounts.
func ledger() tableDef {
	return tableDef{name: ledgerTable, doc: "what became of every packet: one row for each host, interface and interval", columns: ledgerColumns(), spread: true, ages: true,
		family: "MergeTree", keys: "PARTITION BY toYYYYMM(ts)\nORDER BY (ts, host, iface)"}
}

// definition returns the column as CREATE and ALTER TABLE have it.
func (c *columnDef) definition() string {
	s := c.name + " " + c.typ
	if c.alias != "" {
		s += " ALIAS " + c.alias
	}
	if c.doc != "" {
		s += " COMMENT " + literal(c.doc)
	}
	if c.codec != "" {
		s += " CODEC(" + c.codec + ")"
	}
	return s
}

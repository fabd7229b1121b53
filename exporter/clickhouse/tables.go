package clickhouse

import (
	"fmt"
	"strings"
	"time"

	"weir/exporter"
)

// Names of the tables.
const (
	flowsTable   = "flows"
	rollupTable  = "flows_1m"
	rollupView   = "flows_1m_mv"
	ledgerTable  = "ledger"
	versionTable = "weir_schema"
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
	columns []columnDef // none for a view
	indexes []string
	engine  string // from ENGINE on
	window  int    // blocks that deduplication remembers
	ttl     string // the column that ages, if a TTL is set
	doc     string
	query   string // of a view: after AS
}

// window is how many inserted blocks a table remembers to recognise one that is
// sent again. It counts blocks of the whole table: with 1,000 agents that flush
// every 10 s, 10,000 last for 100 s.
const window = 10000

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
		{name: "last", typ: aliasTime, alias: "fromUnixTimestamp64Milli(" + first + " + toInt64(dur_ms), 'UTC')"},
		{name: "flow_start", typ: aliasTime, alias: "fromUnixTimestamp64Milli(if(start_ms = 0, " + first + ", (toInt64(toUnixTimestamp(toStartOfHour(ts))) * 1000) + 3600000 - toInt64(start_ms)), 'UTC')"},
		{name: "icmp_type", typ: "UInt8", alias: "if(proto IN (1, 58), toUInt8(bitShiftRight(dst_port, 8)), 0)", doc: "ICMP type, 0 for other protocols"},
		{name: "icmp_code", typ: "UInt8", alias: "if(proto IN (1, 58), toUInt8(bitAnd(dst_port, 255)), 0)", doc: "ICMP code, 0 for other protocols"},
	} {
		for _, c := range exporter.Columns {
			if c.Name == a.name {
				a.doc = c.Doc
			}
		}
		cs = append(cs, a)
	}
	return cs
}

// rollupKeys and rollupSums are the columns of flows_1m.
var (
	rollupKeys = []string{"host", "iface", "direction", "vlan", "proto", "src_ip", "dst_ip"}
	rollupSums = []string{"packets", "bytes", "reverse_packets", "reverse_bytes"}
)

func rollupColumns() []columnDef {
	by := map[string]columnDef{}
	for _, c := range flowsColumns() {
		by[c.name] = c
	}
	cs := []columnDef{stored("ts", "DateTime('UTC')", "start of the minute")}
	for _, k := range rollupKeys {
		cs = append(cs, by[k])
	}
	cs = append(cs, stored("service_port", "UInt16", "port of the responder; where nobody knows who that is, the lower one; ICMP: type * 256 + code"))
	for _, k := range rollupSums {
		cs = append(cs, by[k])
	}
	records := stored("records", "UInt64", "rows of flows that this row sums up")
	records.codec = codecs["packets"]
	return append(cs, records)
}

func rollupQuery(db string) string {
	var sb strings.Builder
	sb.WriteString("SELECT toStartOfMinute(f.ts) AS ts")
	for _, k := range rollupKeys {
		sb.WriteString(", f." + k + " AS " + k)
	}
	sb.WriteString(",\n    multiIf(f.proto IN (1, 58), f.dst_port, f.initiator = 'none', least(f.src_port, f.dst_port), f.dst_port) AS service_port")
	for _, k := range rollupSums {
		sb.WriteString(", sum(f." + k + ") AS " + k)
	}
	// The target could sum a block by itself as it sorts it (optimize_on_insert),
	// but that takes twice as long as GROUP BY and sorting less.
	sb.WriteString(", count() AS records\nFROM " + quote(db) + "." + flowsTable + " AS f\nGROUP BY ALL")
	return sb.String()
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

// tables returns everything that the schema consists of, in the order in which
// it can be created.
func tables(db string) []tableDef {
	return []tableDef{
		{name: versionTable, doc: "versions of the schema that were applied",
			columns: []columnDef{
				{name: "version", typ: "UInt32", doc: "version of the schema"},
				{name: "applied", typ: "DateTime('UTC')", doc: "when it was applied"},
			},
			engine: "ENGINE = MergeTree\nORDER BY version"},
		{name: flowsTable, doc: "one row for each flow and interval, both directions", columns: flowsColumns(), window: window, ttl: "ts",
			// Rows that share addresses lie side by side within the hour: that is
			// what compresses. A wider bucket prunes worse, a narrower one repeats more.
			indexes: []string{
				"INDEX ix_src src_ip TYPE bloom_filter(0.01) GRANULARITY 1",
				"INDEX ix_dst dst_ip TYPE bloom_filter(0.01) GRANULARITY 1",
			},
			engine: "ENGINE = MergeTree\nPARTITION BY toDate(ts)\nPRIMARY KEY (toStartOfHour(ts), host)\n" +
				"ORDER BY (toStartOfHour(ts), host, src_ip, dst_ip, proto, src_port, dst_port, ts)"},
		{name: rollupTable, doc: "flows summed by minute, addresses and service", columns: rollupColumns(), window: window, ttl: "ts",
			engine: "ENGINE = SummingMergeTree((" + strings.Join(append(append([]string{}, rollupSums...), "records"), ", ") + "))\nPARTITION BY toDate(ts)\n" +
				"PRIMARY KEY (toStartOfHour(ts), host)\nORDER BY (toStartOfHour(ts), host, src_ip, dst_ip, proto, service_port, iface, direction, vlan, ts)"},
		{name: rollupView, query: rollupQuery(db)},
		{name: ledgerTable, doc: "what became of every packet: one row for each host, interface and interval", columns: ledgerColumns(), window: window,
			engine: "ENGINE = MergeTree\nPARTITION BY toYYYYMM(ts)\nORDER BY (ts, host, iface)"},
	}
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

// create returns the statement that creates t in db. A ttl of 0 keeps rows for ever.
func (t *tableDef) create(db string, ttl time.Duration) string {
	name := quote(db) + "." + quote(t.name)
	if t.query != "" {
		return fmt.Sprintf("CREATE MATERIALIZED VIEW IF NOT EXISTS %s TO %s.%s AS\n%s", name, quote(db), quote(rollupTable), t.query)
	}
	var sb strings.Builder
	fmt.Fprintf(&sb, "CREATE TABLE IF NOT EXISTS %s\n(\n", name)
	for i, c := range t.columns {
		if i > 0 {
			sb.WriteString(",\n")
		}
		sb.WriteString("    " + c.definition())
	}
	for _, ix := range t.indexes {
		sb.WriteString(",\n    " + ix)
	}
	sb.WriteString("\n)\n" + t.engine)
	if t.ttl != "" && ttl > 0 {
		fmt.Fprintf(&sb, "\nTTL %s + toIntervalSecond(%d)", t.ttl, int64(ttl/time.Second))
	}
	if t.window > 0 {
		fmt.Fprintf(&sb, "\nSETTINGS non_replicated_deduplication_window = %d", t.window)
	}
	if t.doc != "" {
		sb.WriteString("\nCOMMENT " + literal(t.doc))
	}
	return sb.String()
}

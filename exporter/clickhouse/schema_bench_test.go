package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/capture/pcap"
	"weir/flows"
)

// conversation is what a capture holds of one flow: a record for each interval.
type conversation struct {
	start   int64 // of the first interval
	records []flows.Record
	starts  []int64 // of the records' intervals
}

const interval = 10 * time.Second

// conversations reads the flows of a capture.
func conversations(b *testing.B, path string) (out []*conversation) {
	b.Helper()
	r, err := pcap.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	clock := flows.NewClock(interval)
	tracker := flows.NewTracker(flows.TrackerConfig{Idle: time.Minute, Active: 30 * time.Minute, Max: 1 << 16})
	meter := flows.NewMeter(flows.NewDecoder(nil), flows.NewTable(1<<16))
	open := map[flows.Key]*conversation{}
	flush := func(final bool) {
		table, _ := meter.Rotate(flows.NewTable(1 << 16))
		start, end := clock.Next()
		tracker.Flush(table, end, final, func(r *flows.Record) {
			c := open[r.Key]
			if c == nil || c.records[0].Start != r.Start {
				c = &conversation{start: start}
				open[r.Key] = c
				out = append(out, c)
			}
			c.records, c.starts = append(c.records, *r), append(c.starts, start)
		})
	}
	for {
		packets, err := r.NextBatch()
		if err != nil {
			if damaged := new(pcap.DamagedError); !errors.Is(err, io.EOF) && !errors.As(err, &damaged) {
				b.Fatal(err)
			}
			break
		}
		for len(packets) > 0 {
			n := clock.Take(packets)
			if n == 0 {
				flush(false)
			}
			meter.Add(packets[:n])
			packets = packets[n:]
		}
	}
	flush(true)
	return out
}

// benchDay is a day of four hosts, made of the flows of real captures: two that serve and
// are clients themselves, and two that others send through. Each flow keeps its
// course, ports of services, flags and end; its time, its addresses, its ephemeral port and
// how much it carries are drawn. Few peers have most flows (Zipf).
func benchDay(b *testing.B, rows int) (batches []*flows.Batch) {
	b.Helper()
	paths, err := filepath.Glob("../../testdata/*.pcap*")
	if err != nil {
		b.Fatal(err)
	}
	if more := os.Getenv("WEIR_BENCH_CAPTURES"); more != "" {
		others, err := filepath.Glob(more)
		if err != nil {
			b.Fatal(err)
		}
		paths = append(paths, others...)
	}
	var all []*conversation
	for _, p := range paths {
		if !strings.HasSuffix(p, ".gz") && !strings.HasSuffix(p, ".zst") {
			all = append(all, conversations(b, p)...)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	peers := rand.NewZipf(r, 1.1, 4, 20_000)
	inside := rand.NewZipf(r, 1.2, 8, 500)
	outside := func(n uint64, six bool) netip.Addr {
		if six {
			return netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, byte(n >> 8), byte(n), 7: byte(n * 31), 15: byte(n*7 + 1)})
		}
		h := uint32(n) * 2654435761 // spread over the address space
		return netip.AddrFrom4([4]byte{1 + byte(h>>24)%222, byte(h >> 16), byte(h >> 8), byte(h)})
	}
	const intervals = int(24 * time.Hour / interval)
	slots := make([][]flows.Record, 4*intervals)
	for n := 0; n < rows; {
		c := all[r.IntN(len(all))]
		host := r.IntN(4)
		six := c.records[0].Key.Src().Is6()
		own := netip.AddrFrom4([4]byte{10, 0, byte(host), 1})
		if host >= 2 {
			own = netip.AddrFrom4([4]byte{10, 1, byte(host), byte(inside.Uint64())})
		}
		if six {
			a := own.As4()
			own = netip.AddrFrom16([16]byte{0xfd, 0, 13: a[1], 14: a[2], 15: a[3]})
		}
		src, dst := own, outside(peers.Uint64(), six)
		direction := flows.DirectionOut
		if r.IntN(3) == 0 {
			src, dst, direction = dst, src, flows.DirectionIn
		}
		if host >= 2 {
			direction = flows.DirectionIn
		}
		at := int(float64(intervals) * (r.Float64() + r.Float64()) / 2) // most at noon
		first := day.UnixNano() + int64(at)*int64(interval)
		within := r.Int64N(int64(interval))
		ephemeral := uint16(32768 + r.IntN(28232))
		factor := 0.5 + r.Float64()
		for i, record := range c.records {
			slot := at + int((c.starts[i]-c.start)/int64(interval))
			if slot >= intervals {
				break
			}
			port := record.Key.SrcPort()
			if port >= 1024 {
				port = ephemeral
			}
			record.Key = flows.NewKey(src, dst, port, record.Key.DstPort(), record.Key.VLAN(), record.Key.Proto(), direction)
			for _, counters := range []*flows.Counters{&record.Forward, &record.Reverse} {
				if counters.Packets > 3 {
					mean := counters.Octets / counters.Packets
					counters.Packets = max(uint64(float64(counters.Packets)*factor), 1)
					counters.Octets = counters.Packets*mean + r.Uint64N(mean/4+1)
				} else if counters.Octets > 100 && record.Key.Proto() == 17 {
					counters.Octets += r.Uint64N(counters.Octets / 2) // names differ in length
				}
			}
			// Each record lies somewhere in its interval; only the first may move.
			length := record.Last - record.First
			if i == 0 {
				record.First = first + min(within, int64(interval)-1-min(length, int64(interval)-1))
				record.Start = record.First
			} else {
				record.First += first - c.start
				record.Start = slots[host*intervals+at][len(slots[host*intervals+at])-1].Start
			}
			record.Last = record.First + length*int64(1000*factor)/1000
			slots[host*intervals+slot] = append(slots[host*intervals+slot], record)
			n++
			if i == 0 && slot != at {
				b.Fatal("the first record is not in the first interval")
			}
		}
	}
	for i := range intervals {
		for host := range 4 {
			start := day.Add(time.Duration(i) * interval)
			batches = append(batches, &flows.Batch{Host: fmt.Sprintf("host%d.example.net", host), Interface: "eth0",
				Start: start.UnixNano(), End: start.Add(interval).UnixNano(), Records: slots[host*intervals+i]})
		}
	}
	return batches
}

// benchQueries are the usual questions. %s is the table, %[2]s an address.
var benchQueries = []struct{ name, sql string }{
	{"talkers", "SELECT src_ip, dst_ip, sum(bytes + reverse_bytes) AS n FROM %[1]s WHERE ts >= '2026-01-02 12:00:00' AND ts < '2026-01-02 13:00:00' GROUP BY ALL ORDER BY n DESC LIMIT 10"},
	{"series", "SELECT toStartOfInterval(ts, toIntervalMinute(5)) AS m, proto, sum(bytes + reverse_bytes) FROM %[1]s WHERE ts >= '2026-01-02 00:00:00' AND ts < '2026-01-03 00:00:00' GROUP BY ALL ORDER BY ALL"},
	{"host", "SELECT dst_ip, sum(bytes) AS n FROM %[1]s WHERE host = 'host1.example.net' AND ts >= '2026-01-02 12:00:00' AND ts < '2026-01-02 13:00:00' GROUP BY ALL ORDER BY n DESC LIMIT 10"},
	{"scan", "SELECT src_ip, uniq(dst_ip, dst_port) AS n FROM %[1]s WHERE proto = 6 AND ts >= '2026-01-02 12:00:00' AND ts < '2026-01-02 13:00:00' GROUP BY ALL ORDER BY n DESC LIMIT 10"},
	{"peer", "SELECT host, count(), sum(bytes + reverse_bytes) FROM %[1]s WHERE (src_ip = '%[2]s' OR dst_ip = '%[2]s') AND ts >= '2026-01-02 00:00:00' AND ts < '2026-01-03 00:00:00' GROUP BY ALL ORDER BY ALL"},
}

// order is flows' keys, other ones.
func order(primary, by string) string {
	return "PARTITION BY toDate(ts)\nPRIMARY KEY (" + primary + ")\nORDER BY (" + by + ")"
}

// recode gives a column another codec.
func recode(codec string, names ...string) func(*tableDef) {
	return func(t *tableDef) {
		t.columns = append([]columnDef{}, t.columns...)
		for i := range t.columns {
			for _, n := range names {
				if t.columns[i].name == n {
					t.columns[i].codec = codec
				}
			}
		}
	}
}

// benchVariants are other schemas of flows.
var benchVariants = []struct {
	name   string
	change func(*tableDef)
}{
	{"as-it-is", func(*tableDef) {}},
	{"order=pair,src_port", func(t *tableDef) {
		t.keys = order("toStartOfHour(ts), host", "toStartOfHour(ts), host, src_ip, dst_ip, proto, src_port, dst_port, ts")
	}},
	{"order=pair,dst_port", func(t *tableDef) {
		t.keys = order("toStartOfHour(ts), host", "toStartOfHour(ts), host, src_ip, dst_ip, proto, dst_port, src_port, ts")
	}},
	{"order=proto,dst_port,addresses", func(t *tableDef) {
		t.keys = order("toStartOfHour(ts), host", "toStartOfHour(ts), host, proto, dst_port, src_ip, dst_ip, src_port, ts")
	}},
	{"order=dst,src", func(t *tableDef) {
		t.keys = order("toStartOfHour(ts), host", "toStartOfHour(ts), host, dst_ip, src_ip, proto, dst_port, src_port, ts")
	}},
	{"order=pair,dst_port,ts", func(t *tableDef) {
		t.keys = order("toStartOfHour(ts), host", "toStartOfHour(ts), host, src_ip, dst_ip, proto, dst_port, ts")
	}},
	{"order=direction,pair,dst_port", func(t *tableDef) {
		t.keys = order("toStartOfHour(ts), host", "toStartOfHour(ts), host, direction, src_ip, dst_ip, proto, dst_port, src_port, ts")
	}},
	{"order=addresses-then-host", func(t *tableDef) {
		t.keys = order("toStartOfHour(ts)", "toStartOfHour(ts), src_ip, dst_ip, proto, src_port, dst_port, host, ts")
	}},
	{"order=by-time", func(t *tableDef) { t.keys = order("ts, host", "ts, host, src_ip, dst_ip") }},
	{"order=proto,dst_port,dst,src", func(t *tableDef) {
		t.keys = order("toStartOfHour(ts), host", "toStartOfHour(ts), host, proto, dst_port, dst_ip, src_ip, src_port, ts")
	}},
	{"order=direction,proto,dst_port,addresses", func(t *tableDef) {
		t.keys = order("toStartOfHour(ts), host", "toStartOfHour(ts), host, direction, proto, dst_port, src_ip, dst_ip, src_port, ts")
	}},
	{"order=proto,dst_port,addresses,ts", func(t *tableDef) {
		t.keys = order("toStartOfHour(ts), host", "toStartOfHour(ts), host, proto, dst_port, src_ip, dst_ip, ts")
	}},
	{"order=dst_port,addresses,proto", func(t *tableDef) {
		t.keys = order("toStartOfHour(ts), host", "toStartOfHour(ts), host, dst_port, src_ip, dst_ip, proto, src_port, ts")
	}},
	{"order=dst,proto,dst_port,src", func(t *tableDef) {
		t.keys = order("toStartOfHour(ts), host", "toStartOfHour(ts), host, dst_ip, proto, dst_port, src_ip, src_port, ts")
	}},
	{"primary=hour,host,proto,dst_port", func(t *tableDef) {
		t.keys = order("toStartOfHour(ts), host, proto, dst_port", "toStartOfHour(ts), host, proto, dst_port, src_ip, dst_ip, src_port, ts")
	}},
	{"bucket=10min", func(t *tableDef) {
		t.keys = order("toStartOfTenMinutes(ts), host", "toStartOfTenMinutes(ts), host, src_ip, proto, dst_port, dst_ip, src_port, ts")
	}},
	{"bucket=day", func(t *tableDef) {
		t.keys = order("toDate(ts), host", "toDate(ts), host, src_ip, proto, dst_port, dst_ip, src_port, ts")
	}},
	{"primary=hour,host,src_ip", func(t *tableDef) {
		t.keys = order("toStartOfHour(ts), host, src_ip", "toStartOfHour(ts), host, src_ip, proto, dst_port, dst_ip, src_port, ts")
	}},
	{"index=none", func(t *tableDef) { t.indexes = nil }},
	{"index=bloom-granularity-4", func(t *tableDef) {
		t.indexes = []string{"INDEX ix_src src_ip TYPE bloom_filter(0.01) GRANULARITY 4", "INDEX ix_dst dst_ip TYPE bloom_filter(0.01) GRANULARITY 4"}
	}},
	{"index=bloom-0.05", func(t *tableDef) {
		t.indexes = []string{"INDEX ix_src src_ip TYPE bloom_filter(0.05) GRANULARITY 1", "INDEX ix_dst dst_ip TYPE bloom_filter(0.05) GRANULARITY 1"}
	}},
	{"index=minmax-src", func(t *tableDef) {
		t.indexes = []string{"INDEX ix_src src_ip TYPE minmax GRANULARITY 1", "INDEX ix_dst dst_ip TYPE bloom_filter(0.025) GRANULARITY 1"}
	}},
	{"index=minmax-src,codec=ts-T64", func(t *tableDef) {
		t.indexes = []string{"INDEX ix_src src_ip TYPE minmax GRANULARITY 1", "INDEX ix_dst dst_ip TYPE bloom_filter(0.01) GRANULARITY 1"}
		recode("T64, ZSTD(1)", "ts")(t)
	}},
	{"codec=LZ4", func(t *tableDef) {
		for _, c := range flowsColumns() {
			if c.codec != "" {
				recode("LZ4", c.name)(t)
			}
		}
	}},
	{"codec=ZSTD3", func(t *tableDef) {
		for _, c := range flowsColumns() {
			if c.codec != "" {
				recode(strings.Replace(c.codec, "ZSTD(1)", "ZSTD(3)", 1), c.name)(t)
			}
		}
	}},
	{"codec=no-T64", recode("ZSTD(1)", "packets", "bytes", "reverse_packets", "reverse_bytes", "first_ms", "dur_ms")},
	{"codec=T64-bytes-only", recode("ZSTD(1)", "packets", "reverse_packets")},
	{"codec=ts-Delta", recode("Delta, ZSTD(1)", "ts")},
	{"codec=ts-T64", recode("T64, ZSTD(1)", "ts")},
	{"codec=ports-Delta", recode("Delta, ZSTD(1)", "src_port", "dst_port")},
	{"codec=ports-T64", recode("T64, ZSTD(1)", "src_port")},
	{"codec=start-T64", recode("T64, ZSTD(1)", "start_ms")},
	{"codec=dur-plain", recode("ZSTD(1)", "dur_ms")},
	{"codec=first-plain", recode("ZSTD(1)", "first_ms")},
	{"codec=first-T64-bit", recode("T64('bit'), ZSTD(1)", "first_ms")},
	{"codec=T64-bit", recode("T64('bit'), ZSTD(1)", "packets", "bytes", "reverse_packets", "reverse_bytes")},
}

// BenchmarkSchema fills variants of flows with a day of two million rows and asks each the usual
// questions: octets a row on disk, and the least milliseconds that a question took. WEIR_BENCH_CAPTURES is a
// pattern of more captures to take flows from.
func BenchmarkSchema(b *testing.B) {
	const rows = 2_000_000
	o := applied(b)
	o.Timeout = 10 * time.Minute
	a := dial(b, o)
	defer a.close()
	s := newSink(b, o, SinkOptions{})
	for _, batch := range benchDay(b, rows) {
		if err := s.Write(context.Background(), batch); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
	// A peer in the middle of the ranking.
	peer := a.one(b, "argMin(dst_ip, abs(n - 200))", "(SELECT dst_ip, count() AS n FROM "+a.table(flowsTable)+" GROUP BY dst_ip)")
	var stored []string
	for _, c := range flowsColumns() {
		if c.alias == "" {
			stored = append(stored, c.name)
		}
	}
	for i, v := range benchVariants {
		b.Run(v.name, func(b *testing.B) {
			l := layout{db: o.Database}
			t := l.flows()
			t.name, t.spread = fmt.Sprintf("variant_%d", i), false
			v.change(&t)
			a.run(b, l.create(&t))
			name, list := a.table(t.name), strings.Join(stored, ", ")
			a.run(b, "INSERT INTO "+name+" ("+list+") SELECT "+list+" FROM "+a.table(flowsTable))
			a.run(b, "OPTIMIZE TABLE "+name+" FINAL")
			measure(b, a, t.name, peer)
			a.run(b, "DROP TABLE "+name+" SYNC")
		})
	}
}

func measure(b *testing.B, a admin, name, peer string) {
	least := make([]time.Duration, len(benchQueries)) // what else runs on the machine only adds
	for b.Loop() {
		for i, q := range benchQueries {
			began := time.Now()
			a.run(b, fmt.Sprintf(q.sql, a.table(name), peer)+" FORMAT Null")
			if took := time.Since(began); least[i] == 0 || took < least[i] {
				least[i] = took
			}
		}
	}
	for i, q := range benchQueries {
		b.ReportMetric(float64(least[i].Microseconds())/1000, q.name+"-ms")
	}
	ctx, cancel := a.deadline(context.Background())
	defer cancel()
	var size float64
	err := a.conn.QueryRow(withParameters(ctx, map[string]string{"db": a.Database, "t": name}),
		"SELECT sum(bytes_on_disk) / sum(rows) FROM system.parts WHERE active AND database = {db:String} AND table = {t:String}").Scan(&size)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(size, "B/row")
	b.ReportMetric(0, "ns/op")
	if testing.Verbose() {
		b.Log(a.one(b, "arrayStringConcat(groupArray(concat(name, ' ', toString(round(n, 2)))), ', ')",
			"(SELECT name, sum(data_compressed_bytes) / "+a.one(b, "count()", a.table(name))+" AS n FROM system.columns WHERE database = '"+a.Database+"' AND table = '"+name+"' GROUP BY name ORDER BY n DESC)"))
	}
}

package clickhouse

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"weir/exporter/clickhouse/local/localtest"
	"weir/exporter/spool"
	"weir/flows"
)

// What docs/scaling.md stands on. Figures are of CPU, which what else runs on the machine
// changes little: of a query by its own account, of processes by the kernel's.

var scalingTables = []string{flowsTable, minuteTable, hourTable, ledgerTable}

// number returns the only value of a query.
func (a admin) number(b *testing.B, expr, from string) float64 {
	b.Helper()
	n, err := strconv.ParseFloat(a.one(b, "toFloat64("+expr+")", from), 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// since is the inserts of the database that began at a time, as query_log has them.
func (a admin) since(began time.Time) string {
	return fmt.Sprintf("system.query_log WHERE type = 'QueryFinish' AND query_kind = 'Insert' AND has(databases, '%s') AND query_start_time_microseconds >= fromUnixTimestamp64Micro(%d)",
		a.Database, began.UnixMicro())
}

const queryCPU = "ProfileEvents['OSCPUVirtualTimeMicroseconds']"

// into picks the inserts into a table out of since.
func (a admin) into(table string) string {
	return fmt.Sprintf(" AND startsWith(query, 'INSERT INTO %s')", strings.ReplaceAll(a.table(table), "'", "\\'"))
}

// queryParts is the blocks that an insert has written, each a new part, to its table and to
// those that views fill.
const queryParts = "ProfileEvents['MergeTreeDataWriterBlocks']"

// serverCPU returns what the server has spent in all its life.
func serverCPU(b *testing.B) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", localtest.Start(b).PID))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var ticks int64
	for _, f := range fields[11:13] { // utime, stime: proc_pid_stat(5)
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ
}

// serverMemory returns the server's anonymous memory, in octets.
func serverMemory(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", localtest.Start(b).PID))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); f[0] == "RssAnon:" {
			kib, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib * 1024
		}
	}
	b.Fatal("no RssAnon")
	return 0
}

// scalingBatch is a flush of a host with n records and its ledger. Few of its records share
// a row of a roll-up.
func scalingBatch(n int, start time.Time) *flows.Batch {
	batch := batchOf(start, records(n, start, uint64(n)))
	batch.Ledger = &flows.Ledger{Packets: uint64(20 * n), Metered: uint64(20*n) - 7, Octets: uint64(9000 * n), Records: uint64(n)}
	batch.Ledger.Causes[flows.Verdict(1)] = 7
	return batch
}

// forward gives a batch to a forwarder and waits until it has been acknowledged.
func forward(b *testing.B, f *Forwarder, batch *flows.Batch) {
	b.Helper()
	flushBatch(b, f, batch)
	acknowledged(f)
}

func acknowledged(f *Forwarder) {
	for f.Stats().Spool.Flushes > 0 {
		time.Sleep(200 * time.Microsecond)
	}
}

// BenchmarkInsertSize sends flushes of one host, one by one, as an agent does: through a
// spool on disk, roll-ups and ledger included. Server figures are medians of a flush.
//
//	go test ./exporter/clickhouse -run xxx -bench InsertSize -benchtime 50x
func BenchmarkInsertSize(b *testing.B) {
	for _, rows := range []int{10, 100, 500, 1000, 5000, 10_000, 100_000, spool.InsertRows} {
		b.Run(fmt.Sprintf("rows_%d", rows), func(b *testing.B) {
			o := applied(b)
			f := newForwarder(b, o, spoolAt(b, spool.Options{Folder: b.TempDir()}), ForwarderOptions{})
			batch := scalingBatch(rows, day)
			forward(b, f, batch) // connected
			a := dial(b, o)
			defer a.close()
			began, spent := time.Now(), cpuTime(b)
			var walls []time.Duration
			for b.Loop() {
				at := time.Now()
				forward(b, f, batch)
				walls = append(walls, time.Since(at))
			}
			spent = cpuTime(b) - spent
			a.run(b, "SYSTEM FLUSH LOGS")
			report := func(name string, v float64) { b.ReportMetric(v, name) }
			rowsInto, ledgerInto := a.since(began)+a.into(flowsTable), a.since(began)+a.into(ledgerTable)
			report("flows-ms", a.number(b, "quantile(0.5)("+queryCPU+") / 1000", rowsInto))
			report("ledger-ms", a.number(b, "quantile(0.5)("+queryCPU+") / 1000", ledgerInto))
			report("wire-B/row", a.number(b, "(quantile(0.5)(ProfileEvents['NetworkReceiveBytes']) + "+
				strconv.FormatFloat(a.number(b, "quantile(0.5)(ProfileEvents['NetworkReceiveBytes'])", ledgerInto), 'f', 0, 64)+")", rowsInto)/float64(rows))
			report("client-ms", spent.Seconds()*1000/float64(b.N))
			slices.Sort(walls)
			report("wall-ms", walls[len(walls)/2].Seconds()*1000)
			report("flows-parts", a.number(b, "avg("+queryParts+")", rowsInto))
			report("ledger-parts", a.number(b, "avg("+queryParts+")", ledgerInto))
			report("ns/op", 0)
			closeForwarder(b, f)
		})
	}
}

// BenchmarkMerges has the server under a steady load, and waits until nothing is merged any
// more. What the server spends besides its queries and its idle work is for merges and for clearing up after
// them. merged/row is how many rows merges have read for one that was inserted, in all tables.
//
//	go test ./exporter/clickhouse -run xxx -bench Merges -benchtime 1x -timeout 20m
func BenchmarkMerges(b *testing.B) {
	const seconds = 60
	for _, load := range []struct{ rows, perSecond int }{{100, 50}, {500, 10}, {5000, 2}, {50_000, 1}} {
		b.Run(fmt.Sprintf("rows_%d/a_second_%d", load.rows, load.perSecond), func(b *testing.B) {
			o := applied(b)
			f := newForwarder(b, o, spoolAt(b, spool.Options{Folder: b.TempDir()}), ForwarderOptions{})
			a := dial(b, o)
			defer a.close()
			// Ten hosts and a minute of intervals, over and over.
			var batches []*flows.Batch
			for i := range 60 {
				batch := scalingBatch(load.rows, day.Add(time.Duration(i/10)*10*time.Second))
				batch.Host = fmt.Sprintf("h%d", i%10)
				batches = append(batches, batch)
			}
			forward(b, f, batches[0])
			settle(b, a)
			idle, at := serverCPU(b), time.Now()
			time.Sleep(10 * time.Second)
			rate := float64(serverCPU(b)-idle) / float64(time.Since(at))
			for b.Loop() {
				merged := a.number(b, "sumIf(value, event = 'MergedRows')", "system.events")
				cpu, began := serverCPU(b), time.Now()
				n := seconds * load.perSecond
				for i := range n {
					time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(load.perSecond))))
					forward(b, f, batches[i%len(batches)])
				}
				inserting := time.Since(began)
				most := a.number(b, "max(n)", fmt.Sprintf("(SELECT count() AS n FROM system.parts WHERE active AND database = '%s' GROUP BY table, partition)", a.Database))
				settle(b, a)
				spent := (serverCPU(b) - cpu).Seconds() - rate*time.Since(began).Seconds()
				a.run(b, "SYSTEM FLUSH LOGS")
				queries := a.number(b, "sum("+queryCPU+") / 1e6", a.since(began))
				mrows := float64(n*load.rows) / 1e6
				b.ReportMetric(queries/mrows, "queries-s/Mrow")
				b.ReportMetric((spent-queries)/mrows, "merges-s/Mrow")
				b.ReportMetric((spent-queries)*1000/float64(n), "merges-ms/flush")
				b.ReportMetric((a.number(b, "sumIf(value, event = 'MergedRows')", "system.events")-merged)/mrows/1e6, "merged/row")
				b.ReportMetric(most, "parts")
				b.ReportMetric(float64(n)/inserting.Seconds(), "flushes/s")
				b.ReportMetric(rate*100, "idle-%")
			}
			b.ReportMetric(0, "ns/op")
			closeForwarder(b, f)
		})
	}
}

// settle waits until the server has merged nothing for two seconds, at most half a minute.
func settle(b *testing.B, a admin) {
	b.Helper()
	for quiet, end := time.Now(), time.Now().Add(30*time.Second); time.Since(quiet) < 2*time.Second && time.Now().Before(end); {
		if a.number(b, "count()", "system.merges") > 0 {
			quiet = time.Now()
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// BenchmarkDisk fills the tables with a day of four hosts, made of the flows of testdata's
// captures, and says what a record takes in each table: as inserted and merged.
//
//	go test ./exporter/clickhouse -run xxx -bench Disk -benchtime 1x
func BenchmarkDisk(b *testing.B) {
	for _, rows := range []int{500_000, 2_000_000, 5_000_000} {
		b.Run(fmt.Sprintf("flush_%d", rows/4/8640), func(b *testing.B) {
			o := applied(b)
			o.Timeout = 10 * time.Minute
			a := dial(b, o)
			defer a.close()
			for b.Loop() {
				s := newSink(b, o, SinkOptions{Version: "v1"})
				total := 0
				for i, batch := range benchDay(b, rows) {
					n := uint64(len(batch.Records))
					total += len(batch.Records)
					l := &flows.Ledger{Records: n}
					for j := range batch.Records {
						r := &batch.Records[j]
						l.Metered += r.Forward.Packets + r.Reverse.Packets
						l.Octets += r.Forward.Octets + r.Reverse.Octets
					}
					l.Packets = l.Metered + uint64(i%7)
					l.Causes[flows.Verdict(1)] = uint64(i % 7)
					l.NIC.PacketsIn, l.NIC.PacketsOut, l.NIC.OctetsIn, l.NIC.OctetsOut = l.Packets/2, l.Packets-l.Packets/2, l.Octets/3, l.Octets-l.Octets/3
					batch.Ledger = l
					if err := s.Write(b.Context(), batch); err != nil {
						b.Fatal(err)
					}
				}
				if err := s.Close(b.Context()); err != nil {
					b.Fatal(err)
				}
				for _, merged := range []bool{false, true} {
					for _, t := range scalingTables {
						name, of := t, float64(total)
						if t == ledgerTable {
							of = 4 * 8640
						}
						if merged {
							a.run(b, "OPTIMIZE TABLE "+a.table(t)+" FINAL")
							name += "-merged"
						}
						size := a.number(b, "sum(bytes_on_disk)", fmt.Sprintf("system.parts WHERE active AND database = '%s' AND table = '%s'", o.Database, t))
						b.ReportMetric(size/of, name+"-B")
						if merged && t != ledgerTable && t != flowsTable {
							b.ReportMetric(a.number(b, "count()", a.table(t))/of, t+"-rows/row")
						}
					}
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkWindow inserts into tables whose deduplication window is full, of blocks that are
// like those of inserts, written to the tables' logs.
//
//	go test ./exporter/clickhouse -run xxx -bench Window -benchtime 100x
func BenchmarkWindow(b *testing.B) {
	for _, blocks := range []int{1000, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("blocks_%d", blocks), func(b *testing.B) {
			o := applied(b)
			f := newForwarder(b, o, spoolAt(b, spool.Options{Folder: b.TempDir()}), ForwarderOptions{})
			batch := scalingBatch(500, day)
			forward(b, f, batch)
			a := dial(b, o)
			defer a.close()
			before := serverMemory(b)
			for _, t := range scalingTables {
				a.run(b, fmt.Sprintf("ALTER TABLE %s MODIFY SETTING non_replicated_deduplication_window = %d", a.table(t), blocks))
				fillWindow(b, a, t, blocks)
			}
			memory := serverMemory(b) - before
			began := time.Now()
			var walls []time.Duration
			for b.Loop() {
				at := time.Now()
				forward(b, f, batch)
				walls = append(walls, time.Since(at))
			}
			slices.Sort(walls)
			a.run(b, "SYSTEM FLUSH LOGS")
			b.ReportMetric(a.number(b, "quantile(0.5)("+queryCPU+") / 1000", a.since(began)+a.into(flowsTable)), "flows-ms")
			b.ReportMetric(a.number(b, "quantile(0.5)("+queryCPU+") / 1000", a.since(began)+a.into(ledgerTable)), "ledger-ms")
			b.ReportMetric(walls[len(walls)/2].Seconds()*1000, "wall-ms")
			b.ReportMetric(memory/(1<<20), "MiB")
			b.ReportMetric(0, "ns/op")
			closeForwarder(b, f)
		})
	}
}

// fillWindow makes a table remember blocks that were never inserted.
func fillWindow(b *testing.B, a admin, table string, blocks int) {
	b.Helper()
	path := a.one(b, "data_paths[1]", fmt.Sprintf("system.tables WHERE database = '%s' AND name = '%s'", a.Database, table))
	if !filepath.IsAbs(path) {
		path = filepath.Join(localtest.Start(b).DataDir, path)
	}
	a.run(b, "DETACH TABLE "+a.table(table)+" SYNC")
	var logs []string
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), "deduplication_log_") {
			logs = append(logs, p)
		}
		return err
	})
	if err != nil || len(logs) == 0 {
		b.Fatalf("no deduplication log in %s: %v", path, err)
	}
	slices.SortFunc(logs, func(x, y string) int { return cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y)) })
	l, err := os.OpenFile(logs[len(logs)-1], os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		b.Fatal(err)
	}
	var text strings.Builder
	for i := range blocks {
		fmt.Fprintf(&text, "1\t20260101_%d_%d_0\t20260101_%020d_%020d\n", i+1, i+1, uint64(i)*0x9e3779b97f4a7c15, uint64(i)*0xbf58476d1ce4e5b9)
	}
	if _, err := l.WriteString(text.String()); err != nil {
		b.Fatal(err)
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	a.run(b, "ATTACH TABLE "+a.table(table))
}

// BenchmarkConnections has agents stay connected that send nothing: what one takes of the
// server's memory.
//
//	go test ./exporter/clickhouse -run xxx -bench Connections -benchtime 1x
func BenchmarkConnections(b *testing.B) {
	const n = 100 // the local server takes 256
	o := applied(b)
	for b.Loop() {
		before, idle := serverMemory(b), serverThreads(b)
		for range n {
			a := dial(b, o)
			defer a.close()
			a.one(b, "1", "system.one")
		}
		b.ReportMetric((serverMemory(b)-before)/1024/n, "KiB/connection")
		b.ReportMetric((serverThreads(b)-idle)/n, "threads/connection")
		a := dial(b, o)
		defer a.close()
		b.ReportMetric((a.number(b, "value", "system.metrics WHERE metric = 'TCPConnection'")-1)/n, "connections")
	}
	b.ReportMetric(0, "ns/op")
}

func serverThreads(b *testing.B) float64 {
	b.Helper()
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", localtest.Start(b).PID))
	if err != nil {
		b.Fatal(err)
	}
	return float64(len(threads))
}

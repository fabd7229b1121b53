package clickhouse

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/column"

	"weir/flows"
)

// manyBatches makes batches of 100k flows each, ten seconds apart.
func manyBatches(n int) []*flows.Batch {
	var out []*flows.Batch
	for i := range n {
		start := day.Add(time.Duration(i) * 10 * time.Second)
		out = append(out, batchOf(start, records(100_000, start, uint64(i))))
	}
	return out
}

func benchmarkInsert(b *testing.B, prepare func(admin)) {
	o := applied(b)
	a := dial(b, o)
	prepare(a)
	if err := a.close(); err != nil {
		b.Fatal(err)
	}
	batches := manyBatches(10)
	s := newSink(b, o, SinkOptions{})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	rows, began := 0, time.Now()
	for b.Loop() {
		for _, batch := range batches {
			if err := s.Write(context.Background(), batch); err != nil {
				b.Fatal(err)
			}
			rows += len(batch.Records)
		}
		if err := s.Flush(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	runtime.ReadMemStats(&after)
	if err := s.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
	// What the server's threads took, which does not depend on what else runs.
	a = dial(b, o)
	defer a.close()
	a.run(b, "SYSTEM FLUSH LOGS")
	micros, err := strconv.ParseFloat(a.one(b, "sum(ProfileEvents['OSCPUVirtualTimeMicroseconds'])",
		fmt.Sprintf("system.query_log WHERE type = 'QueryFinish' AND query_kind = 'Insert' AND has(databases, '%s') AND query_start_time_microseconds >= fromUnixTimestamp64Micro(%d)",
			o.Database, began.UnixMicro())), 64)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(micros/float64(rows), "server-µs/row")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(rows), "allocs/row")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(rows), "B/row")
}

// To a table that throws everything away: the client, the wire, the server's decoder.
func BenchmarkInsertNull(b *testing.B) { benchmarkInsert(b, intoNull(b)) }

func intoNull(b *testing.B) func(admin) {
	return func(a admin) {
		withoutViews(b, a)
		a.run(b, "DROP TABLE "+a.table(flowsTable)+" SYNC")
		l := layout{db: a.Database}
		t := l.flows()
		t.family, t.keys, t.indexes, t.spread = "Null", "", nil, false
		a.run(b, l.create(&t))
	}
}

// withoutViews has nothing fill the roll-ups, and the sink not find out.
func withoutViews(b *testing.B, a admin, views ...string) {
	b.Helper()
	if len(views) == 0 {
		views = []string{minuteView, hourView}
	}
	for _, v := range views {
		a.run(b, "DROP VIEW "+a.table(v)+" SYNC")
		a.run(b, fmt.Sprintf("CREATE MATERIALIZED VIEW %s ENGINE = Null AS SELECT 1 AS x FROM %s WHERE 0", a.table(v), a.table(ledgerTable)))
	}
}

// To flows, without a roll-up, with the one by minute, with both.
func BenchmarkInsertFlows(b *testing.B) {
	benchmarkInsert(b, func(a admin) { withoutViews(b, a) })
}

func BenchmarkInsertFlowsAndMinutes(b *testing.B) {
	benchmarkInsert(b, func(a admin) { withoutViews(b, a, hourView) })
}

func BenchmarkInsertFlowsAndRollups(b *testing.B) { benchmarkInsert(b, func(admin) {}) }

// The roll-up by hour fed from that by minute.
func BenchmarkInsertCascade(b *testing.B) {
	benchmarkInsert(b, func(a admin) { cascade(b, a) })
}

// cascade has the view of hours read the minutes.
func cascade(t testing.TB, a admin) {
	t.Helper()
	l := layout{db: a.Database}
	a.run(t, "DROP VIEW "+a.table(hourView)+" SYNC")
	a.run(t, fmt.Sprintf("CREATE MATERIALIZED VIEW %s TO %s AS %s FROM %s AS f GROUP BY ALL", a.table(hourView), a.table(hourTable),
		rollupQuery("toStartOfHour", "f.service_port", "sum(f.records)"), l.full(minuteTable)))
}

// What the client does alone: records to columns, hash.
func BenchmarkColumns(b *testing.B) {
	batch := manyBatches(1)[0]
	r := newRows()
	b.ReportAllocs()
	var sum uint64
	for b.Loop() {
		r.reset()
		r.append(batch, batch.Records, len(batch.Records))
		sum += r.sum()
	}
	b.ReportMetric(float64(b.N*len(batch.Records))/b.Elapsed().Seconds(), "rows/s")
}

// driverColumns returns the driver's columns of flows, empty.
func driverColumns(b *testing.B, r *rows) []column.Interface {
	b.Helper()
	types := map[string]string{"batch": "UInt64"}
	for i := range r.columns {
		types[r.columns[i].Name] = r.columns[i].typ
	}
	var cs []column.Interface
	for _, name := range r.names() {
		c, err := column.Type(types[name]).Column(name, &column.ServerContext{Timezone: time.UTC})
		if err != nil {
			b.Fatal(err)
		}
		cs = append(cs, c)
	}
	return cs
}

// Two ways into the driver's columns: the native format, and typed slices.
func BenchmarkDriver(b *testing.B) {
	batch := batchOf(day, records(blockRows, day, 1))
	r := newRows()
	r.append(batch, batch.Records, blockRows)
	b.Run("native", func(b *testing.B) {
		cs := driverColumns(b, r)
		for b.Loop() {
			for _, c := range cs {
				c.Reset()
			}
			if err := r.fill(cs, 0, r.n, 1); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/blockRows, "ns/row")
	})
	b.Run("append", func(b *testing.B) {
		cs := driverColumns(b, r)
		slices := map[column.Type]any{
			"UInt8": make([]uint8, blockRows), "UInt16": make([]uint16, blockRows), "UInt32": make([]uint32, blockRows),
			"UInt64": make([]uint64, blockRows), "Int64": make([]int64, blockRows), "IPv6": make([][16]byte, blockRows),
			"DateTime('UTC')": make([]int64, blockRows), "LowCardinality(String)": make([]string, blockRows),
		}
		for b.Loop() {
			for _, c := range cs {
				c.Reset()
				values, ok := slices[c.Type()]
				if !ok {
					values = make([]int8, blockRows) // an enum
				}
				if _, err := c.Append(values); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/blockRows, "ns/row")
	})
}

package clickhouse

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"weir/exporter/spool"
)

// benchmarkForward sends flushes of 100,000 records, from the records to the
// acknowledgement, through a spool. cpu-s/Mrow is what this process spends, the server's
// part not included.
func benchmarkForward(b *testing.B, folder string, prepare func(admin)) {
	o := applied(b)
	a := dial(b, o)
	prepare(a)
	if err := a.close(); err != nil {
		b.Fatal(err)
	}
	batches := manyBatches(10)
	f := newForwarder(b, o, spoolAt(b, spool.Options{Folder: folder, Memory: 1 << 30}), ForwarderOptions{})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := cpuTime(b)
	rows := 0
	for b.Loop() {
		for _, batch := range batches {
			flushBatch(b, f, batch)
			rows += len(batch.Records)
		}
		for f.Stats().Spool.Flushes > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	b.StopTimer()
	spent := cpuTime(b) - began
	runtime.ReadMemStats(&after)
	closeForwarder(b, f)
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(spent.Seconds()/float64(rows)*1e6, "cpu-s/Mrow")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(rows), "allocs/row")
	b.ReportMetric(0, "ns/op")
}

// cpuTime returns what this process has spent.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkForward(b *testing.B) {
	for name, prepare := range map[string]func(admin){"Null": intoNull(b), "MergeTree": func(a admin) { withoutViews(b, a) }, "MergeTreeAndRollups": func(admin) {}} {
		for _, disk := range []bool{true, false} {
			where, folder := "memory", ""
			if disk {
				where, folder = "spool", b.TempDir()
			}
			b.Run(fmt.Sprintf("%s/%s", name, where), func(b *testing.B) { benchmarkForward(b, folder, prepare) })
		}
	}
}

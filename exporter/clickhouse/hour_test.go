package clickhouse

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"weir/exporter/spool"
	"weir/flows"
)

// TestHourOfOutage has a server away for an hour in which each interval of 10 s makes
// 100,000 records; the hour is the records', not the test's. The spool takes them in a
// size that is told, memory stays flat, and what waits is sent in order, faster than new
// records would come.
func TestHourOfOutage(t *testing.T) {
	const flushes, each = 360, 100_000
	o := applied(t)
	way := newBreaker(t, o.Addr[0])
	way.cuts.Store(1 << 30) // every connection, at its first octet
	through := o
	through.Addr = []string{way.Addr().String()}
	f := newForwarder(t, through, spoolAt(t, spool.Options{Folder: t.TempDir(), MaxBytes: 2 << 30}), ForwarderOptions{})
	rs := records(each, day, 1)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse
	}
	var least, most uint64
	began := time.Now()
	for i := range flushes {
		start := day.Add(time.Duration(i) * 10 * time.Second)
		b := batchOf(start, rs)
		for j := range rs {
			first := start.UnixNano() + rs[j].First%10e9
			rs[j].First, rs[j].Last, rs[j].Start = first, first+1e9, first
		}
		b.Ledger = &flows.Ledger{Packets: each, Metered: each, Records: each}
		flushBatch(t, f, b)
		if i%60 == 59 {
			h := heap()
			if least == 0 {
				least, most = h, h
			}
			least, most = min(least, h), max(most, h)
		}
	}
	took := time.Since(began)
	s := f.Stats()
	if s.Spool.Records != flushes*each || s.Acknowledged != 0 || s.Spool.InMemory != 0 || s.Err == nil {
		t.Fatalf("%+v", s)
	}
	t.Logf("%d records in %v: %d MB on disk, %.1f octets a record; heap %d to %d MB", s.Spool.Records, took.Round(time.Millisecond),
		s.Spool.Bytes>>20, float64(s.Spool.Bytes)/float64(s.Spool.Records), least>>20, most>>20)
	if s.Spool.Bytes > flushes*each*40 {
		t.Errorf("%d octets on disk", s.Spool.Bytes)
	}
	if most-least > 16<<20 {
		t.Errorf("the heap grew from %d to %d MB", least>>20, most>>20)
	}

	way.cuts.Store(0)
	a := dial(t, o)
	defer a.close()
	began = time.Now()
	for last := 0; ; {
		waiting := f.Stats().Spool.Records
		// At any moment what is there is the beginning: batches are sent in order.
		if got := a.one(t, "max(sequence) = uniqExact(sequence)", a.table(ledgerTable)); got != "1" && got != "true" {
			t.Errorf("out of order: %s", got)
		}
		if waiting == 0 {
			break
		}
		if last > 0 && waiting > last {
			t.Errorf("%d records wait, after %d", waiting, last)
		}
		if last = waiting; time.Since(began) > 5*time.Minute {
			t.Fatalf("%d records still wait", waiting)
		}
		if h := heap(); h > most+64<<20 {
			t.Errorf("the heap is %d MB while it sends", h>>20)
		}
		time.Sleep(200 * time.Millisecond)
	}
	took = time.Since(began)
	rate := float64(flushes*each) / took.Seconds()
	t.Logf("sent in %v: %.0f records a second, %.0f times what comes", took.Round(time.Millisecond), rate, rate/(each/10))
	if rate < each/10 {
		t.Errorf("%.0f records a second are less than come", rate)
	}
	closeForwarder(t, f)
	if got, want := a.one(t, "(count(), uniqExact(batch) < 360)", a.table(flowsTable)), fmt.Sprintf("(%d,1)", flushes*each); got != want {
		t.Errorf("flows have %s, want %s", got, want)
	}
	for _, rollup := range []string{minuteTable, hourTable} {
		if got := a.one(t, "sum(records)", a.table(rollup)); got != fmt.Sprint(flushes*each) {
			t.Errorf("%s has %s records", rollup, got)
		}
	}
	if got := a.one(t, "(count(), sum(records), max(sequence))", a.table(ledgerTable)); got != fmt.Sprintf("(%d,%d,%d)", flushes, flushes*each, flushes) {
		t.Errorf("the ledger has %s", got)
	}
}

package clickhouse

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/exporter/spool"
	"weir/flows"
)

// spoolAt opens a spool.
func spoolAt(t testing.TB, o spool.Options) *spool.Spool {
	t.Helper()
	s, err := spool.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newForwarder(t testing.TB, o Options, sp *spool.Spool, fo ForwarderOptions) *Forwarder {
	t.Helper()
	f, err := NewForwarder(o, sp, fo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.stop)
	return f
}

// flush writes n records of the i-th interval, with their ledger, and flushes.
func flush(t testing.TB, f *Forwarder, i, n int) {
	t.Helper()
	start := day.Add(time.Duration(i) * 10 * time.Second)
	b := batchOf(start, records(n, start, uint64(i)))
	b.Ledger = &flows.Ledger{Packets: uint64(n), Metered: uint64(n), Records: uint64(n)}
	b.Ledger.Causes[flows.Verdict(1)] = 7
	flushBatch(t, f, b)
}

// flushBatch writes a batch and flushes.
func flushBatch(t testing.TB, f *Forwarder, b *flows.Batch) {
	t.Helper()
	if err := f.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := f.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func closeForwarder(t testing.TB, f *Forwarder) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if err := f.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// logged is a logger whose text can be read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// exactly checks that all records of intervals 0 to n-1, of each each, are there once,
// in flows, in the roll-up and by the ledger, which has no gap in its numbers.
func exactly(t testing.TB, o Options, n, each int) {
	t.Helper()
	a := dial(t, o)
	defer a.close()
	rows := n * each
	if got, want := a.one(t, "(count(), uniqExact(ts, src_ip, dst_ip, src_port, first_ms, dur_ms, packets, bytes))", a.table(flowsTable)), fmt.Sprintf("(%d,%d)", rows, rows); got != want {
		t.Errorf("flows have %s, want %s", got, want)
	}
	for _, rollup := range []string{minuteTable, hourTable} {
		if got := a.one(t, "sum(records)", a.table(rollup)); got != fmt.Sprint(rows) {
			t.Errorf("%s has %s records, want %d", rollup, got, rows)
		}
	}
	if got, want := a.one(t, "(count(), uniqExact(ts), sum(records), uniqExact(spool), uniqExact(sequence), max(sequence) - min(sequence) + 1, sum(lost))", a.table(ledgerTable)),
		fmt.Sprintf("(%d,%d,%d,1,%d,%d,0)", n, n, rows, n, n); got != want {
		t.Errorf("the ledger has %s, want %s", got, want)
	}
	from := fmt.Sprintf("(SELECT ts, batch, count() AS n FROM %s GROUP BY ts, batch) AS f FULL JOIN %s AS l USING (ts, batch)", a.table(flowsTable), a.table(ledgerTable))
	if got := a.one(t, "countIf(f.n != l.records)", from); got != "0" {
		t.Errorf("%s intervals differ between flows and the ledger", got)
	}
}

func TestForwarder(t *testing.T) {
	for _, folder := range []string{"", "spool"} {
		t.Run("folder_"+folder, func(t *testing.T) {
			o := applied(t)
			if folder != "" {
				folder = filepath.Join(t.TempDir(), folder)
			}
			f := newForwarder(t, o, spoolAt(t, spool.Options{Folder: folder}), ForwarderOptions{Version: "v1", Run: day, BootID: "boot"})
			for i := range 5 {
				flush(t, f, i, 1000)
			}
			flush(t, f, 5, 100_000) // more than a block
			flush(t, f, 8640, 0)    // the day after
			closeForwarder(t, f)
			if s := f.Stats(); s.Acknowledged != 105_000 || s.Err != nil || s.Spool.Records != 0 || s.Spool.Bytes != 0 || s.Spool.Memory != 0 {
				t.Errorf("%+v", s)
			}
			a := dial(t, o)
			defer a.close()
			if got := a.one(t, "count()", a.table(flowsTable)); got != "105000" {
				t.Errorf("%s rows", got)
			}
			if got, want := a.one(t, "groupArray((sequence, records, lost, lost_reason, version, run, boot_id, interval_ms, length(not_ip), spool != 0))", "(SELECT * FROM "+a.table(ledgerTable)+" WHERE records IN (1000, 0) ORDER BY sequence DESC LIMIT 2)"),
				"[(7,0,0,'none','v1','2026-01-02 00:00:00.000','boot',10000,1,1),(5,1000,0,'none','v1','2026-01-02 00:00:00.000','boot',10000,1,1)]"; got != want {
				t.Errorf("have %s\nwant %s", got, want)
			}
		})
	}
}

// Nobody waits for a server that is away: what is flushed is on disk, and the next process
// sends it, in order and once.
func TestForwarderWithoutServer(t *testing.T) {
	o := applied(t)
	nowhere := o
	nowhere.Addr = []string{"127.0.0.1:1"}
	dir := t.TempDir()
	said := &logged{}
	f := newForwarder(t, nowhere, spoolAt(t, spool.Options{Folder: dir}), ForwarderOptions{Log: said.logger()})
	for i := range 10 {
		flush(t, f, i, 1000)
	}
	closeForwarder(t, f)
	if s := f.Stats(); s.Spool.Records != 10_000 || s.Err == nil || s.Since.IsZero() {
		t.Errorf("%+v", s)
	}
	if text := said.String(); !strings.Contains(text, "connection refused") || !strings.Contains(text, "until it succeeds") || !strings.Contains(text, "they are sent when the agent runs again") {
		t.Errorf("said\n%s", text)
	}
	f = newForwarder(t, o, spoolAt(t, spool.Options{Folder: dir}), ForwarderOptions{})
	for i := range 10 {
		flush(t, f, 10+i, 1000)
	}
	closeForwarder(t, f)
	exactly(t, o, 20, 1000)
}

// A spool that is copied, with an image of its host perhaps, is sent by both and counts
// once; what they make after that counts for each.
func TestForwarderCopiedSpool(t *testing.T) {
	o := applied(t)
	nowhere := o
	nowhere.Addr = []string{"127.0.0.1:1"}
	dir, copied := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	f := newForwarder(t, nowhere, spoolAt(t, spool.Options{Folder: dir}), ForwarderOptions{})
	for i := range 3 {
		flush(t, f, i, 1000)
	}
	closeForwarder(t, f)
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{dir, copied} {
		closeForwarder(t, newForwarder(t, o, spoolAt(t, spool.Options{Folder: folder}), ForwarderOptions{}))
	}
	exactly(t, o, 3, 1000)
	for _, folder := range []string{dir, copied} {
		f := newForwarder(t, o, spoolAt(t, spool.Options{Folder: folder}), ForwarderOptions{})
		flush(t, f, 3, 1000) // the same records, as it happens
		closeForwarder(t, f)
	}
	a := dial(t, o)
	defer a.close()
	if got := a.one(t, "count()", a.table(flowsTable)); got != "5000" {
		t.Errorf("%s rows", got)
	}
}

// In memory alone it is lost if the server does not come before the end, and the error
// says how much.
func TestForwarderInMemory(t *testing.T) {
	o := applied(t)
	o.Addr = []string{"127.0.0.1:1"}
	f := newForwarder(t, o, spoolAt(t, spool.Options{}), ForwarderOptions{})
	flush(t, f, 0, 1000)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := f.Close(ctx); err == nil || !strings.Contains(err.Error(), "1000 records were in memory alone and are lost") {
		t.Errorf("%v", err)
	}
}

// A file that holds what no program of ours has written is set aside, though its
// checksums are right; what is kept of it reaches the ledger.
func TestHostileSpool(t *testing.T) {
	o := applied(t)
	for i, spoil := range []func(*spool.Block){
		func(b *spool.Block) { b.Table = "flows FORMAT Null --" },
		func(b *spool.Block) { b.Columns[3].Name = "x) VALUES (1" },
		func(b *spool.Block) { b.Columns[3].Type = "Array(String)" },
		func(b *spool.Block) { b.Columns[1].Head[8] = 0xff },
		func(b *spool.Block) { b.Columns[1].Data[1] = 0xff },
		func(b *spool.Block) { b.Columns[3].Data[0] = 200 }, // direction
		func(b *spool.Block) { b.Columns = append(b.Columns, b.Columns[0]) },
	} {
		dir := t.TempDir()
		sp := spoolAt(t, spool.Options{Folder: dir})
		r := newRows()
		r.append(batchOf(day, records(10, day, 1)), records(10, day, 1), 10)
		b := r.block(new(spool.Block))
		spoil(b)
		var fl spool.Flush
		l := ledgerRow{host: "h1", ts: uint32(day.Unix()) + uint32(i)*10, Ledger: flows.Ledger{Records: 10}}
		for _, b := range []*spool.Block{b, ledgerBlock([]ledgerRow{l}, origin{})} {
			if err := fl.Add(b); err != nil {
				t.Fatal(err)
			}
		}
		if err := sp.Put(t.Context(), &fl); err != nil {
			t.Fatal(err)
		}
		f := newForwarder(t, o, sp, ForwarderOptions{})
		flush(t, f, 1000+i, 10)
		closeForwarder(t, f)
		if s := f.Stats(); s.Spool.Aside != 1 || s.Acknowledged != 10 || s.Spool.Flushes != 0 {
			t.Errorf("%d: %+v", i, s)
		}
	}
	a := dial(t, o)
	defer a.close()
	if got := a.one(t, "(count(), sum(records), sum(lost), countIf(lost_reason = 'corrupt'))", a.table(ledgerTable)); got != "(14,140,70,7)" {
		t.Errorf("%s", got)
	}
	if got := a.one(t, "count()", a.table(flowsTable)); got != "70" {
		t.Errorf("%s rows", got)
	}
}

package spool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// flushOf makes a flush of rows numbered from first, and of one kept row that says how
// many they are.
func flushOf(t testing.TB, first, rows int, part uint32) *Flush {
	t.Helper()
	f := new(Flush)
	for n := 0; n < rows; n += 100 {
		b := &Block{Table: "rows", Part: part, Rows: min(100, rows-n), Columns: []Column{
			{Name: "number", Type: "UInt64", Width: 8}, {Name: "name", Type: "String", Width: 2, Head: []byte("dictionary")},
		}}
		for i := range b.Rows {
			b.Columns[0].Data = binary.LittleEndian.AppendUint64(b.Columns[0].Data, uint64(first+n+i))
			b.Columns[1].Data = append(b.Columns[1].Data, byte(i%3), 0)
		}
		if err := f.Add(b); err != nil {
			t.Fatal(err)
		}
	}
	kept := &Block{Table: "ledger", Kept: true, Rows: 1, Columns: []Column{{Name: "rows", Type: "Text", Head: fmt.Appendf(nil, "%d+%d", first, rows)}}}
	if err := f.Add(kept); err != nil {
		t.Fatal(err)
	}
	return f
}

func put(t testing.TB, s *Spool, first, rows int) {
	t.Helper()
	if err := s.Put(t.Context(), flushOf(t, first, rows, 0)); err != nil {
		t.Fatal(err)
	}
}

func openSpool(t testing.TB, o Options) *Spool {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// sent is what a server would have got of an insert.
type sent struct {
	token string
	rows  []uint64
	kept  []string // with the number and the reason of their flushes
}

func read(t testing.TB, b *Batch) (all []sent) {
	t.Helper()
	for i := range b.Inserts {
		got := sent{token: b.Inserts[i].Token}
		n := 0
		for block, err := range b.Inserts[i].Blocks() {
			if err != nil {
				t.Fatal(err)
			}
			n += block.Rows
			if block.Table == "ballast" {
				continue
			}
			if block.Kept {
				got.kept = append(got.kept, fmt.Sprintf("%s #%d %v", block.Columns[0].Head, block.Sequence, block.Reason))
				continue
			}
			if string(block.Columns[1].Head) != "dictionary" || len(block.Columns[1].Data) != 2*block.Rows {
				t.Errorf("column %+v", block.Columns[1])
			}
			for d := block.Columns[0].Data; len(d) > 0; d = d[8:] {
				got.rows = append(got.rows, binary.LittleEndian.Uint64(d))
			}
		}
		if n != b.Inserts[i].Rows {
			t.Errorf("insert %s has %d rows and says %d", got.token, n, b.Inserts[i].Rows)
		}
		all = append(all, got)
	}
	return all
}

func take(t testing.TB, s *Spool) *Batch {
	t.Helper()
	b, err := s.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func numbers(first, n int) (all []uint64) {
	for i := range n {
		all = append(all, uint64(first+i))
	}
	return all
}

// tokens without the random number of the process.
func tail(token string) string { _, rest, _ := strings.Cut(token, "/"); return rest }

func TestThroughMemoryAndDisk(t *testing.T) {
	for _, dir := range []string{"", filepath.Join(t.TempDir(), "new", "spool")} {
		s := openSpool(t, Options{Folder: dir})
		put(t, s, 0, 250)
		b := take(t, s)
		got := read(t, b)
		if len(got) != 2 || tail(got[0].token) != "1/rows/0" || !slices.Equal(got[0].rows, numbers(0, 250)) ||
			tail(got[1].token) != "1/ledger/0" || !slices.Equal(got[1].kept, []string{"0+250 #1 none"}) {
			t.Errorf("%q: %+v", dir, got)
		}
		if again := read(t, b); fmt.Sprint(again) != fmt.Sprint(got) {
			t.Errorf("read again: %+v", again)
		}
		if st := s.Stats(); st.Records != 250 || st.Batches != 1 || st.Flushes != 1 || (st.InMemory == 1) != (dir == "") || (st.Bytes > 0) != (dir != "") {
			t.Errorf("%+v", st)
		}
		s.Done(b)
		if st := s.Stats(); st.Records != 0 || st.Batches != 0 || st.Bytes != 0 || st.Memory != 0 || st.Sent != 1 {
			t.Errorf("%+v", st)
		}
		s.Finish()
		if _, err := s.Take(t.Context()); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Flushes that wait for an earlier batch become one, up to a number of rows, and so do
// those that come within an age.
func TestFlushesAreMerged(t *testing.T) {
	s := openSpool(t, Options{Folder: t.TempDir(), BatchRows: 1000})
	put(t, s, 0, 10)
	first := take(t, s)
	for i := range 5 {
		put(t, s, 1000*(1+i), 300)
	}
	s.Done(first)
	second := take(t, s)
	got := read(t, second)
	want := slices.Concat(numbers(1000, 300), numbers(2000, 300), numbers(3000, 300))
	if len(got) != 2 || tail(got[0].token) != "2/rows/0" || !slices.Equal(got[0].rows, want) || len(got[1].kept) != 3 {
		t.Errorf("%+v", got)
	}
	s.Finish()
	third := read(t, take(t, s))
	if tail(third[0].token) != "5/rows/0" || len(third[0].rows) != 600 {
		t.Errorf("%+v", third)
	}
}

func TestBatchAge(t *testing.T) {
	now := time.Unix(1000, 0)
	s := openSpool(t, Options{Folder: t.TempDir(), BatchAge: time.Minute, now: func() time.Time { return now }})
	put(t, s, 0, 10)
	now = now.Add(59 * time.Second)
	put(t, s, 10, 10)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if b, err := s.Take(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v, %v", b, err)
	}
	now = now.Add(time.Second)
	if got := read(t, take(t, s)); !slices.Equal(got[0].rows, numbers(0, 20)) {
		t.Errorf("%+v", got)
	}
}

// An insert holds rows of one part, and not more than InsertRows.
func TestInsertsArePartedByPart(t *testing.T) {
	s := openSpool(t, Options{Folder: t.TempDir(), BatchAge: time.Hour})
	for i, part := range []uint32{7, 7, 8, 7} {
		if err := s.Put(t.Context(), flushOf(t, 100*i, 100, part)); err != nil {
			t.Fatal(err)
		}
	}
	s.Finish()
	got := read(t, take(t, s))
	var tokens []string
	for _, i := range got {
		tokens = append(tokens, tail(i.token))
	}
	if !slices.Equal(tokens, []string{"1/rows/0", "1/rows/1", "1/rows/2", "1/ledger/0"}) || !slices.Equal(got[0].rows, numbers(0, 200)) {
		t.Errorf("%v %+v", tokens, got)
	}
}

func TestLargeFlushHasManyInserts(t *testing.T) {
	s := openSpool(t, Options{Folder: t.TempDir()})
	f := new(Flush)
	block := &Block{Table: "rows", Rows: MaxRows, Columns: []Column{{Name: "n", Type: "UInt8", Width: 1, Data: make([]byte, MaxRows)}}}
	for range 9 {
		if err := f.Add(block); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Put(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	var rows []int
	for _, i := range take(t, s).Inserts {
		rows = append(rows, i.Rows)
	}
	if !slices.Equal(rows, []int{InsertRows, InsertRows, MaxRows}) {
		t.Errorf("%v", rows)
	}
}

// After a crash the batches are what they were, and new flushes are not added to them.
func TestFoundAgain(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, Options{Folder: dir})
	put(t, s, 0, 10)
	done := take(t, s)
	put(t, s, 10, 10)
	put(t, s, 20, 10)
	s.Done(done)
	before := read(t, take(t, s)) // and the process ends
	put(t, s, 30, 10)
	id := s.ID()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = openSpool(t, Options{Folder: dir})
	if s.ID() != id {
		t.Errorf("spool %x became %x", id, s.ID())
	}
	put(t, s, 40, 10)
	s.Finish()
	var seen []uint64
	for i := range 3 {
		b := take(t, s)
		got := read(t, b)
		if i == 0 && fmt.Sprint(got) != fmt.Sprint(before) {
			t.Errorf("%+v became %+v", before, got)
		}
		if last := "40+10 #5 none"; i == 2 && got[1].kept[0] != last {
			t.Errorf("kept %v, want %s", got[1].kept, last)
		}
		seen = append(seen, got[0].rows...)
		s.Done(b)
	}
	if !slices.Equal(seen, numbers(10, 40)) {
		t.Errorf("%v", seen)
	}
	s.Close()
	// Numbers go on although no file is left.
	s = openSpool(t, Options{Folder: dir})
	put(t, s, 0, 1)
	if got := read(t, take(t, s)); got[1].kept[0] != "0+1 #6 none" {
		t.Errorf("%v", got)
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "*")); len(names) != 5 { // aside id lock 5.last 6.flush
		t.Errorf("%v", names)
	}
}

func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, Options{Folder: dir})
	if _, err := Open(Options{Folder: dir}); !errors.Is(err, errLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("%v", err)
	}
	s.Close()
	openSpool(t, Options{Folder: dir})
}

func TestReturnedBatchIsTakenAgain(t *testing.T) {
	s := openSpool(t, Options{Folder: t.TempDir()})
	put(t, s, 0, 10)
	b := take(t, s)
	before := read(t, b)
	s.Return(b)
	put(t, s, 10, 10)
	if got := read(t, take(t, s)); fmt.Sprint(got) != fmt.Sprint(before) {
		t.Errorf("%+v became %+v", before, got)
	}
}

func TestFilesAreTheOwnersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	put(t, openSpool(t, Options{Folder: dir}), 0, 10)
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

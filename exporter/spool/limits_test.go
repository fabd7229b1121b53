package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// drain takes all there is.
func drain(t testing.TB, s *Spool) (rows []uint64, kept []string) {
	t.Helper()
	s.Finish()
	for {
		b, err := s.Take(t.Context())
		if err == io.EOF {
			return rows, kept
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range read(t, b) {
			rows, kept = append(rows, got.rows...), append(kept, got.kept...)
		}
		s.Done(b)
	}
}

// A flush of these tests takes one page of 4 KiB.
const page4k = 4096

// What is given up keeps its row in the ledger, with the reason.
func TestFullSpool(t *testing.T) {
	for _, c := range []struct {
		policy Policy
		rows   []uint64
		kept   []string
	}{
		{Oldest, slices.Concat(numbers(30, 20)), []string{"0+10 #1 full", "10+10 #2 full", "20+10 #3 full", "30+10 #4 none", "40+10 #5 none"}},
		{Newest, slices.Concat(numbers(0, 30)), []string{"0+10 #1 none", "10+10 #2 none", "20+10 #3 none", "30+10 #4 full", "40+10 #5 full"}},
	} {
		big := func(first int) *Flush { // of two pages, of which one is kept at most
			f := flushOf(t, first, 10, 0)
			b := &Block{Table: "ballast", Rows: 0, Columns: []Column{{Name: "x", Type: "Text", Head: make([]byte, page4k)}}}
			if err := f.Add(b); err != nil {
				t.Fatal(err)
			}
			return f
		}
		s := openSpool(t, Options{Folder: t.TempDir(), MaxBytes: 7 * page4k, Full: c.policy})
		for i := range 5 {
			if err := s.Put(t.Context(), big(10*i)); err != nil {
				t.Fatal(err)
			}
			if st := s.Stats(); st.Bytes > 7*page4k && c.policy == Oldest {
				t.Errorf("%d octets", st.Bytes)
			}
		}
		if st := s.Stats(); st.GivenUp[Full] != uint64(50-len(c.rows)) {
			t.Errorf("%+v", st)
		}
		rows, kept := drain(t, s)
		if !slices.Equal(rows, c.rows) || !slices.Equal(kept, c.kept) {
			t.Errorf("policy %d: %v, %q", c.policy, rows, kept)
		}
	}
}

// Where not even what is kept has room, the oldest of it goes.
func TestFullOfWhatIsKept(t *testing.T) {
	s := openSpool(t, Options{Folder: t.TempDir(), MaxBytes: 3 * page4k})
	for i := range 10 {
		put(t, s, 10*i, 10)
	}
	if st := s.Stats(); st.Bytes > 3*page4k || st.Forgotten == 0 {
		t.Errorf("%+v", st)
	}
	rows, kept := drain(t, s)
	if last := "90+10 #10 none"; len(kept) > 3 || kept[len(kept)-1] != last || !slices.Equal(rows[len(rows)-10:], numbers(90, 10)) {
		t.Errorf("%v %q", rows, kept)
	}
}

func TestFullSpoolWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, Options{Folder: "memory", disk: newMemDisk(), MaxBytes: 2 * page4k, Full: Wait})
		put(t, s, 0, 10)
		put(t, s, 10, 10)
		done := make(chan error, 1)
		go func() { done <- s.Put(t.Context(), flushOf(t, 20, 10, 0)) }()
		synctest.Wait()
		if len(done) > 0 {
			t.Fatal("it did not wait")
		}
		s.Done(take(t, s))
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		put(t, s, 30, 10)
		time.AfterFunc(time.Minute, func() { cancel(errDisk) })
		if err := s.Put(ctx, flushOf(t, 40, 10, 0)); !errors.Is(err, errDisk) {
			t.Errorf("%v", err)
		}
		if rows, _ := drain(t, s); !slices.Equal(rows, numbers(20, 20)) {
			t.Errorf("%v", rows)
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, Options{Memory: 1000})
		if err := s.Put(t.Context(), flushOf(t, 0, 1000, 0)); err != nil { // larger, but alone
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.Put(t.Context(), flushOf(t, 1000, 10, 0)) }()
		synctest.Wait()
		if len(done) > 0 {
			t.Fatal("it did not wait")
		}
		b := take(t, s)
		if got := read(t, b); len(got[0].rows) != 1000 {
			t.Errorf("%+v", got)
		}
		s.Done(b)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err == nil || err.Error() != "10 records were in memory alone and are lost" {
			t.Errorf("%v", err)
		}
	})
}

func TestAge(t *testing.T) {
	now := time.Unix(1e9, 0)
	o := Options{Folder: t.TempDir(), MaxAge: time.Hour, now: func() time.Time { return now }}
	s := openSpool(t, o)
	put(t, s, 0, 10)
	now = now.Add(30 * time.Minute)
	put(t, s, 10, 10)
	now = now.Add(31 * time.Minute)
	put(t, s, 20, 10)
	if rows, kept := drain(t, s); !slices.Equal(rows, numbers(10, 20)) || !slices.Equal(kept, []string{"0+10 #1 age", "10+10 #2 none", "20+10 #3 none"}) {
		t.Errorf("%v %q", rows, kept)
	}
}

// A batch that somebody is sending is not given up.
func TestWhatIsBeingSentStays(t *testing.T) {
	s := openSpool(t, Options{Folder: t.TempDir(), MaxBytes: 2 * page4k})
	put(t, s, 0, 10)
	b := take(t, s)
	for i := range 4 {
		put(t, s, 10+10*i, 10)
	}
	if got := read(t, b); !slices.Equal(got[0].rows, numbers(0, 10)) {
		t.Errorf("%+v", got)
	}
}

// Octets that change on the disk, in any place, cost the flush that they are in and no
// other; it is set aside.
func TestChangedOctets(t *testing.T) {
	d := newMemDisk()
	s := openSpool(t, Options{disk: d, Folder: "memory"})
	for i := range 3 {
		put(t, s, 100*i, 100)
	}
	s.Close()
	length := len(d.names[flushName(2)].data)
	for at := range length {
		for _, damage := range []func([]byte) []byte{
			func(p []byte) []byte { p[at] ^= 0x10; return p },
			func(p []byte) []byte { return p[:at] },
			func(p []byte) []byte { return append(p, make([]byte, 1+at)...) },
		} {
			d := d.after(false, true, nil)
			file := d.names[flushName(2)]
			file.data = damage(slices.Clone(file.data))
			s := openSpool(t, Options{disk: d, Folder: "memory"})
			rows, kept := drain(t, s)
			if !slices.Equal(rows, slices.Concat(numbers(0, 100), numbers(200, 100))) {
				t.Fatalf("octet %d: %v", at, rows)
			}
			if n := len(kept); n < 2 || n > 3 || n == 3 && kept[1] != "100+100 #2 corrupt" {
				t.Fatalf("octet %d: %q", at, kept)
			}
			if st := s.Stats(); st.Aside != 1 || st.SetAside != 1 || d.names["aside/"+name(2, ".corrupt")] == nil || st.Err != nil {
				t.Fatalf("octet %d: %+v", at, st)
			}
			s.Close()
			d.locked = false
			if s := openSpool(t, Options{disk: d, Folder: "memory"}); s.Stats().Aside != 1 || s.next != 4 {
				t.Fatalf("octet %d: %+v, next %d", at, s.Stats(), s.next)
			}
		}
	}
}

// The same while the process runs: what is on disk is looked at before it is sent.
func TestDamageWhileItWaits(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, Options{Folder: dir, BatchAge: time.Hour})
	for i := range 4 {
		put(t, s, 100*i, 100)
	}
	file := func(n uint64) string { return filepath.Join(dir, flushName(n)) }
	text, err := os.ReadFile(file(2))
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)-20] ^= 1
	for _, err := range []error{os.WriteFile(file(2), text, 0o600), os.Truncate(file(3), 30), os.Remove(file(4))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if rows, kept := drain(t, s); !slices.Equal(rows, numbers(0, 100)) || len(kept) != 1 && len(kept) != 2 {
		t.Errorf("%v %q", rows, kept)
	}
	if st := s.Stats(); st.GivenUp[Corrupt] != 300 || st.Aside != 2 || st.Records != 0 {
		t.Errorf("%+v", st)
	}
}

func TestRefusedBatchIsSetAside(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		s := openSpool(t, Options{Folder: dir, BatchAge: time.Hour})
		for i, part := range []uint32{1, 2} {
			if err := s.Put(t.Context(), flushOf(t, 10*i, 10, part)); err != nil {
				t.Fatal(err)
			}
		}
		s.Finish()
		b := take(t, s)
		s.SetAside(b, &b.Inserts[0], Refused)
		b = take(t, s)
		got := fmt.Sprint(read(t, b)[1].kept, read(t, b)[0].rows, tail(b.Inserts[0].Token))
		if want := fmt.Sprint([]string{"0+10 #1 refused", "10+10 #2 none"}, numbers(10, 10), "1/rows/1"); got != want {
			t.Errorf("have %s, want %s", got, want)
		}
		s.SetAside(b, &b.Inserts[1], Refused) // what is kept is refused, too
		if _, err := s.Take(t.Context()); err != io.EOF {
			t.Errorf("%v", err)
		}
		if st := s.Stats(); st.GivenUp[Refused] != 20 && st.GivenUp[Refused] != 10 || (st.Aside > 0) != (dir != "") || st.Memory != 0 {
			t.Errorf("%+v", st)
		}
	}
}

// What is set aside makes room for what can be sent.
func TestAsideMakesRoom(t *testing.T) {
	s := openSpool(t, Options{Folder: t.TempDir(), MaxBytes: 4 * page4k})
	put(t, s, 0, 10)
	b := take(t, s)
	s.SetAside(b, &b.Inserts[0], Refused)
	for i := range 3 {
		put(t, s, 10*(i+1), 10)
	}
	if st := s.Stats(); st.Aside != 0 || st.GivenUp[Full] != 0 || st.Records != 30 {
		t.Errorf("%+v", st)
	}
}

// A flush that is larger than the spool is not waited for: no room will do.
func TestFlushLargerThanSpool(t *testing.T) {
	for _, policy := range []Policy{Oldest, Newest, Wait} {
		s := openSpool(t, Options{Folder: t.TempDir(), MaxBytes: 2 * page4k, Full: policy})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := s.Put(ctx, flushOf(t, 0, 20_000, 0)); err != nil {
			t.Fatal(err)
		}
		if rows, kept := drain(t, s); len(rows) != 0 || fmt.Sprint(kept) != "[0+20000 #1 full]" {
			t.Errorf("policy %d: %d rows, %q", policy, len(rows), kept)
		}
	}
}

// Flushes of few rows, or none, are no batch without end: what is in memory of one that is
// sent grows with them.
func TestBatchOfManyFlushes(t *testing.T) {
	s := openSpool(t, Options{Folder: "memory", disk: newMemDisk()})
	put(t, s, 0, 10)
	first := take(t, s)
	for range 2*1000 + 1 {
		put(t, s, 0, 0)
	}
	s.Done(first)
	if st := s.Stats(); st.Batches != 3 || st.Flushes != 2*maxFlushes+1 {
		t.Errorf("%d batches of %d flushes", st.Batches, st.Flushes)
	}
	if _, kept := drain(t, s); len(kept) != 2*maxFlushes+1 {
		t.Errorf("%d", len(kept))
	}
}

// A body that its checksum has right and its header wrong is one that cannot be sent, not
// one to be read again and again.
func TestBodyIsNotWhatTheHeaderSays(t *testing.T) {
	f := flushOf(t, 0, 10, 0)
	f.blocks[0].columns[0].head = 3
	s := openSpool(t, Options{Folder: t.TempDir()})
	if err := s.Put(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	b := take(t, s)
	for _, err := range b.Inserts[0].Blocks() {
		if !errors.Is(err, ErrContent) {
			t.Errorf("%v", err)
		}
	}
	s.SetAside(b, &b.Inserts[0], Corrupt)
	if rows, kept := drain(t, s); len(rows) != 0 || fmt.Sprint(kept) != "[0+10 #1 corrupt]" {
		t.Errorf("%v %q", rows, kept)
	}
}

// A file with a hole is long and holds nothing: it must not ask for memory.
func TestBodyIsBounded(t *testing.T) {
	text := appendHeader(nil, &header{blocks: []packed{{table: "t", length: maxBody + 1}}})
	if _, err := parseHeader(text[headLength : len(text)-sumLength]); err != errContent {
		t.Errorf("%v", err)
	}
}

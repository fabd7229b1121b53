package spool

import (
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"testing"
)

// failing has a disk fail at all operations of some kinds.
func failing(ops ...string) func(op, name string) error {
	return func(op, _ string) error {
		for _, o := range ops {
			if o == op {
				return errDisk
			}
		}
		return nil
	}
}

// The disk fails while what was sent is removed. It is removed once the disk works, or
// another process would send it again, when the server has forgotten its tokens.
func TestDiskFailsAtDone(t *testing.T) {
	for _, ops := range [][]string{{"remove"}, {"create"}, {"sync"}, {"create", "remove", "sync", "rename"}} {
		d := newMemDisk()
		s := openSpool(t, Options{disk: d, Folder: "memory"})
		put(t, s, 0, 10)
		put(t, s, 10, 10)
		b := take(t, s)
		d.fail = failing(ops...)
		s.Done(b)
		if st := s.Stats(); st.Err == nil || st.Records != 0 || st.Flushes != 0 {
			t.Errorf("%q: %+v", ops, st)
		}
		d.fail = nil
		put(t, s, 20, 10)
		if st := s.Stats(); st.Err != nil || st.Bytes != page4k {
			t.Errorf("%q: %+v", ops, st)
		}
		s.Close()
		s = openSpool(t, Options{disk: d, Folder: "memory"})
		if rows, kept := drain(t, s); len(rows) != 10 || fmt.Sprint(kept) != "[20+10 #3 none]" {
			t.Errorf("%q: %v %q", ops, rows, kept)
		}
	}
}

// Numbers do not come again although the disk has seen nothing of the flushes that had them.
func TestNumbersOfFlushesInMemory(t *testing.T) {
	d := newMemDisk()
	s := openSpool(t, Options{disk: d, Folder: "memory"})
	d.fail = failing("create")
	put(t, s, 0, 10)
	put(t, s, 10, 10)
	for range 2 {
		b := take(t, s)
		s.Done(b)
	}
	d.fail = nil
	put(t, s, 20, 10)
	s.Finish()
	s.Done(take(t, s))
	s.Close()
	s = openSpool(t, Options{disk: d, Folder: "memory"})
	put(t, s, 30, 10)
	if got := read(t, take(t, s)); fmt.Sprint(got[1].kept) != "[30+10 #4 none]" {
		t.Errorf("%q", got[1].kept)
	}
	// The same where all that was sent was in memory and the disk works again only then.
	s.Close()
	d = newMemDisk()
	s = openSpool(t, Options{disk: d, Folder: "memory"})
	put(t, s, 0, 10)
	b := take(t, s)
	d.fail = failing("create", "fsync")
	put(t, s, 10, 10)
	s.Done(b)
	d.fail = nil
	s.Done(take(t, s))
	s.Close()
	s = openSpool(t, Options{disk: d, Folder: "memory"})
	put(t, s, 20, 10)
	if got := read(t, take(t, s)); fmt.Sprint(got[1].kept) != "[20+10 #3 none]" {
		t.Errorf("%q", got[1].kept)
	}
}

// Many send at a time: what they have sent is gone, the number is right, and the disk is
// not said to fail.
func TestManyAreDone(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, Options{Folder: dir, BatchRows: 10})
	var senders sync.WaitGroup
	for range 4 {
		senders.Go(func() {
			for {
				b, err := s.Take(t.Context())
				if err == io.EOF {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				s.Done(b)
			}
		})
	}
	const n = 300
	for i := range n {
		put(t, s, 10*i, 10)
	}
	s.Finish()
	senders.Wait()
	if st := s.Stats(); st.Err != nil || st.Failures != 0 || st.Bytes != 0 || st.Sent == 0 {
		t.Fatalf("%+v", st)
	}
	if marks, _ := filepath.Glob(filepath.Join(dir, "*"+lastEnding)); len(marks) != 1 || filepath.Base(marks[0]) != name(n, lastEnding) {
		t.Errorf("the highest number is told by %q", marks)
	}
}

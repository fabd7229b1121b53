package spool

import (
	"fmt"
	"io"
	"slices"
	"testing"
)

// A flush of which an insert has many blocks is set aside once, rows and all, and what is
// kept of it stays; also when that is refused in the end, too.
func TestFlushOfManyBlocksIsSetAside(t *testing.T) {
	d := newMemDisk()
	s := openSpool(t, Options{disk: d, Folder: "memory"})
	put(t, s, 0, 250) // three blocks
	before := slices.Clone(d.names[flushName(1)].data)
	b := take(t, s)
	s.SetAside(b, &b.Inserts[0], Refused)
	s.Finish()
	b = take(t, s)
	if got := read(t, b); len(got) != 1 || fmt.Sprint(got[0].kept) != "[0+250 #1 refused]" {
		t.Errorf("%+v", got)
	}
	st := s.Stats()
	if st.GivenUp[Refused] != 250 || st.SetAside != 1 || st.Aside != 1 || st.Forgotten != 0 || st.Bytes != onDisk(int64(len(before)))+page4k {
		t.Errorf("%+v", st)
	}
	s.SetAside(b, &b.Inserts[0], Refused)
	if _, err := s.Take(t.Context()); err != io.EOF {
		t.Errorf("%v", err)
	}
	if i := d.names["aside/"+name(1, ".refused")]; i == nil || !slices.Equal(i.data, before) {
		t.Error("what was set aside is not what was put in")
	}
	if st := s.Stats(); st.Aside != 1 || st.Bytes != onDisk(int64(len(before))) || d.names[flushName(1)] != nil {
		t.Errorf("%+v", st)
	}
}

package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"weir/internal/lack"
)

// A disk that fails at any one kind of call: every flush waits, in memory, in order and
// once, and what was in memory is on disk once the disk works again.
func TestDiskFails(t *testing.T) {
	for _, op := range []string{"create", "write", "fsync", "rename", "sync"} {
		d := newMemDisk()
		var said bytes.Buffer
		s := openSpool(t, Options{disk: d, Folder: "memory", Log: slog.New(slog.NewTextHandler(&said, nil))})
		put(t, s, 0, 10)
		d.fail = func(o, _ string) error {
			if o == op {
				return errDisk
			}
			return nil
		}
		put(t, s, 10, 10)
		put(t, s, 20, 10)
		if st := s.Stats(); st.Err == nil || st.InMemory != 2 || st.Records != 30 || st.Failures == 0 || st.Memory == 0 {
			t.Errorf("%s: %+v", op, st)
		}
		d.fail = nil
		put(t, s, 30, 10)
		if st := s.Stats(); st.Err != nil || st.InMemory != 0 || st.Records != 40 || st.Memory != 0 {
			t.Errorf("%s, then well: %+v", op, st)
		}
		rows, kept := drain(t, s)
		if !slices.Equal(rows, numbers(0, 40)) || len(kept) != 4 {
			t.Errorf("%s: %v %q", op, rows, kept)
		}
		if text := said.String(); strings.Count(text, "disk fails") != 1 || strings.Count(text, "disk works again") != 1 || !strings.Contains(text, errDisk.Error()) {
			t.Errorf("%s: said\n%s", op, text)
		}
		if st := s.Stats(); st.Bytes != 0 || st.Memory != 0 {
			t.Errorf("%s: %+v", op, st)
		}
	}
}

// A folder that cannot be used at the start: the agent goes on without, and takes what is
// there as soon as it can.
func TestFolderComesLater(t *testing.T) {
	d := newMemDisk()
	before := openSpool(t, Options{disk: d, Folder: "memory"})
	put(t, before, 0, 10)
	id := before.ID()
	before.Close()
	d.fail = func(string, string) error { return fs.ErrPermission }
	s := openSpool(t, Options{disk: d, Folder: "memory"})
	put(t, s, 100, 10)
	put(t, s, 110, 10)
	if st := s.Stats(); st.Err == nil || st.InMemory != 2 || st.ID == id {
		t.Errorf("%+v", st)
	}
	d.fail = nil
	put(t, s, 120, 10)
	put(t, s, 200, 10)
	if st := s.Stats(); st.Err != nil || st.ID != id || st.Records != 50 {
		t.Errorf("%+v", st)
	}
	tokens := map[string]bool{}
	s.Finish()
	var rows []uint64
	for range 6 {
		b, err := s.Take(t.Context())
		if err != nil {
			break
		}
		for _, got := range read(t, b) {
			if tokens[got.token] {
				t.Errorf("token %s twice", got.token)
			}
			tokens[got.token] = true
			rows = append(rows, got.rows...)
		}
		s.Done(b)
	}
	if !slices.Equal(rows, slices.Concat(numbers(0, 10), numbers(100, 30), numbers(200, 10))) {
		t.Errorf("%v", rows)
	}
}

// Somebody removes the folder while the agent runs: what was in it is gone, and said to
// be; what comes after is kept in a folder made anew, under the same number.
func TestFolderIsRemoved(t *testing.T) {
	dir := t.TempDir() + "/spool"
	s := openSpool(t, Options{Folder: dir})
	id := s.ID()
	put(t, s, 0, 10)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	put(t, s, 10, 10)
	if st := s.Stats(); st.Err != nil || st.InMemory != 0 || st.ID != id {
		t.Errorf("%+v", st)
	}
	s.Close()
	s = openSpool(t, Options{Folder: dir})
	rows, kept := drain(t, s)
	if !slices.Equal(rows, numbers(10, 10)) || fmt.Sprint(kept) != "[10+10 #2 none]" || s.ID() != id {
		t.Errorf("%v %q", rows, kept)
	}
}

// A real disk that is full, and one that is read-only: tmpfs, mounted for the test.
func TestRealDiskIsFull(t *testing.T) {
	lack.Root(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		lack.Of(t, "it needs the right to mount: "+err.Error())
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	s := openSpool(t, Options{Folder: dir})
	n := 0
	for ; s.Stats().Err == nil; n++ {
		if n > 100 {
			t.Fatal("64 KiB are not full")
		}
		put(t, s, 10*n, 10)
	}
	if err := s.Stats().Err; !strings.Contains(err.Error(), "no space left") {
		t.Errorf("%v", err)
	}
	b := take(t, s)
	if got := read(t, b); !slices.Equal(got[0].rows, numbers(0, 10*n)) {
		t.Errorf("%+v", got)
	}
	s.Done(b)
	put(t, s, 10*n, 10)
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	put(t, s, 10*(n+1), 10)
	if st := s.Stats(); st.Err == nil || !strings.Contains(st.Err.Error(), "read-only") || st.InMemory == 0 {
		t.Errorf("%+v", st)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=10m"); err != nil {
		t.Fatal(err)
	}
	put(t, s, 10*(n+2), 10)
	if st := s.Stats(); st.Err != nil || st.InMemory != 0 {
		t.Errorf("%+v", st)
	}
	rows, _ := drain(t, s)
	if !slices.Equal(rows, numbers(10*n, 30)) {
		t.Errorf("%v", rows)
	}
}

// Files that this process may not read, such as those of a spool that somebody has copied,
// are no damaged files: they wait until somebody has mended that.
func TestFilesMayNotBeRead(t *testing.T) {
	for _, cause := range []error{syscall.EACCES, syscall.EMFILE, syscall.ENOMEM} {
		d := newMemDisk()
		s := openSpool(t, Options{disk: d, Folder: "memory"})
		put(t, s, 0, 10)
		s.Close()
		d.fail = func(op, name string) error {
			if op == "open" && strings.HasSuffix(name, flushEnding) {
				return cause
			}
			return nil
		}
		s = openSpool(t, Options{disk: d, Folder: "memory"})
		put(t, s, 10, 10)
		if st := s.Stats(); st.Err == nil || st.Aside != 0 || st.GivenUp != [numReasons]uint64{} || d.names[flushName(1)] == nil {
			t.Errorf("%v: %+v", cause, st)
		}
		d.fail = nil
		put(t, s, 20, 10) // is of the folder's spool only after it was taken over
		put(t, s, 30, 10)
		if st := s.Stats(); st.Err != nil || st.Records != 40 {
			t.Errorf("%v: %+v", cause, st)
		}
	}
}

// A disk that can neither be read nor written for a while does not cost what is on it.
func TestDiskIsAwayAtTake(t *testing.T) {
	d := newMemDisk()
	s := openSpool(t, Options{disk: d, Folder: "memory"})
	put(t, s, 0, 10)
	d.fail = func(string, string) error { return errDisk }
	for range 3 {
		if b, err := s.Take(t.Context()); !errors.Is(err, errDisk) {
			t.Fatalf("%v, %v", b, err)
		}
	}
	d.fail = nil
	if rows, kept := drain(t, s); len(rows) != 10 || len(kept) != 1 {
		t.Errorf("%v %q", rows, kept)
	}
	if st := s.Stats(); st.GivenUp != [numReasons]uint64{} || st.SetAside != 0 || st.Bytes != 0 {
		t.Errorf("%+v", st)
	}
}

// A file that is damaged and cannot be set aside is left to the next process, and what is
// kept of it is sent all the same.
func TestDamagedOnReadOnlyDisk(t *testing.T) {
	d := newMemDisk()
	s := openSpool(t, Options{disk: d, Folder: "memory"})
	put(t, s, 0, 10)
	data := d.names[flushName(1)].data
	for i := range data { // the first body
		if s := string(data[i:]); strings.HasPrefix(s, "dictionary") {
			data[i] ^= 1
			break
		}
	}
	d.fail = failing("rename", "create", "sync", "remove")
	b := take(t, s)
	if got := read(t, b); len(got) != 1 || fmt.Sprint(got[0].kept) != "[0+10 #1 corrupt]" {
		t.Errorf("%+v", got)
	}
	s.Done(b)
	d.fail = nil
	put(t, s, 10, 10)
	if st := s.Stats(); st.GivenUp[Corrupt] != 10 || st.Memory != 0 || st.InMemory != 0 || d.names[flushName(1)] == nil {
		t.Errorf("%+v", st)
	}
	s.Close()
	s = openSpool(t, Options{disk: d, Folder: "memory"})
	if rows, _ := drain(t, s); len(rows) != 10 || s.Stats().Aside != 1 {
		t.Errorf("%v, %+v", rows, s.Stats())
	}
}

// What is given up keeps its row in the ledger also where the disk cannot store that.
func TestGivenUpWhileDiskFails(t *testing.T) {
	d := newMemDisk()
	s := openSpool(t, Options{disk: d, Folder: "memory", MaxBytes: 3 * page4k})
	for i := range 3 {
		put(t, s, 10*i, 10)
	}
	d.fail = failing("write")
	put(t, s, 30, 10)
	if st := s.Stats(); st.GivenUp[Full] == 0 || st.Forgotten != 0 || st.Bytes > 3*page4k {
		t.Errorf("%+v", st)
	}
	d.fail = nil
	_, kept := drain(t, s)
	if want := "[0+10 #1 full 10+10 #2 none 20+10 #3 none 30+10 #4 none]"; fmt.Sprint(kept) != want {
		t.Errorf("have %q, want %s", kept, want)
	}
	if st := s.Stats(); st.Bytes != 0 || st.Memory != 0 || st.Records != 0 {
		t.Errorf("%+v", st)
	}
}

// A folder that was named by mistake loses nothing.
func TestFolderOfSomebodyElse(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"letter.tmp", "aside/letter.tmp", "x.flush", "1.last"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		put(t, openSpool(t, Options{Folder: dir}), 0, 10)
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
		if dir = t.TempDir(); t.Failed() {
			return
		}
	}
}

// What is no regular file is not waited for.
func TestPipeInFolder(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, flushName(1)), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openSpool(t, Options{Folder: dir})
	if st := s.Stats(); st.Aside != 1 || st.Err != nil {
		t.Errorf("%+v", st)
	}
}

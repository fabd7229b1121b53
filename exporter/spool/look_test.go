package spool

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"weir/internal/lack"
)

func TestLook(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, Options{Folder: dir, BatchRows: 10})
	for i := range 3 {
		put(t, s, 10*i, 10)
	}
	b := take(t, s)
	s.SetAside(b, &b.Inserts[0], Refused)
	found, err := Look(dir)
	if err != nil || found.Flushes != 3 || found.Aside != 1 || found.Bytes != 4*page4k || time.Since(found.Oldest) > time.Minute {
		t.Errorf("%+v, %v", found, err)
	}
	if found.Bytes != s.Stats().Bytes {
		t.Errorf("%d octets, Stats has %d", found.Bytes, s.Stats().Bytes)
	}
}

// A folder that is no spool's is not given away, nor are files that a link leads to.
func TestChown(t *testing.T) {
	lack.Root(t)
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	put(t, openSpool(t, Options{Folder: dir}), 0, 10)
	link := filepath.Join(dir, flushName(9))
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	if err := Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{outside: false, dir: true, filepath.Join(dir, flushName(1)): true, filepath.Join(dir, aside): true} {
		if got := ownedBy(t, path, 65534); got != want {
			t.Errorf("%s given away: %v", path, got)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "letter"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Chown(dir, 1, 1); err == nil || !strings.Contains(err.Error(), `"letter"`) || ownedBy(t, dir, 1) {
		t.Errorf("%v", err)
	}
}

// Links in a spool's folder lead nowhere: whoever owns the folder could have root write
// elsewhere.
func TestLinksAreNotFollowed(t *testing.T) {
	for _, name := range []string{lockName, aside} {
		dir, elsewhere := t.TempDir(), t.TempDir()
		if err := os.Symlink(filepath.Join(elsewhere, "x"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		s := openSpool(t, Options{Folder: dir})
		if s.Stats().Err == nil {
			t.Errorf("%s is followed", name)
		}
		put(t, s, 0, 10) // into memory
		if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) > 0 {
			t.Errorf("%v, %v", entries, err)
		}
	}
}

func ownedBy(t *testing.T, path string, uid uint32) bool {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Uid == uid
}

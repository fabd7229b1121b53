//go:build linux && amd64

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// smallArtefact is a tarball as npm has it, with something small for a library.
func smallArtefact(t *testing.T, content string) (*artefact, []byte) {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	for _, f := range []struct{ name, content string }{{"package/index.js", "//"}, {"package/libchdb.so", content}} {
		if err := tw.WriteHeader(&tar.Header{Name: f.name, Mode: 0o755, Size: int64(len(f.content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	tarball := sha512.Sum512(b.Bytes())
	library := sha256.Sum256([]byte(content))
	return &artefact{
		tarballSize:   int64(b.Len()),
		tarballSHA512: base64.StdEncoding.EncodeToString(tarball[:]),
		member:        "package/libchdb.so",
		size:          int64(len(content)),
		sha256:        hex.EncodeToString(library[:]),
	}, b.Bytes()
}

// fakeNPM puts a program called npm into PATH, a shell script that runs in the
// folder which npm was started in. $TARBALL is a file with the given content,
// $CALLS one that the test may count calls in.
func fakeNPM(t *testing.T, tarball []byte, script string) (calls string) {
	t.Helper()
	dir := t.TempDir()
	calls = filepath.Join(dir, "calls")
	if err := os.WriteFile(filepath.Join(dir, "tarball"), tarball, 0o600); err != nil {
		t.Fatal(err)
	}
	script = fmt.Sprintf("#!/bin/sh\nTARBALL=%s CALLS=%s\n%s\n", filepath.Join(dir, "tarball"), calls, script)
	if err := os.WriteFile(filepath.Join(dir, "npm"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	return calls
}

const delivers = `echo called >> "$CALLS"; cp "$TARBALL" chdb.tgz`

func quiet() *progress { return newProgress(io.Discard, true) }

// onlyFiles checks what a cache folder holds beside its lock.
func onlyFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		if e.Name() != "lock" {
			got = append(got, e.Name())
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("the cache holds %v, want %v", got, want)
	}
}

func TestFetch(t *testing.T) {
	a, tarball := smallArtefact(t, "a library")
	calls := fakeNPM(t, tarball, delivers)
	dir := filepath.Join(t.TempDir(), "made", "on demand")
	for range 2 { // the second finds it
		f, err := a.fetch(t.Context(), dir, quiet())
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(f)
		if err != nil || string(content) != "a library" {
			t.Fatalf("%q, %v", content, err)
		}
		st, err := f.Stat()
		if err != nil || st.Mode().Perm() != 0o644 {
			t.Errorf("mode %v, %v", st.Mode(), err)
		}
		f.Close()
	}
	onlyFiles(t, dir, a.fileName())
	if n := countCalls(t, calls); n != 1 {
		t.Errorf("npm ran %d times", n)
	}
}

func countCalls(t *testing.T, calls string) int {
	t.Helper()
	b, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(b, []byte("\n"))
}

func TestFetchAtOnce(t *testing.T) {
	a, tarball := smallArtefact(t, "a library")
	calls := fakeNPM(t, tarball, delivers)
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 8 { // flock(2) is between open files, so goroutines do for processes
		wg.Go(func() {
			f, err := a.fetch(t.Context(), dir, quiet())
			if err != nil {
				t.Error(err)
				return
			}
			f.Close()
		})
	}
	wg.Wait()
	onlyFiles(t, dir, a.fileName())
	if n := countCalls(t, calls); n != 1 {
		t.Errorf("npm ran %d times", n)
	}
}

func TestFetchRefuses(t *testing.T) {
	good, tarball := smallArtefact(t, "a library")
	bad := func(change func(a *artefact)) *artefact {
		a := *good
		change(&a)
		return &a
	}
	_, other := smallArtefact(t, "b library") // of the same sizes, but for compression
	for name, test := range map[string]struct {
		a       *artefact
		tarball []byte
		script  string
		says    string
	}{
		"another tarball":    {bad(func(a *artefact) { a.tarballSize = int64(len(other)) }), other, delivers, "wrong digest"},
		"short tarball":      {good, tarball[:len(tarball)-1], delivers, "is refused"},
		"endless tarball":    {good, append(bytes.Clone(tarball), 0), delivers, "is refused"},
		"another library":    {bad(func(a *artefact) { a.sha256 = strings.Repeat("0", 64) }), tarball, delivers, "wrong digest"},
		"longer library":     {bad(func(a *artefact) { a.size-- }), tarball, delivers, "is refused"},
		"no library in it":   {bad(func(a *artefact) { a.member = "package/other.so" }), tarball, delivers, "package/other.so"},
		"npm fails":          {good, nil, "echo 'npm error code ENOTFOUND' >&2; exit 1", "ENOTFOUND: check the network"},
		"npm leaves nothing": {good, nil, "exit 0", "0 tarballs"},
		"npm dies":           {good, nil, "kill -9 $$", "killed"},
	} {
		t.Run(name, func(t *testing.T) {
			fakeNPM(t, test.tarball, test.script)
			dir := t.TempDir()
			f, err := test.a.fetch(t.Context(), dir, quiet())
			if err == nil {
				f.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("%q does not say %q", err, test.says)
			}
			onlyFiles(t, dir)
		})
	}
}

// TestProgramRefuses: the real digests, by way of the command line.
func TestProgramRefuses(t *testing.T) {
	_, tarball := smallArtefact(t, "not ClickHouse")
	fakeNPM(t, tarball, delivers)
	dir := t.TempDir()
	for _, args := range [][]string{{"fetch"}, {"serve", "--data", t.TempDir()}} {
		exit, stderr := failing(t, program(t, append(args, "--cache-dir", dir)...))
		if exit != 1 || !strings.Contains(stderr, "refused") {
			t.Errorf("%s: exit status %d, %q", args[0], exit, stderr)
		}
		onlyFiles(t, dir)
	}
}

func TestFetchWithoutNPM(t *testing.T) {
	a, _ := smallArtefact(t, "a library")
	t.Setenv("PATH", t.TempDir())
	_, err := a.fetch(t.Context(), t.TempDir(), quiet())
	if err == nil || !strings.Contains(err.Error(), "apt install npm") || !strings.Contains(err.Error(), "clickhouse.addr") {
		t.Errorf("%v does not say what to do", err)
	}
}

// TestFetchCancelled: an npm that hangs is ended with the fetch, and so is a fetch
// that waits for another.
func TestFetchCancelled(t *testing.T) {
	a, _ := smallArtefact(t, "a library")
	dir := t.TempDir()
	fifo := filepath.Join(t.TempDir(), "started")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	fakeNPM(t, nil, "echo $$ > "+fifo+"; exec sleep 1000")
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := a.fetch(ctx, dir, quiet())
		first <- err
	}()
	line, err := os.ReadFile(fifo) // returns once npm runs
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(line)))
	if err != nil {
		t.Fatal(err)
	}

	waiting := make(chan struct{})
	second := make(chan error, 1)
	go func() {
		_, err := a.fetch(ctx, dir, newProgress(writerFunc(func([]byte) { close(waiting) }), true))
		second <- err
	}()
	<-waiting
	cancel()
	for _, done := range []chan error{first, second} {
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("npm (process %d) is still there: %v", pid, err)
	}
	onlyFiles(t, dir)
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) { f(b); return len(b), nil }

func TestFetchAfterKill(t *testing.T) {
	a, tarball := smallArtefact(t, "a library")
	fakeNPM(t, tarball, delivers)
	dir := t.TempDir()
	left := filepath.Join(dir, "fetch-123")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left, "libchdb.so"), []byte("a lib"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := a.fetch(t.Context(), dir, quiet())
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	onlyFiles(t, dir, a.fileName())
}

func TestCacheOfOthers(t *testing.T) {
	a, tarball := smallArtefact(t, "a library")
	calls := fakeNPM(t, tarball, delivers)
	dir := t.TempDir()
	path := filepath.Join(dir, a.fileName())

	// Half a file is none.
	if err := os.WriteFile(path, []byte("a lib"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := a.fetch(t.Context(), dir, quiet())
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if countCalls(t, calls) != 1 {
		t.Error("a file of another size was taken")
	}

	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := a.fetch(t.Context(), dir, quiet()); err == nil || !strings.Contains(err.Error(), "changed by other users") {
		t.Errorf("a file that anybody may write to: %v", err)
	}

	link := t.TempDir()
	if err := os.Symlink(path, filepath.Join(link, a.fileName())); err != nil {
		t.Fatal(err)
	}
	if _, err := a.fetch(t.Context(), link, quiet()); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("a link: %v", err)
	}
}

func TestVerify(t *testing.T) {
	a, _ := smallArtefact(t, "a library")
	dir := t.TempDir()
	path := filepath.Join(dir, a.fileName())
	for content, kept := range map[string]bool{"a library": true, "a librarx": false} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := dropDamaged(a, dir, quiet()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); (err == nil) != kept {
			t.Errorf("%q: %v, want kept %v", content, err, kept)
		}
	}
}

// TestProgressLines: without a terminal, one line at the start and one at the end.
func TestProgressLines(t *testing.T) {
	var b strings.Builder
	bar := newProgress(&b, false).start("fetching", 178_000_000)
	bar.set(5)
	bar.finish(nil)
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 2 || lines[0] != "fetching (178 MB)" || !strings.HasPrefix(lines[1], "fetching: done in ") {
		t.Errorf("%q", lines)
	}
}

//go:build linux && amd64

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// ownServer is the way out when the engine cannot be had.
const ownServer = "or use a ClickHouse server of your own (weir --clickhouse ADDR, clickhouse.addr)"

// npmPack downloads the package into the folder work by the npm client, which knows
// the user's registry, proxy and credentials, and returns the tarball's path.
//
// npm shows no progress to others, but keeps what it downloads in its cache: with a
// cache of its own for this download, that folder's size is the progress, and the
// user's cache does not keep 178 MB that nobody needs twice.
func npmPack(ctx context.Context, work string, size int64, p *progress) (string, error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", fmt.Errorf("npm is not there (%w): install it (Debian: apt install npm), %s", err, ownServer)
	}
	cache := filepath.Join(work, "npm-cache")
	cmd := exec.CommandContext(ctx, npm, "pack", npmPackage+"@"+npmVersion,
		"--cache", cache, "--ignore-scripts", "--loglevel=error", "--update-notifier=false")
	cmd.Dir = work
	stderr := &tail{max: 8 << 10}
	cmd.Stderr = stderr
	// A group of its own, to be ended as a whole; and its end with this process's.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("run npm: %w", err)
	}
	b := p.start("fetching ClickHouse", size)
	ended := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watchSize(cache, b, ended)
	}()
	err = cmd.Wait()
	close(ended)
	<-watched
	if err != nil {
		err = explainNPM(ctx, err, stderr.String())
	}
	b.finish(err)
	if err != nil {
		return "", err
	}
	if err := os.RemoveAll(cache); err != nil { // early, since the disk may be small
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(work, "*.tgz"))
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("npm pack %s@%s left %d tarballs, not one", npmPackage, npmVersion, len(found))
	}
	return found[0], nil
}

func explainNPM(ctx context.Context, err error, stderr string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var lines []string
	for line := range strings.Lines(stderr) {
		// npm ends with where its log is, which is about to be deleted.
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, "complete log of this run") {
			lines = append(lines, line)
		}
	}
	if n := len(lines); n > 6 {
		lines = lines[n-6:]
	}
	if len(lines) > 0 {
		err = errors.New(strings.Join(lines, "; "))
	}
	return fmt.Errorf("npm pack %s@%s: %w: check the network and npm's registry and proxy settings (npm ping), %s",
		npmPackage, npmVersion, err, ownServer)
}

// watchSize shows the size of the files under dir on b until ended is closed.
func watchSize(dir string, b *bar, ended <-chan struct{}) {
	ticks := time.NewTicker(200 * time.Millisecond)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
			b.set(folderSize(dir))
		case <-ended:
			return
		}
	}
}

// folderSize is a guess while files come and go: what cannot be read counts nothing.
func folderSize(dir string) (size int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			size += info.Size()
		}
		return nil
	})
	return size
}

// tail is a writer that keeps the last max bytes.
type tail struct {
	max int
	buf bytes.Buffer
}

func (t *tail) Write(b []byte) (int, error) {
	t.buf.Write(b)
	t.buf.Next(max(0, t.buf.Len()-t.max))
	return len(b), nil
}

func (t *tail) String() string { return t.buf.String() }

//go:build linux && amd64

package main

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func newFetchCommand() *cobra.Command {
	var dir string
	var noProgress, verify bool
	cmd := &cobra.Command{
		Use:   "fetch",
		Short: "Fetch the ClickHouse engine into the cache and print its path",
		Long: `Fetch the ClickHouse engine (` + engineSize + `) with npm, check it, and
keep it in the cache folder. Nothing is done if it is there. Its path goes to standard output.`,
		Example: `  weir-clickhouse fetch
  weir-clickhouse fetch --verify --cache-dir /var/cache/weir`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := cacheDir(dir)
			if err != nil {
				return err
			}
			progress := newProgress(cmd.ErrOrStderr(), noProgress)
			if verify {
				if err := dropDamaged(&chdb, path, progress); err != nil {
					return err
				}
			}
			f, err := chdb.fetch(cmd.Context(), path, progress)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = fmt.Fprintln(cmd.OutOrStdout(), f.Name())
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "cache-dir", "", "where the engine is kept (default: weir in the user's cache folder)")
	cmd.Flags().BoolVar(&noProgress, "no-progress", false, "no progress bar")
	cmd.Flags().BoolVar(&verify, "verify", false, "read all of an engine that is there, and fetch it anew if it is damaged")
	return cmd
}

// dropDamaged removes a library whose digest is wrong.
func dropDamaged(a *artefact, dir string, p *progress) error {
	f, err := a.open(dir)
	if errors.Is(err, errNotThere) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	err = a.verify(f)
	if errors.Is(err, errDigest) {
		p.say(err.Error())
		return os.Remove(f.Name())
	}
	return err
}

// openLibrary returns the library, fetched if need be.
func openLibrary(ctx context.Context, flag string, p *progress) (*os.File, error) {
	dir, err := cacheDir(flag)
	if err != nil {
		return nil, err
	}
	return chdb.fetch(ctx, dir, p)
}

// fetch opens the library in the cache folder dir. If it is not there, one process
// downloads it and others wait for that one.
func (a *artefact) fetch(ctx context.Context, dir string, p *progress) (*os.File, error) {
	f, err := a.open(dir)
	if !errors.Is(err, errNotThere) {
		return f, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the cache folder: %w: choose another with --cache-dir", err)
	}
	unlock, err := lockCache(ctx, dir, p)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if f, err = a.open(dir); !errors.Is(err, errNotThere) {
		return f, err
	}
	if err := a.download(ctx, dir, p); err != nil {
		return nil, fmt.Errorf("fetch ClickHouse: %w", err)
	}
	return a.open(dir)
}

// lockCache waits for the lock on the cache folder. flock(2) ends with the process
// that has it, however that ends. It is asked for again and again since a system
// call that waits for it could not be interrupted by ctx.
func lockCache(ctx context.Context, dir string, p *progress) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the cache folder: %w: choose another with --cache-dir", err)
	}
	for told := false; ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w: choose another folder with --cache-dir", f.Name(), err)
		}
		if !told {
			p.say("another process is fetching ClickHouse; waiting for it")
			told = true
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("wait for another process that is fetching ClickHouse: %w", context.Cause(ctx))
		}
	}
}

// download brings the library into dir, which the caller has locked.
func (a *artefact) download(ctx context.Context, dir string, p *progress) error {
	// Only a process that was killed leaves such a folder, and none runs now.
	old, err := filepath.Glob(filepath.Join(dir, "fetch-*"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove what an interrupted fetch left: %w", err)
		}
	}
	work, err := os.MkdirTemp(dir, "fetch-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	tarball, err := npmPack(ctx, work, a.tarballSize, p)
	if err != nil {
		return err
	}
	check := p.start("checking ClickHouse", a.tarballSize)
	err = a.verifyTarball(tarball, check)
	check.finish(err)
	if err != nil {
		return err
	}
	library := filepath.Join(work, "libchdb.so")
	unpack := p.start("unpacking ClickHouse", a.size)
	err = a.extract(ctx, tarball, library, unpack)
	unpack.finish(err)
	if err != nil {
		return err
	}
	return os.Rename(library, filepath.Join(dir, a.fileName()))
}

// extract writes the library in tarball to path and onto the disk.
func (a *artefact) extract(ctx context.Context, tarball, path string, b *bar) error {
	in, err := os.Open(tarball)
	if err != nil {
		return err
	}
	defer in.Close()
	zr, err := gzip.NewReader(in)
	if err != nil {
		return fmt.Errorf("unpack %s: %w", filepath.Base(tarball), err)
	}
	tr := tar.NewReader(zr)
	for {
		header, err := tr.Next()
		if err == io.EOF {
			return fmt.Errorf("unpack %s: no %s in it", filepath.Base(tarball), a.member)
		}
		if err != nil {
			return fmt.Errorf("unpack %s: %w", filepath.Base(tarball), err)
		}
		if header.Name == a.member {
			break
		}
	}
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, h, b), contextReader{ctx, io.LimitReader(tr, a.size+1)})
	if err != nil {
		return fmt.Errorf("unpack %s: %w", filepath.Base(tarball), err)
	}
	if n != a.size {
		return fmt.Errorf("%s is refused: it is not %d bytes long", a.member, a.size)
	}
	if err := compare(a.member, "sha256", hex.EncodeToString(h.Sum(nil)), a.sha256); err != nil {
		return err
	}
	// Readable by the user that the server runs as, whatever the umask.
	if err := out.Chmod(0o644); err != nil {
		return err
	}
	if err := out.Sync(); err != nil {
		return err
	}
	return out.Close()
}

// contextReader ends a long copy when ctx is done.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(b []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(b)
}

//go:build linux && amd64

package main

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// What is fetched: chdb's npm package, which carries the ClickHouse engine as a
// shared library.
const (
	npmPackage    = "@chdb/lib-linux-x64-gnu"
	npmVersion    = "26.7.3-stable.1"
	engineVersion = "26.7.2.1" // what select version() says
	engineSize    = "178 MB to download, 566 MB on disk"
)

// artefact is a file that is fetched, and what must be true of it.
type artefact struct {
	tarballSize   int64
	tarballSHA512 string // base64, as npm has it
	member        string // path in the tarball
	size          int64
	sha256        string // hexadecimal
}

var chdb = artefact{
	tarballSize:   177_817_999,
	tarballSHA512: "XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw==",
	member:        "package/libchdb.so",
	size:          566_330_096,
	sha256:        "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5",
}

// fileName names version and content, so that another version is another file.
func (a *artefact) fileName() string {
	return "libchdb-" + npmVersion + "-" + a.sha256[:12] + ".so"
}

// cacheDir returns where the library is kept: what the user said, or weir in the
// user's cache folder, or for a root without HOME (a service) /var/cache/weir.
func cacheDir(flag string) (string, error) {
	if flag != "" {
		return filepath.Abs(flag)
	}
	dir, err := os.UserCacheDir()
	if err == nil {
		return filepath.Join(dir, "weir"), nil
	}
	if os.Geteuid() == 0 {
		return "/var/cache/weir", nil
	}
	return "", fmt.Errorf("find the cache folder: %w: set HOME or XDG_CACHE_HOME, or name a folder with --cache-dir", err)
}

// errNotThere: there is no usable library in the cache.
var errNotThere = errors.New("not fetched yet")

// open opens the library in the cache folder dir.
//
// It is not read: a file gets its name only once all of it has had the right digest
// and is on disk, so one of that name and the right size is whole, as long as
// nobody else could write to it.
func (a *artefact) open(dir string) (*os.File, error) {
	path := filepath.Join(dir, a.fileName())
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errNotThere
	}
	if err != nil {
		return nil, fmt.Errorf("open the ClickHouse library: %w", err)
	}
	if err := a.check(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (a *artefact) check(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("ClickHouse library: %w", err)
	}
	if !st.Mode().IsRegular() || st.Size() != a.size {
		return errNotThere
	}
	uid := int(st.Sys().(*syscall.Stat_t).Uid)
	if (uid != 0 && uid != os.Geteuid()) || st.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s could have been changed by other users (owner %d, mode %v): delete it, or choose another folder with --cache-dir",
			f.Name(), uid, st.Mode().Perm())
	}
	return nil
}

// verify reads the whole library and compares its digest.
func (a *artefact) verify(f *os.File) error {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, a.size)); err != nil {
		return fmt.Errorf("verify the ClickHouse library: %w", err)
	}
	return compare(f.Name(), "sha256", hex.EncodeToString(h.Sum(nil)), a.sha256)
}

// verifyTarball compares size and digest of a tarball that was just fetched.
func (a *artefact) verifyTarball(path string, b *bar) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("verify the download: %w", err)
	}
	defer f.Close()
	h := sha512.New()
	n, err := io.Copy(io.MultiWriter(h, b), io.LimitReader(f, a.tarballSize+1))
	if err != nil {
		return fmt.Errorf("verify the download: %w", err)
	}
	if n != a.tarballSize {
		return fmt.Errorf("%s of the package is refused: it is not %d bytes long: its publisher or the registry has changed it",
			filepath.Base(path), a.tarballSize)
	}
	return compare(filepath.Base(path), "sha512", sumBase64(h), a.tarballSHA512)
}

func sumBase64(h hash.Hash) string { return base64.StdEncoding.EncodeToString(h.Sum(nil)) }

var errDigest = errors.New("wrong digest")

func compare(name, kind, got, want string) error {
	if got != want {
		return fmt.Errorf("%s is refused: %w: its %s is %s, not %s", name, errDigest, kind, got, want)
	}
	return nil
}

package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// disk is what a spool asks of a file system. Tests put one in its place that fails, or
// loses its power, at any of these calls.
type disk interface {
	// Lock takes the folder, which is made if it is not there, for this process alone.
	Lock() (io.Closer, error)
	ReadDir(dir string) ([]fs.DirEntry, error)
	// Create makes a file that was not there.
	Create(name string) (file, error)
	Open(name string) (file, error)
	Rename(from, to string) error
	Remove(name string) error
	// Sync makes what was done to the names in a folder outlive a power cut.
	Sync(dir string) error
}

type file interface {
	io.Writer
	io.ReaderAt
	Sync() error
	Close() error
	Size() (int64, error)
}

// folder is a folder of the operating system's.
type folder string

var errLocked = errors.New("another process uses it")

func (f folder) Lock() (io.Closer, error) {
	if err := os.MkdirAll(filepath.Join(string(f), aside), 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(string(f), lockName), os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errLocked
		}
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

func (f folder) ReadDir(dir string) ([]fs.DirEntry, error) {
	return os.ReadDir(filepath.Join(string(f), dir))
}

func (f folder) Create(name string) (file, error) {
	return open(filepath.Join(string(f), name), os.O_CREATE|os.O_EXCL|os.O_WRONLY)
}

func (f folder) Open(name string) (file, error) {
	return open(filepath.Join(string(f), name), os.O_RDONLY|unix.O_NONBLOCK) // a pipe would wait for its other end
}

func open(path string, flags int) (file, error) {
	opened, err := os.OpenFile(path, flags|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{opened}, nil
}

func (f folder) Rename(from, to string) error {
	return os.Rename(filepath.Join(string(f), from), filepath.Join(string(f), to))
}

func (f folder) Remove(name string) error { return os.Remove(filepath.Join(string(f), name)) }

func (f folder) Sync(dir string) error {
	opened, err := os.Open(filepath.Join(string(f), dir))
	if err != nil {
		return err
	}
	return errors.Join(opened.Sync(), opened.Close())
}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Chown gives a spool's folder, and what it holds, to a user and a group. It refuses a
// folder that holds anything else: that is somebody's, and no spool.
func Chown(dir string, uid, gid int) error {
	f := folder(dir)
	names := []string{"."}
	for _, in := range []string{".", aside} {
		entries, err := f.ReadDir(in)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !isOurs(e.Name()) {
				return fmt.Errorf("%s holds %q, which is none of a spool's files: name a folder of its own", dir, e.Name())
			}
			names = append(names, filepath.Join(in, e.Name()))
		}
	}
	for _, name := range names {
		if err := os.Lchown(filepath.Join(dir, name), uid, gid); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// isOurs reports whether a file of a spool may have that name.
func isOurs(name string) bool {
	if name == lockName || name == idName || name == idName+tmpEnding || name == aside {
		return true
	}
	endings := []string{flushEnding, lastEnding, tmpEnding}
	for why := range numReasons {
		endings = append(endings, "."+why.String())
	}
	return slices.ContainsFunc(endings, func(ending string) bool {
		_, ok := sequenceOf(name, ending)
		return ok
	})
}

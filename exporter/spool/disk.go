package spool

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

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
	// It may be root who asks, of a folder that belongs to somebody else.
	if info, err := os.Lstat(filepath.Join(string(f), aside)); err != nil || !info.IsDir() {
		return nil, cmp.Or(err, fmt.Errorf("%s is no folder", filepath.Join(string(f), aside)))
	}
	lock, err := os.OpenFile(filepath.Join(string(f), lockName), os.O_CREATE|os.O_RDONLY|unix.O_NOFOLLOW, 0o600)
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

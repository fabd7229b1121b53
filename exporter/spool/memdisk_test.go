package spool

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

var (
	errPower = errors.New("the power is cut")
	errDisk  = errors.New("input/output error")
)

// memDisk is a disk in memory that forgets, when its power is cut, what was not made
// durable: octets of a file without fsync, names without fsync of their folder.
type memDisk struct {
	mu    sync.Mutex
	names map[string]*inode // as programs see them
	safe  map[string]*inode // as they are after a power cut at the worst moment

	ops     int                                // done so far
	cut     int                                // the power is cut at this one; 0 for never
	partial int                                // of a write that it is cut in, how many octets are written
	fail    func(op, name string) error        // what else goes wrong
	octets  func(name string, p []byte) []byte // what is read of what was written
	locked  bool
	noted   []string // ops, to explain a failure
}

type inode struct {
	data []byte
	safe []byte
}

func newMemDisk() *memDisk {
	return &memDisk{names: map[string]*inode{}, safe: map[string]*inode{}}
}

// step counts an operation and says how it ends.
func (d *memDisk) step(op, name string) error {
	d.ops++
	d.noted = append(d.noted, op+" "+name)
	if d.cut > 0 && d.ops >= d.cut {
		return errPower
	}
	if d.fail != nil {
		return d.fail(op, name)
	}
	return nil
}

func (d *memDisk) Lock() (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("lock", ""); err != nil {
		return nil, err
	}
	if d.locked {
		return nil, errLocked
	}
	d.locked = true
	return unlocker{d}, nil
}

type unlocker struct{ d *memDisk }

func (u unlocker) Close() error {
	u.d.mu.Lock()
	defer u.d.mu.Unlock()
	u.d.locked = false
	return nil
}

func (d *memDisk) ReadDir(dir string) (entries []fs.DirEntry, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("list", dir); err != nil {
		return nil, err
	}
	for name, i := range d.names {
		if path.Dir(name) == dir {
			entries = append(entries, dirEntry{path.Base(name), int64(len(i.data))})
		}
	}
	slices.SortFunc(entries, func(x, y fs.DirEntry) int { return strings.Compare(x.Name(), y.Name()) })
	return entries, nil
}

type dirEntry struct {
	name string
	size int64
}

func (e dirEntry) Name() string               { return e.name }
func (e dirEntry) IsDir() bool                { return false }
func (e dirEntry) Type() fs.FileMode          { return 0 }
func (e dirEntry) Info() (fs.FileInfo, error) { return e, nil }
func (e dirEntry) Size() int64                { return e.size }
func (e dirEntry) Mode() fs.FileMode          { return 0o600 }
func (e dirEntry) ModTime() time.Time         { return time.Time{} }
func (e dirEntry) Sys() any                   { return nil }

func (d *memDisk) Create(name string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("create", name); err != nil {
		return nil, err
	}
	if d.names[name] != nil {
		return nil, fs.ErrExist
	}
	i := &inode{}
	d.names[name] = i
	return &memFile{d, i, name}, nil
}

func (d *memDisk) Open(name string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("open", name); err != nil {
		return nil, err
	}
	i := d.names[name]
	if i == nil {
		return nil, fs.ErrNotExist
	}
	return &memFile{d, i, name}, nil
}

func (d *memDisk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("rename", from); err != nil {
		return err
	}
	i := d.names[from]
	if i == nil {
		return fs.ErrNotExist
	}
	delete(d.names, from)
	d.names[to] = i
	return nil
}

func (d *memDisk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("remove", name); err != nil {
		return err
	}
	if d.names[name] == nil {
		return fs.ErrNotExist
	}
	delete(d.names, name)
	return nil
}

func (d *memDisk) Sync(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("sync", dir); err != nil {
		return err
	}
	for name := range d.safe {
		if path.Dir(name) == dir && d.names[name] == nil {
			delete(d.safe, name)
		}
	}
	for name, i := range d.names {
		if path.Dir(name) == dir {
			d.safe[name] = i
		}
	}
	return nil
}

// after returns the disk as it is found when the power is back. The worst case loses all
// that was not made durable, the best nothing; between them chance decides, name by name
// and file by file, as file systems do.
func (d *memDisk) after(worst, best bool, r *rand.Rand) *memDisk {
	next := newMemDisk()
	all := map[string]bool{}
	for name := range d.names {
		all[name] = true
	}
	for name := range d.safe {
		all[name] = true
	}
	for _, name := range sorted(all) {
		i := d.safe[name]
		if best || !worst && r.IntN(2) == 0 {
			i = d.names[name]
		}
		if i == nil {
			continue
		}
		data := i.safe
		if best || !worst && r.IntN(2) == 0 {
			data = i.data
		}
		kept := &inode{slices.Clone(data), slices.Clone(data)}
		next.names[name], next.safe[name] = kept, kept
	}
	return next
}

func sorted(set map[string]bool) (names []string) {
	for name := range set {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

type memFile struct {
	d    *memDisk
	i    *inode
	name string
}

func (f *memFile) Write(p []byte) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	err := f.d.step("write", f.name)
	if err != nil {
		n := 0
		if errors.Is(err, errPower) && f.d.ops == f.d.cut {
			n = min(f.d.partial, len(p))
			f.i.data = append(f.i.data, p[:n]...)
		}
		return n, err
	}
	f.i.data = append(f.i.data, p...)
	return len(p), nil
}

func (f *memFile) ReadAt(p []byte, at int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step("read", f.name); err != nil {
		return 0, err
	}
	data := f.i.data
	if f.d.octets != nil {
		data = f.d.octets(f.name, data)
	}
	if at >= int64(len(data)) {
		return 0, io.EOF
	}
	n := copy(p, data[at:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step("fsync", f.name); err != nil {
		return err
	}
	f.i.safe = slices.Clone(f.i.data)
	return nil
}

func (f *memFile) Close() error { return nil }

func (f *memFile) Size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return int64(len(f.i.data)), nil
}

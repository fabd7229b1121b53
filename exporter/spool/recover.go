package spool

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// Names in the folder.
const (
	lockName = "lock"
	idName   = "id"
	aside    = "aside"

	flushEnding = ".flush"
	lastEnding  = ".last"
	tmpEnding   = ".tmp"
)

func name(sequence uint64, ending string) string { return fmt.Sprintf("%020d%s", sequence, ending) }

func flushName(sequence uint64) string { return name(sequence, flushEnding) }

// sequenceOf returns the number that a name begins with.
func sequenceOf(name, ending string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, ending)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil
}

// store writes a file so that it is there in whole or not at all, whatever happens: under
// another name, then fsync, then the name it is to have, then fsync of the folder.
func (s *Spool) store(as string, head []byte, blocks []packed) error {
	tmp := strings.TrimSuffix(as, flushEnding) + tmpEnding
	err := s.write(tmp, head, blocks)
	if errors.Is(err, fs.ErrNotExist) { // the folder is gone
		if err = s.reopen(); err == nil {
			err = s.write(tmp, head, blocks)
		}
	}
	if err == nil {
		err = s.disk.Rename(tmp, as)
	}
	if err == nil {
		err = s.disk.Sync(".")
	} else {
		s.disk.Remove(tmp) // or the next start does it
	}
	return err
}

func (s *Spool) write(name string, head []byte, blocks []packed) error {
	f, err := s.disk.Create(name)
	if errors.Is(err, fs.ErrExist) { // left by an attempt that failed
		s.disk.Remove(name)
		f, err = s.disk.Create(name)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(head)
	for i := 0; i < len(blocks) && err == nil; i++ {
		_, err = f.Write(blocks[i].body)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// reopen makes the folder anew, which somebody has removed.
func (s *Spool) reopen() error {
	lock, err := s.disk.Lock()
	if err != nil {
		return err
	}
	s.mu.Lock()
	old, id, last := s.lock, s.id, s.next-1
	s.lock, s.marked = lock, 0
	s.mu.Unlock()
	if old != nil {
		old.Close()
	}
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	return errors.Join(s.writeID(id), s.mark(last))
}

// takeOver takes the folder and reads what is in it, unless it has done so. What was put
// into memory before has numbers of a spool and a run of its own.
func (s *Spool) takeOver() error {
	if s.took {
		return nil
	}
	lock, err := s.disk.Lock()
	if err != nil {
		return err
	}
	found := &Spool{options: s.options, disk: s.disk, took: true, id: random(), run: random(), next: 1, changed: make(chan struct{}), said: map[string]time.Time{}}
	err = found.recover()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.add(&found.stats) // what was set aside then is not found again
	if err != nil {
		return errors.Join(err, lock.Close())
	}
	for _, b := range s.batches {
		b.closed = true
	}
	s.batches = append(found.batches, s.batches...)
	s.took, s.lock, s.id, s.run, s.next, s.marked = true, lock, found.id, found.run, found.next, found.marked
	s.bytes, s.asides, s.left, s.owes = found.bytes, found.asides, found.left, found.owes
	s.memory += found.memory
	s.wake()
	return nil
}

// recover reads what is in the folder.
func (s *Spool) recover() error {
	entries, err := s.disk.ReadDir(".")
	if err != nil {
		return err
	}
	if err := s.recoverID(); err != nil {
		return err
	}
	if err := s.recoverAside(); err != nil {
		return err
	}
	for _, e := range entries { // sorted by name, which is by sequence
		switch {
		case strings.HasSuffix(e.Name(), tmpEnding) && isOurs(e.Name()): // the folder may be somebody else's
			if err = s.disk.Remove(e.Name()); errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
		default:
			if n, ok := sequenceOf(e.Name(), lastEnding); ok {
				s.next, s.marked = max(s.next, n+1), max(s.marked, n)
			} else if n, ok := sequenceOf(e.Name(), flushEnding); ok {
				s.next = max(s.next, n+1)
				err = s.recoverFlush(n)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// recoverID reads the spool's number, or gives it one.
func (s *Spool) recoverID() error {
	f, err := s.disk.Open(idName)
	if err == nil {
		var text [16]byte
		var id [8]byte
		err = readAt(f, text[:], 0)
		f.Close()
		if err == nil {
			_, err = hex.Decode(id[:], text[:])
		}
		if err == nil {
			s.id = binary.LittleEndian.Uint64(id[:])
			return nil
		}
		s.disk.Remove(idName)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.writeID(s.id)
}

func (s *Spool) writeID(id uint64) error {
	const tmp = idName + tmpEnding
	s.disk.Remove(tmp)
	f, err := s.disk.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(hex.EncodeToString(binary.LittleEndian.AppendUint64(nil, id))))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return errors.Join(s.disk.Rename(tmp, idName), s.disk.Sync("."))
}

// recoverFlush adds what a file holds to the batch that it was part of.
func (s *Spool) recoverFlush(sequence uint64) error {
	fl := &flush{spool: s.id, sequence: sequence, tried: true, stored: true}
	h, err := s.peek(fl)
	if passes(err) {
		return err
	}
	s.bytes += fl.size
	b := &batch{closed: true}
	if n := len(s.batches); h != nil && n > 0 && s.batches[n-1].run == h.run && s.batches[n-1].group == h.group {
		b = s.batches[n-1]
	} else {
		s.batches = append(s.batches, b)
	}
	if h != nil {
		fl.written, fl.rows = h.written, h.rows()
		b.run, b.group = h.run, h.group
		if b.first.IsZero() {
			b.first = h.written
		}
	}
	b.flushes = append(b.flushes, fl)
	b.rows += fl.rows
	if err != nil {
		_, _, err = s.damaged(b, fl, err)
	}
	return err
}

// peek reads the header of a flush and how much room it takes.
func (s *Spool) peek(fl *flush) (*header, error) {
	f, err := s.disk.Open(flushName(fl.sequence))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	fl.size = onDisk(size)
	h, _, err := readHeader(f, size)
	if err == nil && h.sequence != fl.sequence {
		err = errContent
	}
	return h, err
}

package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// doneFile is the file of a flush that is done with.
type doneFile struct {
	sequence uint64
	size     int64
}

// Done removes a batch that the server has acknowledged. What cannot be removed now is
// removed once the disk works.
func (s *Spool) Done(t *Batch) {
	s.mu.Lock()
	var files []doneFile
	for _, fl := range t.b.flushes {
		switch {
		case fl.stored:
			files = append(files, doneFile{fl.sequence, fl.size})
		case fl.tried: // one that is kept in memory may have a file as well: see begin
			files = append(files, doneFile{sequence: fl.sequence})
		}
	}
	s.mu.Unlock()
	err := s.sweep(files...)
	s.mu.Lock()
	for _, fl := range slices.Clone(t.b.flushes) {
		s.remove(t.b, fl)
	}
	s.stats.Sent++
	s.wake()
	s.mu.Unlock()
	if err != nil {
		s.trouble(fmt.Errorf("remove what was sent: %w", err))
	}
}

// sweep removes the files of flushes that are done with, and those that could not be
// removed before: if the next process found them it would send them again, to a server
// that has forgotten their tokens.
func (s *Spool) sweep(files ...doneFile) error {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	s.mu.Lock()
	before := s.left
	files = append(slices.Clone(before), files...)
	highest := s.next - 1
	if n := len(s.batches); n > 0 && s.batches[n-1].adding { // nobody has that one until Put returns
		added := s.batches[n-1].flushes
		if fl := added[len(added)-1]; fl.spool == s.id {
			highest = fl.sequence - 1
		}
	}
	took := s.took
	s.mu.Unlock()
	if !took {
		return nil
	}
	merr := s.mark(highest)
	var last []doneFile
	if n := len(files); merr != nil && n > 0 { // for want of room, perhaps, which the others make
		files, last = files[:n-1], files[n-1:]
	}
	left, err := s.removeAll(files)
	if merr != nil {
		if merr = s.mark(highest); merr == nil {
			last, merr = s.removeAll(last)
		}
		left = append(left, last...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range before {
		s.bytes -= f.size
	}
	for _, f := range left {
		s.bytes += f.size
	}
	s.left, s.owes = left, merr != nil
	return errors.Join(merr, err)
}

// sweepLeft does what sweep could not do.
func (s *Spool) sweepLeft() error {
	s.mu.Lock()
	nothing := !s.owes && len(s.left) == 0
	s.mu.Unlock()
	if nothing {
		return nil
	}
	return s.sweep()
}

// removeAll returns the files that it could not remove, and why the first of them.
func (s *Spool) removeAll(files []doneFile) (left []doneFile, err error) {
	for _, f := range files {
		rerr := s.disk.Remove(flushName(f.sequence))
		if rerr == nil || errors.Is(rerr, fs.ErrNotExist) {
			continue
		}
		left = append(left, f)
		if err == nil {
			err = rerr
		}
	}
	return left, err
}

// mark notes the highest sequence that was used, before the last file that tells it goes.
func (s *Spool) mark(sequence uint64) error {
	s.mu.Lock()
	before := s.marked
	s.mu.Unlock()
	if sequence <= before {
		return nil
	}
	f, err := s.disk.Create(name(sequence, lastEnding))
	if err == nil {
		err = f.Close()
	} else if errors.Is(err, fs.ErrExist) { // of an attempt that could not make it durable
		err = nil
	}
	if err == nil {
		err = s.disk.Sync(".")
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.marked = sequence
	s.mu.Unlock()
	if before > 0 {
		if err := s.disk.Remove(name(before, lastEnding)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// onDisk returns what a file of size octets takes.
func onDisk(size int64) int64 { return (size + 4095) &^ 4095 }

// reserve counts octets as taken, or as free again.
func (s *Spool) reserve(size int64) {
	s.mu.Lock()
	s.bytes += size
	s.wake()
	s.mu.Unlock()
}

// room finds room on disk for a flush of size octets, which it reserves. It gives up what
// the policy says. false means that the flush itself is to be given up.
func (s *Spool) room(ctx context.Context, size int64, e *entry) (bool, error) {
	for {
		s.expire()
		s.mu.Lock()
		if s.bytes+size <= s.options.MaxBytes {
			s.bytes += size
			s.mu.Unlock()
			return true, nil
		}
		changed := s.changed
		s.mu.Unlock()
		switch {
		case size > s.options.MaxBytes: // no waiting makes room for it
			return false, nil
		case s.forgetAside():
		case s.options.Full == Newest:
			return false, nil
		case s.options.Full == Wait:
			s.part(e)
			select {
			case <-changed:
			case <-ctx.Done():
				return false, fmt.Errorf("the spool is full: %w", context.Cause(ctx))
			}
		case !s.giveUpOldest():
			return false, nil
		}
	}
}

// expire gives up what has waited too long.
func (s *Spool) expire() {
	if s.options.MaxAge <= 0 {
		return
	}
	before := s.options.now().Add(-s.options.MaxAge)
	for s.giveUpFirst(Age, func(fl *flush) bool { return fl.rows > 0 && fl.written.Before(before) }) {
	}
}

// giveUpOldest gives up the rows that have waited longest or, where only what is kept of
// others is left, that of the oldest flush.
func (s *Spool) giveUpOldest() bool {
	return s.giveUpFirst(Full, func(fl *flush) bool { return fl.rows > 0 }) ||
		s.giveUpFirst(Full, func(*flush) bool { return true })
}

// giveUpFirst gives up the rows of the first flush on disk that nobody has and that is so,
// and says whether there was one. Of one that has no rows left it gives up all. Put alone
// calls it, so that a batch which Put is adding to is no obstacle.
func (s *Spool) giveUpFirst(why Reason, is func(*flush) bool) bool {
	b, fl := s.first(func(fl *flush) bool { return fl.stored && is(fl) })
	if fl == nil {
		return false
	}
	if fl.rows > 0 {
		s.gaveUp(why, fl.rows, fl.sequence)
	}
	if fl.rows == 0 || !s.strip(fl, s.kept(fl), why, false) {
		s.forget(b, fl, true)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b.busy = b.adding
	s.wake()
	return true
}

// first finds the first flush that is so and that nobody has, and keeps its batch from
// being taken. Put alone calls it.
func (s *Spool) first(is func(*flush) bool) (*batch, *flush) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.batches {
		for _, fl := range b.flushes {
			if !b.taken && is(fl) {
				b.busy = true
				return b, fl
			}
		}
	}
	return nil, nil
}

// strip puts what is kept of a flush in its place, or into memory where that is taken by
// one that could not be set aside, or the disk fails. It returns false if there is nothing
// to keep or no room.
func (s *Spool) strip(fl *flush, h *header, why Reason, taken bool) bool {
	if h == nil {
		return false
	}
	h.reason = why
	head := appendHeader(nil, h)
	if fl.stored && !taken {
		err := s.store(flushName(fl.sequence), head, h.blocks)
		if err == nil {
			s.resize(fl, onDisk(int64(len(head))+h.size()), nil)
			return true
		}
		s.trouble(err)
		s.disk.Remove(flushName(fl.sequence)) // the rows
	}
	for i := range h.blocks {
		head = append(head, h.blocks[i].body...)
	}
	s.mu.Lock()
	room := !fl.stored || s.memory+int64(len(head)) <= s.options.Memory
	s.mu.Unlock()
	if room {
		if fl.stored && taken {
			fl.tried = false // or what is in its place would be replaced, or removed
		}
		s.resize(fl, int64(len(head)), head)
	}
	return room
}

// kept reads what is kept of a flush; nil if nothing is left of it.
func (s *Spool) kept(fl *flush) *header {
	src, err := s.source(fl)
	if err != nil {
		return nil
	}
	defer src.Close()
	size, err := src.Size()
	if err != nil {
		return nil
	}
	h, at, _ := readHeader(src, size) // of a file that is cut the header may be whole
	if h == nil || h.sequence != fl.sequence {
		return nil
	}
	for i := range h.blocks {
		p := &h.blocks[i]
		if p.kept {
			if body, err := readBody(src, p, at, nil); err == nil {
				p.body = body
			}
		}
		at += int64(p.length)
	}
	h.blocks = slices.DeleteFunc(keptOnly(h.blocks), func(p packed) bool { return p.body == nil })
	if len(h.blocks) == 0 {
		return nil
	}
	return h
}

func keptOnly(blocks []packed) (kept []packed) {
	for i := range blocks {
		if blocks[i].kept {
			kept = append(kept, blocks[i])
		}
	}
	return kept
}

// resize notes that all that can be given up of a flush is gone; data is what is left of
// it, nil if that is on disk.
func (s *Spool) resize(fl *flush, size int64, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fl.stored {
		s.bytes -= fl.size
	} else {
		s.memory -= fl.size
	}
	if fl.stored, fl.data = data == nil, data; fl.stored {
		s.bytes += size
	} else {
		s.memory += size
	}
	for _, b := range s.batches {
		if slices.Contains(b.flushes, fl) {
			b.rows -= fl.rows
		}
	}
	fl.size, fl.rows = size, 0
}

// forget removes a flush of which nothing is left to be sent, and its file, unless that
// could not be set aside: then the next process does that.
func (s *Spool) forget(b *batch, fl *flush, file bool) {
	var files []doneFile
	if file && fl.stored {
		files = []doneFile{{fl.sequence, fl.size}}
	} else if file && fl.tried {
		files = []doneFile{{sequence: fl.sequence}}
	}
	if err := s.sweep(files...); err != nil {
		s.trouble(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Forgotten++
	s.remove(b, fl)
}

// remove takes a flush off the queue. s.mu is held.
func (s *Spool) remove(b *batch, fl *flush) {
	if !slices.Contains(b.flushes, fl) {
		return
	}
	if fl.stored {
		s.bytes -= fl.size
	} else {
		s.memory -= fl.size
	}
	b.rows -= fl.rows
	fl.data = nil
	b.flushes = slices.DeleteFunc(b.flushes, func(f *flush) bool { return f == fl })
	if len(b.flushes) == 0 {
		s.batches = slices.DeleteFunc(s.batches, func(x *batch) bool { return x == b })
	}
}

// damaged sets a flush aside that cannot be read, but for what is kept of it, if that can.
// It does not where the whole disk may be to blame: then it returns an error.
func (s *Spool) damaged(b *batch, fl *flush, cause error) (h *header, bodies int64, err error) {
	h = s.kept(fl)
	gone := errors.Is(cause, fs.ErrNotExist)
	if !gone {
		if err = s.setAside(fl, Corrupt); err != nil && !isContent(cause) {
			return nil, 0, cause
		}
	}
	s.gaveUp(Corrupt, fl.rows, fl.sequence)
	if gone {
		s.say("a file of the spool is gone", "flush", fl.sequence, "records", fl.rows)
	} else {
		s.say("a file of the spool is damaged", "flush", fl.sequence, "records", fl.rows, "error", cause)
	}
	if !s.strip(fl, h, Corrupt, err != nil) {
		s.forget(b, fl, err == nil)
		return nil, 0, nil
	}
	return h, int64(len(appendHeader(nil, h))), nil
}

// isContent reports whether an error is of what a file holds, not of reading it.
func isContent(err error) bool {
	return slices.ContainsFunc([]error{errTorn, errFormat, errChecksum, errContent}, func(e error) bool { return errors.Is(err, e) })
}

// SetAside is for a batch of which an insert cannot be sent for what it holds: the flushes
// that it is made of are set aside, and what is kept of them stays. The batch goes back,
// and is to be taken again.
func (s *Spool) SetAside(t *Batch, i *Insert, why Reason) {
	var last *flush
	for _, p := range i.pages {
		fl := p.flush
		if fl == last { // another block of it
			continue
		}
		last = fl
		s.mu.Lock()
		there := slices.Contains(t.b.flushes, fl)
		rows := fl.rows
		s.mu.Unlock()
		switch {
		case !there:
		case i.Kept || rows == 0:
			err := s.setAside(fl, why)
			s.forget(t.b, fl, err == nil)
		default:
			s.gaveUp(why, rows, fl.sequence)
			h := s.kept(fl)
			err := s.setAside(fl, why)
			if !s.strip(fl, h, why, err != nil) {
				s.forget(t.b, fl, err == nil)
			}
		}
	}
	s.Return(t)
}

package spool

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Put stores a flush. When it returns nil the flush is on disk, or in memory where there
// is no disk or it fails. It waits where there is no room in memory either, or the
// policy is to wait, until ctx is done: then the flush is lost and the error says so.
func (s *Spool) Put(ctx context.Context, f *Flush) error {
	if f.Empty() {
		return nil
	}
	e := &entry{header: &header{written: s.options.now(), blocks: f.blocks}}
	s.begin(e)
	err := s.put(ctx, e)
	s.mu.Lock()
	e.batch.adding, e.batch.busy = false, false
	if err != nil {
		s.remove(e.batch, e.flush)
		s.stats.Lost += uint64(e.header.rows())
	}
	s.wake()
	s.mu.Unlock()
	return err
}

// entry is a flush that is being put in.
type entry struct {
	*flush
	batch  *batch
	header *header
}

// begin gives the flush its place: the sequence, the batch, and the inserts of its blocks.
// Once it may be on disk they stay the same, wherever it is kept in the end, so that it
// does no harm if a file that could not be made durable comes back.
func (s *Spool) begin(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := e.header
	h.spool, h.run, h.sequence = s.id, s.run, s.next
	s.next++
	e.flush = &flush{spool: h.spool, sequence: h.sequence, written: h.written, rows: h.rows()}
	var b *batch
	if n := len(s.batches); n > 0 {
		b = s.batches[n-1]
	}
	// While the disk fails each flush is a batch of its own: one that has to wait for room
	// must not keep others from being sent, which makes it.
	if b == nil || b.closed || b.taken || s.broken != nil || b.rows > 0 && b.rows+e.rows > s.options.BatchRows || len(b.flushes) >= maxFlushes {
		if b != nil {
			b.closed = true
		}
		s.anew(e)
		return
	}
	s.join(e, b)
}

// maxFlushes bounds the flushes of a batch, whose headers are in memory while it is sent:
// on a quiet host they have few rows, or none.
const maxFlushes = 1000

// anew begins a batch with a flush. s.mu is held.
func (s *Spool) anew(e *entry) {
	b := &batch{run: e.header.run, group: e.sequence, first: e.written}
	s.batches = append(s.batches, b)
	s.join(e, b)
}

// join adds a flush to a batch. s.mu is held.
func (s *Spool) join(e *entry, b *batch) {
	e.batch, e.header.group = b, b.group
	for i := range e.header.blocks {
		e.header.blocks[i].insert = b.place(&e.header.blocks[i])
	}
	b.flushes = append(b.flushes, e.flush)
	b.rows += e.rows
	b.adding, b.busy = true, true
}

// part moves a flush that has to wait for room into a batch of its own, for room comes
// from sending the others. It must not have been on disk under the old one.
func (s *Spool) part(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := e.batch
	if len(b.flushes) == 1 || e.tried {
		return
	}
	b.flushes = b.flushes[:len(b.flushes)-1]
	b.rows -= e.rows
	b.adding, b.busy, b.closed = false, false, true
	s.anew(e)
	s.wake()
}

// place returns the number of the insert that a block is part of.
func (b *batch) place(p *packed) uint32 {
	for i := range b.ends {
		e := &b.ends[i]
		if e.table != p.table {
			continue
		}
		if e.part != p.part || e.rows+p.rows > InsertRows {
			*e = insertEnd{table: p.table, number: e.number + 1, part: p.part}
		}
		e.rows += p.rows
		return e.number
	}
	b.ends = append(b.ends, insertEnd{table: p.table, part: p.part, rows: p.rows})
	return 0
}

// retry is how long Put waits before it asks a disk again that has failed.
const retry = time.Second

// put stores a flush, on disk if it can.
func (s *Spool) put(ctx context.Context, e *entry) error {
	for {
		if s.disk != nil {
			stored, err := s.toDisk(ctx, e)
			if stored || err != nil {
				return err
			}
		}
		changed := s.hold(e)
		if changed == nil {
			return nil
		}
		s.part(e)
		timer := time.NewTimer(retry)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%d records are lost: all %d octets of memory are taken by those that wait: %w", e.rows, s.options.Memory, context.Cause(ctx))
		}
		timer.Stop()
	}
}

// toDisk stores a flush on disk, or what is kept of it where the policy says so. It returns
// false if the disk does not take it.
func (s *Spool) toDisk(ctx context.Context, e *entry) (stored bool, err error) {
	if err := s.takeOver(); err != nil {
		s.trouble(err)
		return false, nil
	}
	if e.spool != s.id { // it has its number from before the folder could be read
		return false, nil
	}
	size := onDisk(int64(len(appendHeader(s.head[:0], e.header))) + e.header.size())
	fits, err := s.room(ctx, size, e)
	if err != nil {
		return false, err
	}
	if !fits { // those that come are given up
		s.gaveUp(Full, e.rows, e.sequence)
		e.header.blocks, e.header.reason = keptOnly(e.header.blocks), Full
		s.mu.Lock()
		e.batch.rows -= e.rows
		e.rows = 0
		s.mu.Unlock()
		size = onDisk(int64(len(appendHeader(s.head[:0], e.header))) + e.header.size())
		s.reserve(size)
	}
	s.head = appendHeader(s.head[:0], e.header)
	e.tried = true
	if err := s.store(flushName(e.sequence), s.head, e.header.blocks); err != nil {
		s.reserve(-size)
		s.trouble(err)
		return false, nil
	}
	s.mu.Lock()
	e.size, e.stored = size, true
	s.stats.Stored++
	s.mu.Unlock()
	if err := s.sweepLeft(); err != nil {
		s.trouble(err)
	} else {
		s.works()
	}
	s.persist()
	return true, nil
}

// persist puts on disk what had to be kept in memory while the disk failed.
func (s *Spool) persist() {
	for {
		b, fl := s.first(func(fl *flush) bool { return !fl.stored && fl.tried && fl.data != nil })
		if fl == nil {
			return
		}
		size := onDisk(fl.size)
		s.mu.Lock()
		fits := s.bytes+size <= s.options.MaxBytes
		s.mu.Unlock()
		err := error(nil)
		if fits {
			err = s.store(flushName(fl.sequence), fl.data, nil)
		}
		s.mu.Lock()
		if fits && err == nil {
			s.memory -= fl.size
			s.bytes += size
			fl.size, fl.stored, fl.data = size, true, nil
			s.stats.Stored++
		}
		b.busy = b.adding
		s.wake()
		s.mu.Unlock()
		if err != nil {
			s.trouble(err)
		}
		if !fits || err != nil {
			return
		}
	}
}

// hold keeps a flush in memory. Where there is no room it returns a channel that is closed
// when something has changed.
func (s *Spool) hold(e *entry) <-chan struct{} {
	head := appendHeader(nil, e.header)
	size := int64(len(head)) + e.header.size()
	s.mu.Lock()
	defer s.mu.Unlock()
	// One that may be on disk already, in a batch with others, cannot wait: see part.
	if s.memory > 0 && s.memory+size > s.options.Memory && !(e.tried && len(e.batch.flushes) > 1) {
		return s.changed
	}
	e.data = slices.Grow(head, int(e.header.size()))
	for i := range e.header.blocks {
		e.data = append(e.data, e.header.blocks[i].body...)
	}
	s.memory += size
	e.size = size
	return nil
}

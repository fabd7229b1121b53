package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Batch is what is sent together. It belongs to whoever took it until Done, Return or
// SetAside.
type Batch struct {
	// ID is a number that is the batch's own; those of one process are near each other.
	ID      uint64
	Inserts []Insert // to be sent in this order
	b       *batch
}

// Insert is rows of one table and one part, under one token.
type Insert struct {
	Token string
	Table string
	Rows  int
	Kept  bool // of blocks that are kept
	pages []page
	spool *Spool
}

// page is where a block is.
type page struct {
	flush  *flush
	spool  uint64
	reason Reason
	block  packed
	at     int64
}

// Take waits for the oldest batch that nobody has and that is complete, and returns it
// once all its files have been read and found whole. It returns io.EOF after Finish,
// when there is none any more.
func (s *Spool) Take(ctx context.Context) (*Batch, error) {
	for {
		s.mu.Lock()
		b, wait := s.ripe()
		if b != nil {
			b.taken, b.closed = true, true
		}
		ended := s.finishing && len(s.batches) == 0
		changed := s.changed
		s.mu.Unlock()
		switch {
		case b != nil:
			if taken, err := s.check(b); taken != nil || err != nil {
				return taken, err
			}
			continue // nothing of it was left
		case ended:
			return nil, io.EOF
		}
		timer := time.NewTimer(wait)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		}
		timer.Stop()
	}
}

// ripe returns the oldest batch that nobody has, if it is complete, else how long that
// may take. s.mu is held.
func (s *Spool) ripe() (*batch, time.Duration) {
	const long = time.Hour
	i := slices.IndexFunc(s.batches, func(b *batch) bool { return !b.taken })
	if i < 0 || s.batches[i].busy {
		return nil, long
	}
	b := s.batches[i]
	wait := s.options.BatchAge - s.options.now().Sub(b.first)
	if b.closed || s.finishing || b.rows >= s.options.BatchRows || wait <= 0 {
		return b, 0
	}
	return nil, min(wait, s.options.BatchAge) // the clock may have been set back
}

// check reads all files of a batch, sets those aside that are damaged, and lists the
// inserts of the others. It returns nil if there are none.
func (s *Spool) check(b *batch) (*Batch, error) {
	t := &Batch{ID: b.run&^(1<<24-1) | b.group&(1<<24-1), b: b}
	for _, fl := range slices.Clone(b.flushes) {
		h, bodies, err := s.verify(fl)
		if err == nil && (h.sequence != fl.sequence || h.run != b.run || h.group != b.group) {
			err = errContent
		}
		switch {
		case err == nil:
		case !passes(err):
			if h, bodies, err = s.damaged(b, fl, err); h == nil && err == nil {
				continue
			}
		}
		if err != nil {
			s.Return(t)
			return nil, fmt.Errorf("spool: read flush %d: %w", fl.sequence, err)
		}
		at := bodies
		for i := range h.blocks {
			t.add(s, page{fl, h.spool, h.reason, h.blocks[i], at}, h)
			at += int64(h.blocks[i].length)
		}
	}
	if len(t.Inserts) == 0 {
		s.Done(t)
		return nil, nil
	}
	slices.SortStableFunc(t.Inserts, func(x, y Insert) int {
		switch {
		case x.Kept == y.Kept:
			return 0
		case y.Kept:
			return -1
		}
		return 1
	})
	return t, nil
}

// passes reports whether an error is of the process or of its rights, and says nothing of
// the file.
func passes(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// add adds a block to the insert that it is part of.
func (t *Batch) add(s *Spool, p page, h *header) {
	token := fmt.Sprintf("%016x/%d/%s/%d", h.run, h.group, p.block.table, p.block.insert)
	i := slices.IndexFunc(t.Inserts, func(i Insert) bool { return i.Token == token })
	if i < 0 {
		i = len(t.Inserts)
		t.Inserts = append(t.Inserts, Insert{Token: token, Table: p.block.table, Kept: p.block.kept, spool: s})
	}
	t.Inserts[i].Rows += p.block.rows
	t.Inserts[i].pages = append(t.Inserts[i].pages, p)
}

// source is where a flush is read from.
type source interface {
	io.ReaderAt
	Size() (int64, error)
	Close() error
}

type memory struct{ *bytes.Reader }

func (m memory) Size() (int64, error) { return m.Reader.Size(), nil }
func (memory) Close() error           { return nil }

func (s *Spool) source(fl *flush) (source, error) {
	if fl.stored {
		return s.disk.Open(flushName(fl.sequence))
	}
	return memory{bytes.NewReader(fl.data)}, nil
}

// verify reads a flush from the first octet to the last.
func (s *Spool) verify(fl *flush) (h *header, bodies int64, err error) {
	src, err := s.source(fl)
	if err != nil {
		return nil, 0, err
	}
	defer src.Close()
	size, err := src.Size()
	if err != nil {
		return nil, 0, err
	}
	if h, bodies, err = readHeader(src, size); err != nil {
		return h, bodies, err
	}
	at := bodies
	m := buffers.Get().(*buffer)
	defer buffers.Put(m)
	for i := range h.blocks {
		if m.body, err = readBody(src, &h.blocks[i], at, m.body); err != nil {
			return h, bodies, err
		}
		at += int64(h.blocks[i].length)
	}
	return h, bodies, nil
}

// buffer is what a block is read into.
type buffer struct {
	body  []byte
	block Block
}

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// ErrContent is the error of a block that can be read, with the right checksum, and is none
// that Flush.Add has made. To read it again does not help.
var ErrContent = errContent

// Blocks reads the blocks of an insert, one by one; each is valid until the next.
func (i *Insert) Blocks() iter.Seq2[*Block, error] {
	return func(yield func(*Block, error) bool) {
		var src source
		var of *flush
		defer func() {
			if src != nil {
				src.Close()
			}
		}()
		m := buffers.Get().(*buffer)
		defer buffers.Put(m)
		for _, p := range i.pages {
			err := error(nil)
			if of != p.flush {
				if src != nil {
					src.Close()
				}
				of = p.flush
				if src, err = i.spool.source(of); err != nil {
					src = nil
				}
			}
			if err == nil {
				m.body, err = readBody(src, &p.block, p.at, m.body)
			}
			if err == nil && p.block.unpack(m.body, &m.block) != nil {
				err = ErrContent
			}
			if err != nil {
				yield(nil, fmt.Errorf("spool: read flush %d: %w", p.flush.sequence, err))
				return
			}
			m.block.Spool, m.block.Sequence, m.block.Reason = p.spool, p.flush.sequence, p.reason
			if !yield(&m.block, nil) {
				return
			}
		}
	}
}

// Return gives a batch back that could not be sent.
func (s *Spool) Return(t *Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.b.taken = false
	s.wake()
}

// Package spool keeps rows on disk from the moment they are made until a server has
// acknowledged them.
//
// What is put in at a time is a flush: all of it is stored, or nothing, whenever the power
// is cut. It is one immutable file, written under another name, made durable (fsync of the
// file and of its folder) and only then renamed. Flushes that follow each other are sent
// together, as a batch, up to a number of rows and an age. Which flushes a batch has, and
// which insert of it each block belongs to, is fixed in the files before anything is sent,
// so that an insert has the same rows under the same token however often, and by whichever
// process, it is sent.
//
//	Put -> file, file, file, ...  -> Take -> send the inserts, in order -> Done
//
// Where the disk fails, flushes are kept in memory, up to a bound, and Put waits when that
// is reached. A file that cannot be read back is set aside and named. The package knows
// nothing of what the rows mean.
//
// A spool's folder holds:
//
//	NUMBER.flush    a flush; the number is its sequence
//	NUMBER.last     empty: the highest sequence that was used
//	NUMBER.tmp      being written; removed at the next start
//	aside/          flushes that were set aside, with the reason as the ending
//	id, lock        the random number of the spool; held by the process that uses it
package spool

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Policy says what is given up when there is no more room.
type Policy uint8

// Policies.
const (
	Oldest Policy = iota // the rows that have waited longest
	Newest               // those that come
	Wait                 // none: Put waits
)

// Options say where flushes are kept, and how many. The zero value keeps them in memory.
type Options struct {
	// Folder is a path; it is made if it is not there. "" keeps flushes in memory alone.
	Folder string
	// MaxBytes bounds the octets on disk, what was set aside included; 0 means 1 GiB.
	MaxBytes int64
	// MaxAge is how long rows may wait before they are given up; 0 means for ever.
	MaxAge time.Duration
	Full   Policy
	// Memory bounds the octets that wait in memory, where there is no disk or it fails; 0
	// means 64 MiB. A flush that is larger is taken if it is alone.
	Memory int64
	// BatchRows and BatchAge say when a batch is complete: when it has that many rows, 0
	// meaning 262,144, or its first flush is that old. A batch that has to wait for others
	// grows meanwhile.
	BatchRows int
	BatchAge  time.Duration
	// Log is told when the disk fails and works again, and of all that is given up or set
	// aside. nil means nobody.
	Log *slog.Logger

	disk disk             // in tests
	now  func() time.Time // in tests
}

// InsertRows bounds the rows of an insert. It is part of the format: it decides which
// blocks a token covers.
const InsertRows = 1 << 18

const (
	defaultMaxBytes = 1 << 30
	defaultMemory   = 64 << 20
)

// Spool is a queue of batches. Its methods may be called from any goroutine, but Put from
// one at a time.
type Spool struct {
	options Options
	disk    disk
	id, run uint64
	head    []byte // Put's

	mu        sync.Mutex
	took      bool // the folder
	lock      io.Closer
	changed   chan struct{} // closed, and another one made, when something has changed
	batches   []*batch      // in the order of their flushes
	next      uint64        // sequence of the next flush
	marked    uint64        // the highest sequence that NUMBER.last tells, 0 for none
	finishing bool
	bytes     int64 // on disk
	memory    int64
	asides    []asideFile
	broken    error // what the disk said last; nil if it works
	stats     Stats // counters alone
	said      map[string]time.Time
}

// batch is flushes that are sent together.
type batch struct {
	run, group uint64
	flushes    []*flush
	rows       int
	ends       []insertEnd
	first      time.Time // when its first flush was written
	closed     bool      // takes no more flushes
	taken      bool
	adding     bool // Put writes one more
	busy       bool // Put writes one more, or changes one: it is not to be taken
}

// insertEnd is the last insert of a batch into a table.
type insertEnd struct {
	table  string
	number uint32
	part   uint32
	rows   int
}

// flush is one flush of a batch.
type flush struct {
	spool    uint64 // its number
	sequence uint64
	written  time.Time
	rows     int   // that can be given up
	size     int64 // on disk, or in memory
	data     []byte
	tried    bool // to be put on disk
	stored   bool // it is there, else in data
}

// Open takes a folder into use and reads what waits in it. A folder that another process
// uses is an error; a disk that fails is not: flushes are kept in memory until it works.
func Open(o Options) (*Spool, error) {
	if o.MaxBytes <= 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.Memory <= 0 {
		o.Memory = defaultMemory
	}
	if o.BatchRows <= 0 {
		o.BatchRows = InsertRows
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.now == nil {
		o.now = time.Now
	}
	s := &Spool{options: o, disk: o.disk, id: random(), run: random(), next: 1, changed: make(chan struct{}), said: map[string]time.Time{}}
	if s.disk == nil && o.Folder != "" {
		s.disk = folder(o.Folder)
	}
	if s.disk == nil {
		return s, nil
	}
	if err := s.takeOver(); errors.Is(err, errLocked) {
		return nil, fmt.Errorf("spool %s: %w", o.Folder, err)
	} else if err != nil {
		s.trouble(err)
	}
	return s, nil
}

// random returns a number that no other process has.
func random() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

// ID returns the random number of the spool, which is kept in its folder.
func (s *Spool) ID() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

// wake tells those who wait that something has changed. s.mu is held.
func (s *Spool) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

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
	if b == nil || b.closed || b.taken || s.broken != nil || b.rows > 0 && b.rows+e.rows > s.options.BatchRows {
		if b != nil {
			b.closed = true
		}
		s.anew(e)
		return
	}
	s.join(e, b)
}

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
	s.works()
	s.mu.Lock()
	e.size, e.stored = size, true
	s.stats.Stored++
	s.mu.Unlock()
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

// Finish says that no flush will be put in any more: what is there is complete.
func (s *Spool) Finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finishing = true
	s.wake()
}

// Close gives up the folder. What is in it stays; what is in memory is lost, and the
// error says how much that is.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.lock != nil {
		err = s.lock.Close()
		s.lock = nil
	}
	lost := 0
	for _, b := range s.batches {
		for _, fl := range b.flushes {
			if !fl.stored {
				lost += fl.rows
			}
		}
	}
	if lost > 0 {
		err = errors.Join(err, fmt.Errorf("%d records were in memory alone and are lost", lost))
	}
	return err
}

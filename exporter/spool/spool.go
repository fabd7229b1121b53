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
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
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

	sweeping  sync.Mutex // held by who removes files
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
	left      []doneFile // to be removed once the disk works
	owes      bool       // the highest sequence is to be marked then
	broken    error      // what the disk said last; nil if it works
	stats     Stats      // counters alone
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

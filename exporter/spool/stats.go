package spool

import (
	"errors"
	"io/fs"
	"time"
)

// Stats is how a spool is.
type Stats struct {
	Folder string // "" for memory alone
	ID     uint64
	Err    error // why the disk is not used now; nil if it works

	// What waits.
	Batches  int
	Flushes  int
	Records  int
	Bytes    int64     // on disk, what was set aside included
	MaxBytes int64     // their bound
	Memory   int64     // octets that are in memory alone
	InMemory int       // flushes likewise
	Oldest   time.Time // when the oldest of them was written; zero if there is none
	Aside    int       // files that are set aside

	// Since Open.
	Stored    uint64             // flushes written to disk
	Sent      uint64             // batches acknowledged
	Failures  uint64             // times that the disk has failed
	SetAside  uint64             // files
	GivenUp   [numReasons]uint64 // records, by Reason
	Forgotten uint64             // flushes of which not even what is kept could be sent
	Lost      uint64             // records that found no room in memory before the end
}

// Waited returns how long the oldest flush has waited, 0 if none does.
func (t *Stats) Waited() time.Duration {
	if t.Oldest.IsZero() {
		return 0
	}
	return max(time.Since(t.Oldest), 0)
}

// add adds what was found in a folder.
func (t *Stats) add(found *Stats) {
	t.Failures += found.Failures
	t.SetAside += found.SetAside
	t.Forgotten += found.Forgotten
	for i, n := range found.GivenUp {
		t.GivenUp[i] += n
	}
}

// Stats returns how s is. It may be called from any goroutine.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.stats
	t.Folder, t.ID, t.Err = s.options.Folder, s.id, s.broken
	t.Batches, t.Bytes, t.MaxBytes, t.Memory, t.Aside = len(s.batches), s.bytes, s.options.MaxBytes, s.memory, len(s.asides)
	for _, b := range s.batches {
		t.Flushes += len(b.flushes)
		t.Records += b.rows
		for _, fl := range b.flushes {
			if !fl.stored {
				t.InMemory++
			}
			if t.Oldest.IsZero() || fl.written.Before(t.Oldest) {
				t.Oldest = fl.written
			}
		}
	}
	return t
}

// quiet is how long the same is not said again.
const quiet = time.Minute

// say logs what went wrong, not more than once a minute. Nobody holds s.mu meanwhile: who
// reads the log may be slow.
func (s *Spool) say(what string, args ...any) {
	s.mu.Lock()
	now := s.options.now()
	anew := now.Sub(s.said[what]).Abs() >= quiet
	if anew {
		s.said[what] = now
	}
	s.mu.Unlock()
	if anew {
		s.options.Log.Warn(what, append([]any{"spool", s.options.Folder}, args...)...)
	}
}

// trouble notes that the disk has failed.
func (s *Spool) trouble(err error) {
	s.mu.Lock()
	s.stats.Failures++
	anew := s.broken == nil || reason(s.broken) != reason(err)
	s.broken = err
	s.mu.Unlock()
	if anew {
		s.options.Log.Error("the spool's disk fails: what waits is in memory until it works again", "spool", s.options.Folder, "error", err)
	}
}

// works notes that the disk has taken a flush.
func (s *Spool) works() {
	s.mu.Lock()
	again := s.broken != nil
	s.broken = nil
	s.mu.Unlock()
	if again {
		s.options.Log.Info("the spool's disk works again", "spool", s.options.Folder)
	}
}

// gaveUp counts records that are given up.
func (s *Spool) gaveUp(why Reason, rows int, sequence uint64) {
	s.mu.Lock()
	s.stats.GivenUp[why] += uint64(rows)
	s.mu.Unlock()
	if rows > 0 {
		s.say("records were given up; the ledger says which", "reason", why, "records", rows, "flush", sequence)
	}
}

// reason is an error of the disk without the file's name, which is another each time.
func reason(err error) string {
	for path := new(fs.PathError); errors.As(err, &path); {
		err = path.Err
	}
	return err.Error()
}

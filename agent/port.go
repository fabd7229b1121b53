package agent

import (
	"errors"
	"sync/atomic"
	"time"

	"weir/capture"
	"weir/capture/afring"
	"weir/capture/link"
	"weir/flows"
)

// ring is one source of an interface and the meter that counts its packets. Its
// goroutine owns both; the others ask it for its table by next, and get it by full.
type ring struct {
	src   capture.Source
	meter *flows.Meter

	next atomic.Pointer[flows.Table] // an empty table to go on with; nil if nobody asks
	full chan filled                 // the answer

	stop  atomic.Bool   // read what has arrived, and end
	ended chan struct{} // closed at the end; last and err are valid then
	last  filled
	err   error

	stall *histogram
}

// filled is a table that was counted into, and what became of its packets.
type filled struct {
	table  *flows.Table
	ledger flows.Ledger
}

func newRing(src capture.Source, meter *flows.Meter, stall *histogram) *ring {
	return &ring{src: src, meter: meter, full: make(chan filled, 1), ended: make(chan struct{}), stall: stall}
}

// run meters packets until the ring is stopped or its source ends. It is the packet
// path: per batch it costs, besides the metering, one look at next.
func (r *ring) run() {
	defer close(r.ended)
	upTo := ^uint64(0) // how many packets are still to be delivered, all told
	for {
		packets, err := r.src.NextBatch()
		if len(packets) > 0 {
			r.meter.Add(packets)
		}
		if r.next.Load() != nil {
			r.rotate()
		}
		if err != nil && !errors.Is(err, capture.ErrUnblocked) {
			r.err = err
			break
		}
		if r.stop.Load() {
			s := r.src.Stats()
			if upTo == ^uint64(0) {
				upTo = s.Received - s.Drops
			}
			if s.Packets >= upTo || err == nil && len(packets) == 0 {
				break
			}
		}
	}
	cerr := r.src.Close()
	if r.err == nil {
		r.err = cerr
	}
	r.last.table, r.last.ledger = r.meter.Rotate(nil)
}

// rotate hands over the table. It is what a flush costs the packets.
func (r *ring) rotate() {
	began := time.Now()
	next := r.next.Swap(nil)
	var f filled
	f.table, f.ledger = r.meter.Rotate(next)
	r.full <- f // has room: nobody asks twice
	r.stall.observe(time.Since(began))
}

// drainFor is how long packets may take that are on their way when a ring is told to
// end: until the kernel hands their block over.
const drainFor = 3 * afring.DefaultRetireTimeout

// end lets no more packets in and has the ring stop once it has read those that are.
func (r *ring) end() {
	if src, ok := r.src.(interface{ Refuse() error }); ok {
		_ = src.Refuse() // where it fails, packets go on to come, and what comes too late is counted as lost
	}
	time.AfterFunc(drainFor, func() {
		r.stop.Store(true)
		r.src.Unblock()
	})
}

// ask has the ring go on with an empty table and hand over the one it has.
func (r *ring) ask(spare *flows.Table) {
	r.next.Store(spare)
	r.src.Unblock() // or an idle interface would keep it for up to a second
}

// answer returns what the ring has handed over since it was asked. If it has ended,
// that was its last table, and spare is the one that it did not need.
func (r *ring) answer() (f filled, spare *flows.Table, ended bool) {
	select {
	case f = <-r.full:
		return f, nil, false
	case <-r.ended:
	}
	select {
	case f = <-r.full: // just before the end; the last one comes at the next asking
		return f, nil, false
	default:
		return r.last, r.next.Swap(nil), true
	}
}

// port is one interface that is being captured on. It belongs to the rotator, but for
// what says otherwise.
type port struct {
	since                    time.Time
	before                   *trouble                      // why it could not be opened before; the manager's
	link                     link.Link                     // as it was opened
	name                     atomic.Pointer[string]        // as it is called now
	rings                    []*ring                       // those that have ended are gone from it
	sources                  []capture.Source              // of all rings there ever were
	tracker                  *flows.Tracker                // the tracking goroutine's
	stats                    capture.Stats                 // when the last interval was cut
	nic                      atomic.Pointer[link.Counters] // of the interface likewise; nil if nobody knows
	nicEnd                   atomic.Pointer[link.Counters] // of the interface when the rings were told to end; nil before
	part                     filled                        // of this interval: see Agent.collect
	tables                   chan *flows.Table             // empty ones
	ledger                   atomic.Pointer[flows.Ledger]  // of all intervals up to now
	records                  atomic.Uint64                 // made of those intervals
	size                     atomic.Int64                  // flows in the last interval
	begun                    uint64                        // flows up to the last interval; the tracking goroutine's
	lost                     flows.Ledger                  // drops and overflow that nothing was said of yet
	said                     time.Time                     // when something was
	excluded, excludedOctets atomic.Uint64                 // of those metered, by Config.Exclude
	settings                 string                        // what it was opened with
	end                      func()                        // has all rings end; the manager's
	ending                   bool                          // it was called
	left                     bool                          // Agent.leave was; the manager's
	err                      atomic.Pointer[error]         // why the first ring ended that did
}

// Stats returns the counts of all rings. It may be called from any goroutine.
func (p *port) Stats() (sum capture.Stats) {
	for _, src := range p.sources {
		s := src.Stats()
		sum.Packets += s.Packets
		sum.Received += s.Received
		sum.Drops += s.Drops
		sum.Freezes += s.Freezes
		sum.Filtered += s.Filtered
	}
	return sum
}

// totals returns what all intervals have counted so far.
func (p *port) totals() flows.Ledger {
	l := *p.ledger.Load()
	l.Records = p.records.Load()
	packets := p.excluded.Load()
	l.Metered -= packets
	l.Octets -= p.excludedOctets.Load()
	l.Causes[flows.Excluded] += packets
	return l
}

// fail notes why a ring has ended.
func (p *port) fail(err error) { p.err.CompareAndSwap(nil, &err) }

func (p *port) failure() error { return *p.err.Load() }

// table returns an empty table with room for a ring's share of the last interval's flows.
func (p *port) table(most int) (t *flows.Table) {
	select {
	case t = <-p.tables:
	default:
		t = flows.NewTable(most)
	}
	t.Reserve(int(p.size.Load()) / len(p.sources))
	return t
}

// free lets go of the empty tables.
func (p *port) free() {
	for {
		select {
		case <-p.tables:
		default:
			return
		}
	}
}

// recycle takes back a table that is used up.
func (p *port) recycle(t *flows.Table) {
	t.Reset()
	select {
	case p.tables <- t:
	default: // enough of them
	}
}

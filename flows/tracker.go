package flows

import (
	"math"
	"time"
)

// Tracker gives flows their life beyond one interval. It is handed the table of
// each interval, pairs the two directions of every conversation, remembers who
// began it and when, and says when it ends. It is the tracker of one interface
// and belongs to one goroutine, off the packet path.
type Tracker struct {
	cfg     TrackerConfig
	convs   hashmap[conv]
	stamp   uint32   // number of the current flush
	hand    uint32   // the cell that forget and evict look at next
	swept   int64    // until when forget has gone round, nanoseconds since the Unix epoch
	started uint64   // flows begun so far
	joined  []uint32 // conversation of each cell of the table in hand
	warm    uint64   // keeps the loads that warm the cache alive
	record  Record
}

// TrackerConfig bounds a Tracker. A zero Idle or Active means never.
type TrackerConfig struct {
	Idle    time.Duration // a flow without packets for this long has ended
	Active  time.Duration // a flow older than this ends and goes on as a new one
	Max     int           // conversations remembered; those of one table always find room
	Uniflow bool          // one record per direction, unpaired
}

// conv is a conversation: two endpoints, under a key that both directions lead
// to (see conversation).
type conv struct {
	start int64  // first packet ever, nanoseconds since the Unix epoch
	last  int64  // latest packet so far
	stamp uint32 // flush in which it was last seen
	cells uint32 // its cells in the table in hand, linked; number plus 1
	state state  // 0: the cell is free
	by    Initiator
	from  orientation // that of the initiator's packets
}

// state is what is known of a conversation's course.
type state uint8

const (
	seenUp    state = 1 << iota // packets in orientation 0
	seenDown                    // packets in orientation 1
	finUp                       // FIN in orientation 0
	finDown                     // FIN in orientation 1
	reset                       // RST in either
	ended                       // the end was reported
	straggled                   // and packets came in one interval after it
	renew                       // cut by the active timeout: its next packet begins a new flow
)

// NewTracker returns a tracker that remembers nothing yet.
func NewTracker(cfg TrackerConfig) *Tracker {
	return &Tracker{cfg: cfg, convs: newHashmap[conv](cfg.Max)}
}

// Started returns how many flows have begun so far.
func (t *Tracker) Started() uint64 { return t.started }

// Flush makes the records of an interval out of its table, in the order in which
// the conversations were first seen in it. end is when the interval ended,
// in nanoseconds since the Unix epoch. final says that nothing comes after: flows
// that have not ended are then ended by force. Flush uses the table up; emit must
// not keep the record.
func (t *Tracker) Flush(table *Table, end int64, final bool, emit func(*Record)) {
	t.stamp++
	t.join(table)
	for i, c := range t.joined {
		if i%batchSize == 0 {
			t.warmUp(table, t.joined[i:min(i+batchSize, len(t.joined))])
		}
		if v := &t.convs.at(c).val; v.cells != 0 { // else it came with an earlier cell
			t.report(c, v, table, end, final, emit)
		}
	}
	table.overflowRecords(emit)
	t.forget(end)
}

// join finds the conversation of each cell of the table and links the cells to it.
func (t *Tracker) join(table *Table) {
	n := table.Len()
	if cap(t.joined) < n || cap(t.joined) > 4*n+compactLeast {
		t.joined = make([]uint32, n, n+n/4)
	}
	t.joined = t.joined[:n]
	t.convs.max = max(t.convs.max, n)
	var keys [batchSize]Key
	var ways [batchSize]orientation
	var hashes [batchSize]uint64
	var cells [batchSize]uint32
	for base := 0; base < n; base += batchSize {
		size := min(batchSize, n-base)
		for i := range size {
			cell := table.flows.at(uint32(base + i))
			if t.cfg.Uniflow {
				keys[i] = cell.key
			} else {
				keys[i], ways[i] = conversation(&cell.key, cell.val.marks)
			}
			hashes[i] = processSeed.hash(&keys[i])
		}
		if len(t.convs.slots) > smallSlots {
			for _, c := range t.convs.likely(hashes[:size], &cells) {
				if c != 0 {
					v := t.convs.at(c - 1)
					t.warm += v.key.srcHi + uint64(v.val.state)
				}
			}
		}
		for i := range size {
			c, _, ok := t.convs.get(&keys[i], hashes[i])
			if !ok {
				t.evict()
				c, _, _ = t.convs.get(&keys[i], hashes[i])
			}
			v := &t.convs.at(c).val
			u := &table.flows.at(uint32(base + i)).val
			v.stamp = t.stamp
			u.way, u.link, v.cells = ways[i], v.cells, uint32(base+i)+1
			t.joined[base+i] = c
		}
	}
}

// warmUp reads ahead of report, as Table.add does: conversations, and of each the
// cell that the table has elsewhere.
func (t *Tracker) warmUp(table *Table, cs []uint32) {
	var cells [batchSize]uint32
	for i, c := range cs {
		v := t.convs.at(c)
		t.warm += v.key.srcHi
		cells[i] = v.val.cells
	}
	for _, c := range cells[:len(cs)] {
		if c != 0 {
			u := table.flows.at(c - 1)
			t.warm += u.key.srcHi + uint64(u.val.link)
		}
	}
}

// update takes in what the cells of a conversation tell, all directions together.
func (t *Tracker) update(key *Key, v *conv, table *Table) {
	var (
		first, last = int64(math.MaxInt64), int64(0)
		seen        state
		syn         bool
		by          Initiator
		from        orientation
		earliest    int64 // packet of the cell that by stems from
	)
	for i := v.cells; i != 0; {
		u := &table.flows.at(i - 1).val
		first, last = min(first, u.first), max(last, u.last)
		seen |= seenUp << u.way
		if u.flags&flagFIN != 0 {
			seen |= finUp << u.way
		}
		if u.flags&flagRST != 0 {
			seen |= reset
		}
		syn = syn || u.marks&markSYN != 0
		// The list runs from the cell that came last to that which came first.
		if b, f := evidence(key, u); b > by || b == by && u.first <= earliest {
			by, from, earliest = b, f, u.first
		}
		i = u.link
	}
	reused := v.state&ended != 0 && syn // the endpoints use their ports again
	switch {
	case v.state == 0 || reused || t.apart(v, first, last):
		*v = conv{start: first, last: last, stamp: v.stamp, cells: v.cells}
		t.started++
	case v.state&renew != 0:
		v.start, v.state = first, v.state&^renew
		t.started++
	}
	if v.state&straggled != 0 {
		// Packets in a second interval after the end: it was none. Nobody believed
		// the RST, or one side alone was seen and the other goes on.
		v.state &^= ended | straggled | reset | finUp | finDown
	}
	v.start, v.last, v.state = min(v.start, first), max(v.last, last), v.state|seen
	if by > v.by && !t.cfg.Uniflow {
		v.by, v.from = by, from
	}
}

// apart reports whether the idle timeout lies between v's packets and the time
// from first to last. That time is before them where a clock was set back or an
// older capture follows a newer one.
func (t *Tracker) apart(v *conv, first, last int64) bool {
	idle := int64(t.cfg.Idle)
	return idle > 0 && (first-v.last >= idle || v.start-last >= idle)
}

// endReason says whether a conversation ends with the interval, and why.
func (t *Tracker) endReason(v *conv, end int64, final bool) EndReason {
	idle := t.cfg.Idle > 0 && end-v.last >= int64(t.cfg.Idle)
	switch {
	case v.state&ended != 0:
		v.state |= straggled
		return EndNone // the end was told before
	case v.finished():
		v.state |= ended
		return EndEnd
	case idle:
		return EndIdle
	case final:
		return EndForced
	case t.cfg.Active > 0 && end-v.start >= int64(t.cfg.Active):
		v.state |= renew
		return EndActive
	}
	return EndNone
}

// finished reports whether TCP has ended the conversation: by RST, or by FIN from
// every side that was ever seen.
func (v *conv) finished() bool {
	seen, fin := v.state&(seenUp|seenDown), v.state&(finUp|finDown)>>2
	return v.state&reset != 0 || fin == seen
}

// sweepLeast is how many cells forget looks at in every flush, whatever the clock
// says. It is small because a capture whose clock jumps to and fro may cause a
// flush per packet.
const sweepLeast = 512

// forget frees conversations that are idle at time now, an interval's end. It
// goes round all cells once in each idle timeout, and at least as fast as the
// intervals bring new ones.
func (t *Tracker) forget(now int64) {
	if t.cfg.Idle <= 0 {
		return
	}
	n := 2 * len(t.joined)
	if now > t.swept {
		rounds := float64(now-t.swept) / float64(t.cfg.Idle)
		n += int(min(rounds, 1) * float64(t.convs.n))
		t.swept = now
	}
	n = max(n, sweepLeast)
	for range min(n, t.convs.n) {
		c := t.next()
		if v := &t.convs.at(c).val; v.state != 0 && t.apart(v, now, now) {
			t.drop(c)
		}
	}
	t.convs.compact()
}

// evict makes room by dropping the next conversation that was not seen in this
// flush. There is one: fewer conversations than the table has cells were seen,
// and the tracker holds as many as a table can.
func (t *Tracker) evict() {
	for range t.convs.n {
		c := t.next()
		if t.convs.at(c).val.stamp != t.stamp {
			t.drop(c)
			return
		}
	}
}

// next moves the hand on by one cell.
func (t *Tracker) next() uint32 {
	c := t.hand
	if c >= uint32(t.convs.n) {
		c = 0
	}
	t.hand = c + 1
	return c
}

func (t *Tracker) drop(c uint32) {
	t.convs.remove(c)
	t.convs.at(c).val = conv{}
}

package flows

// Table holds what was seen of each key in one interval: a flat map of counters,
// bounded, written by one goroutine. Adding to it does not allocate, but for the
// doubling of the map while it grows to the size of the traffic.
type Table struct {
	flows    hashmap[tally]
	overflow *overflow // nil until the table is full
	warm     uint64    // keeps the loads that warm the cache alive
}

// tally counts one key within one interval. It is 40 octets, as the key is.
type tally struct {
	packets uint64
	octets  uint64
	first   int64 // nanoseconds since the Unix epoch
	last    int64
	link    uint32 // the tracker's: the next cell of the same conversation, plus 1
	flags   uint8  // TCP flags, ORed
	marks   marks
	way     orientation // the tracker's: which way the packets go in their conversation
}

// marks are what key and ORed flags cannot tell.
type marks uint8

const (
	markSYN    marks = 1 << iota // a SYN without ACK was among the packets
	markSYNACK                   // a SYN with ACK was
	markICMP                     // an ICMP type was read: 0 is an echo reply and not a later fragment
)

// TCP flags (RFC 9293 section 3.1).
const (
	flagFIN = 0x01
	flagSYN = 0x02
	flagRST = 0x04
	flagACK = 0x10
)

// synMarks gives the mark by flags' SYN (bit 0) and ACK (bit 1).
var synMarks = [4]marks{1: markSYN, 3: markSYNACK}

// overflow counts packets whose flow found no room, by direction and protocol.
type overflow [3][256]tally

// NewTable returns an empty table for at most max flows, 1 or more.
func NewTable(max int) *Table {
	return &Table{flows: newHashmap[tally](max)}
}

// Len returns the number of flows.
func (t *Table) Len() int { return t.flows.n }

// Reset empties the table for its next use.
func (t *Table) Reset() {
	t.flows.reset()
	t.overflow = nil
}

// add counts packets. hashes are those of their keys. It returns how many wire
// packets found no room for their flow.
//
// Random access to a large table costs a cache miss or three a packet, and each
// waits for the one before: slot, key, counters. Done in steps over many packets,
// the misses of one step overlap: the processor waits for one memory latency and
// not for hundreds. BenchmarkTable has the figures.
func (t *Table) add(hs []Headers, hashes []uint64) (lost uint64) {
	m := &t.flows
	if len(m.slots) > smallSlots {
		var cells [batchSize]uint32
		for _, c := range m.likely(hashes, &cells) {
			if c != 0 {
				// A cell's first and last word: it may lie across two cache lines.
				cell := m.at(c - 1)
				t.warm += cell.key.srcHi + uint64(cell.val.link)
			}
		}
	}
	for i := range hs {
		h := &hs[i]
		c, made, ok := m.get(&h.Key, hashes[i])
		if !ok {
			t.lose(h)
			lost += uint64(h.Packets)
			continue
		}
		m.at(c).val.count(h, made)
	}
	return lost
}

// smallSlots is the size up to which the map fits the processor's own caches
// and touching it first is wasted work.
const smallSlots = 1 << 13

// count adds a packet to a tally; made says that it is the first.
func (t *tally) count(h *Headers, made bool) {
	t.packets += uint64(h.Packets)
	t.octets += h.Octets
	if made {
		t.first, t.last = h.Time, h.Time
	} else {
		t.first, t.last = min(t.first, h.Time), max(t.last, h.Time)
	}
	t.flags |= h.TCPFlags
	t.marks |= h.marks
}

// lose counts a packet of a flow without a place.
func (t *Table) lose(h *Headers) {
	o := t.overflowOf(&h.Key)
	o.count(h, o.packets == 0)
}

func (t *Table) overflowOf(k *Key) *tally {
	if t.overflow == nil {
		t.overflow = new(overflow)
	}
	return &t.overflow[k.Direction()][k.Proto()]
}

// overflowRecords appends one record for each direction and protocol that found
// no room. Its addresses are unspecified, its end reason is EndLack.
func (t *Table) overflowRecords(emit func(*Record)) {
	if t.overflow == nil {
		return
	}
	for d := range t.overflow {
		for proto := range t.overflow[d] {
			o := &t.overflow[d][proto]
			if o.packets == 0 {
				continue
			}
			emit(&Record{
				Key:     Key{rest: keyRest(0, 0, 0, uint8(proto), Direction(d))},
				Forward: o.counters(), First: o.first, Last: o.last, Start: o.first,
				EndReason: EndLack,
			})
		}
	}
}

func (t *tally) counters() Counters {
	return Counters{Packets: t.packets, Octets: t.octets, TCPFlags: t.flags}
}

// Reserve makes room for n flows, as far as the table's bound goes, so that adding
// them allocates nothing. The table must be empty.
func (t *Table) Reserve(n int) {
	t.flows.reserve(min(n, t.flows.max))
}

// Merge adds all that o holds, and leaves o as it is. It returns how many of the wire
// packets in o's flows found no room for their flow here: like o's overflow they are
// in the overflow of t then.
func (t *Table) Merge(o *Table) (lost uint64) {
	m := &t.flows
	for i := range uint32(o.flows.n) {
		from := o.flows.at(i)
		c, made, ok := m.get(&from.key, processSeed.hash(&from.key))
		if !ok {
			t.overflowOf(&from.key).add(&from.val)
			lost += from.val.packets
			continue
		}
		if v := &m.at(c).val; made {
			*v = from.val
		} else {
			v.add(&from.val)
		}
	}
	if o.overflow != nil {
		for d := range o.overflow {
			for proto := range o.overflow[d] {
				if from := &o.overflow[d][proto]; from.packets != 0 {
					key := Key{rest: keyRest(0, 0, 0, uint8(proto), Direction(d))}
					t.overflowOf(&key).add(from)
				}
			}
		}
	}
	return lost
}

// add adds another count of the same key.
func (t *tally) add(o *tally) {
	if t.packets == 0 {
		*t = *o
		return
	}
	t.packets += o.packets
	t.octets += o.octets
	t.first, t.last = min(t.first, o.first), max(t.last, o.last)
	t.flags |= o.flags
	t.marks |= o.marks
}

// Each calls fn with every key of the table as an unpaired record, overflow records
// last. fn must not keep the record.
func (t *Table) Each(fn func(*Record)) {
	var r Record
	for i := range uint32(t.flows.n) {
		c := t.flows.at(i)
		r = Record{Key: c.key, Forward: c.val.counters(), First: c.val.first, Last: c.val.last, Start: c.val.first}
		fn(&r)
	}
	t.overflowRecords(fn)
}

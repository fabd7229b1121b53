package flows

import (
	"net/netip"

	"weir/capture"
)

// batchSize is how many packets are decoded before their flows are looked up:
// enough for cache misses to overlap, few enough for their headers to stay in L1.
const batchSize = 128

// Decoder decodes packets in batches. Its configuration does not change, so that
// several goroutines may use one.
type Decoder struct {
	local []network
}

// NewDecoder returns a decoder. Where a packet's source does not know the
// direction, it is told by the addresses in local: out if only the source address
// is within, in if only the destination is.
func NewDecoder(local []netip.Prefix) *Decoder {
	d := new(Decoder)
	for _, p := range local {
		d.local = append(d.local, newNetwork(p))
	}
	return d
}

// Decoded is what is to be counted of a batch of packets. It points to none of
// their memory: packets can be given back as soon as they are decoded, and
// counted elsewhere. The zero value is empty.
type Decoded struct {
	n       int
	headers [batchSize]Headers
	hashes  [batchSize]uint64
	causes  [numVerdicts]uint8 // packets without a place in headers
	failed  int
}

// Decode decodes as many of the packets as d holds and returns the others. It
// does not allocate.
func (dec *Decoder) Decode(d *Decoded, packets []capture.Packet) (rest []capture.Packet) {
	if len(packets) > batchSize {
		packets, rest = packets[:batchSize], packets[batchSize:]
	}
	if d.failed != 0 {
		d.causes, d.failed = [numVerdicts]uint8{}, 0
	}
	d.n = 0
	for i := range packets {
		h := &d.headers[d.n]
		if v := h.Decode(&packets[i]); v != OK {
			d.causes[v]++
			d.failed++
			continue
		}
		if dec.local != nil && h.Key.Direction() == DirectionUnknown {
			h.Key.rest |= uint64(dec.direction(&h.Key))
		}
		d.hashes[d.n] = processSeed.hash(&h.Key)
		d.n++
	}
	return rest
}

// Meter counts packets into a table of flows and keeps the ledger. It belongs to
// one goroutine.
type Meter struct {
	decoder *Decoder
	table   *Table
	ledger  Ledger
	decoded *Decoded // of Add
}

// NewMeter returns a meter that fills table.
func NewMeter(decoder *Decoder, table *Table) *Meter {
	return &Meter{decoder: decoder, table: table}
}

// Add meters packets. It keeps nothing of them and does not allocate per packet.
func (m *Meter) Add(packets []capture.Packet) {
	if m.decoded == nil {
		m.decoded = new(Decoded)
	}
	for len(packets) > 0 {
		packets = m.decoder.Decode(m.decoded, packets)
		m.Count(m.decoded)
	}
}

// Count meters packets that are decoded already.
func (m *Meter) Count(d *Decoded) {
	var metered, octets uint64
	for i := range d.n {
		metered += uint64(d.headers[i].Packets)
		octets += d.headers[i].Octets
	}
	m.ledger.Packets += metered + uint64(d.failed)
	m.ledger.Metered += metered
	m.ledger.Octets += octets
	if d.failed != 0 {
		for v, n := range d.causes {
			m.ledger.Causes[v] += uint64(n)
		}
	}
	m.ledger.Overflow += m.table.add(d.headers[:d.n], d.hashes[:d.n])
}

// Rotate hands out the filled table and the ledger of its interval, and goes on
// with next, which must be empty.
func (m *Meter) Rotate(next *Table) (*Table, Ledger) {
	t, l := m.table, m.ledger
	m.table, m.ledger = next, Ledger{}
	return t, l
}

// network is a prefix as the key's words: an address lies in it if its masked
// words are equal.
type network struct{ hi, lo, maskHi, maskLo uint64 }

func newNetwork(p netip.Prefix) network {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96 // IPv4 is held as IPv4-mapped
	}
	k := NewKey(p.Addr(), p.Addr(), 0, 0, 0, 0, DirectionUnknown)
	n := network{maskHi: ^uint64(0) << max(64-bits, 0), maskLo: ^uint64(0) << min(128-bits, 64)}
	n.hi, n.lo = k.srcHi&n.maskHi, k.srcLo&n.maskLo
	return n
}

func (n *network) holds(hi, lo uint64) bool {
	return hi&n.maskHi == n.hi && lo&n.maskLo == n.lo
}

func (dec *Decoder) direction(k *Key) Direction {
	var src, dst bool
	for i := range dec.local {
		src = src || dec.local[i].holds(k.srcHi, k.srcLo)
		dst = dst || dec.local[i].holds(k.dstHi, k.dstLo)
	}
	switch {
	case src && !dst:
		return DirectionOut
	case dst && !src:
		return DirectionIn
	}
	return DirectionUnknown
}

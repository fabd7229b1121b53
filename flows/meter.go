package flows

import (
	"net/netip"

	"weir/capture"
)

// batchSize is how many packets are decoded before their flows are looked up:
// enough for cache misses to overlap, few enough for their headers to stay in L1.
const batchSize = 128

// Meter turns packets into a table of flows and keeps the ledger. It belongs to
// the goroutine that reads the packets.
type Meter struct {
	table   *Table
	ledger  Ledger
	local   []network
	headers [batchSize]Headers
	hashes  [batchSize]uint64
}

// NewMeter returns a meter that fills table. Where a packet's source does not know
// the direction, it is told by the addresses in local: out if only the source
// address is within, in if only the destination is.
func NewMeter(table *Table, local []netip.Prefix) *Meter {
	m := &Meter{table: table}
	for _, p := range local {
		m.local = append(m.local, newNetwork(p))
	}
	return m
}

// Add meters packets. It keeps nothing of them and does not allocate per packet.
func (m *Meter) Add(packets []capture.Packet) {
	for len(packets) > batchSize {
		m.add(packets[:batchSize])
		packets = packets[batchSize:]
	}
	m.add(packets)
}

func (m *Meter) add(packets []capture.Packet) {
	n := 0
	seed := &m.table.flows.seed
	var metered, octets, failed uint64
	for i := range packets {
		h := &m.headers[n]
		if v := h.Decode(&packets[i]); v != OK {
			m.ledger.Causes[v]++
			failed++
			continue
		}
		if m.local != nil && h.Key.Direction() == DirectionUnknown {
			h.Key.rest |= uint64(m.localDirection(&h.Key))
		}
		metered += uint64(h.Packets)
		octets += h.Octets
		m.hashes[n] = seed.hash(&h.Key)
		n++
	}
	m.ledger.Packets += metered + failed
	m.ledger.Metered += metered
	m.ledger.Octets += octets
	m.ledger.Overflow += m.table.add(m.headers[:n], m.hashes[:n])
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

func (m *Meter) localDirection(k *Key) Direction {
	var src, dst bool
	for i := range m.local {
		src = src || m.local[i].holds(k.srcHi, k.srcLo)
		dst = dst || m.local[i].holds(k.dstHi, k.dstLo)
	}
	switch {
	case src && !dst:
		return DirectionOut
	case dst && !src:
		return DirectionIn
	}
	return DirectionUnknown
}

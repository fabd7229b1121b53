// Package mock has capture sources that need no interface, for tests of programs
// that capture. Their packets go the way of real ones: a [Ring] plays the kernel on
// one side of a block of memory, and afring's own code reads the other. A [Socket]
// does the same for a plain packet socket and the code of afpacket.
//
//	ring, err := mock.NewRing("test0", capture.LinkEthernet, afring.Config{})
//	...
//	ring.Add(&packet)
//	ring.End()
//	program(ring.Source())
package mock

import (
	"encoding/binary"
	"time"

	"weir/capture"
	"weir/capture/afring"
)

// Ring plays the kernel for one ring. Its methods may be called from any goroutine.
type Ring struct {
	host
	source *afring.Ring
	layout afring.Layout

	// Under the lock.
	pages   []byte
	current int    // block being filled
	number  uint64 // its sequence number
	at      int    // where the next frame begins, 0 if the block is not opened
	last    int    // where the last one began
	packets uint32 // in the block
	frozen  bool   // the ring is full
	timer   *time.Timer
	round   uint64 // packets in the ring, if it is endless
}

// NewRing returns a ring for packets of a link type. The configuration counts as it
// would for an interface: filter, capture length, what is ignored.
func NewRing(name string, link capture.LinkType, c afring.Config) (m *Ring, err error) {
	m = &Ring{number: 1}
	if err := m.prepare(m, name, link, &c.Config); err != nil {
		return nil, err
	}
	if m.source, m.pages, err = afring.Connect((*port)(&m.host), m.iface, c); err != nil {
		return nil, err
	}
	m.layout = m.source.Layout()
	m.timer = time.AfterFunc(time.Hour, m.Flush)
	m.timer.Stop()
	return m, nil
}

// Source returns what the program under test reads.
func (m *Ring) Source() *afring.Ring { return m.source }

// Flush hands over the block that is being filled, as the retire timeout does.
func (m *Ring) Flush() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flush()
}

func (m *Ring) flush() { m.retire() }

// align rounds up to a multiple of n, a power of two.
func align(v, n int) int { return (v + n - 1) &^ (n - 1) }

var native = binary.NativeEndian

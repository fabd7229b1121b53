package mock

import (
	"errors"
	"fmt"

	"weir/capture"
	"weir/capture/afring"
)

// Endless fills the whole ring with the packets, over and over, and from then on
// hands the same blocks to the reader again whenever it has given them all back. The
// ring takes no other packets. It is for benchmarks: what the reader does is all
// that takes time.
func (m *Ring) Endless(packets []capture.Packet) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counts.Received > 0 || m.closed || m.ended != nil {
		return fmt.Errorf("mock of %s: it has been used already", m.iface.Name)
	}
	received := m.counts.Received
	for verdict := Queued; verdict != Dropped; {
		took := false
		for i := range packets {
			verdict = m.add(&packets[i])
			took = took || verdict == Queued
			if verdict == Dropped {
				break
			}
		}
		if !took && verdict != Dropped {
			return errors.New("mock: the filter refuses all the packets")
		}
	}
	m.counts.Received--
	m.counts.Drops, m.counts.Freezes = 0, 0
	m.round = m.counts.Received - received
	m.ended = errSaid
	return nil
}

// again hands over all blocks once more. The reader waits, so it has none of them.
func (m *Ring) again() {
	for i := range m.layout.Blocks {
		b := m.block(i)
		if afring.HandedOver(b) {
			return // it has not come to the end of the round yet
		}
		native.PutUint64(b[24:], m.number)
		m.number++
		afring.HandOver(b)
	}
	m.counts.Received += m.round
}

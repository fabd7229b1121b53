package mock

import (
	"fmt"

	"weir/capture"
	"weir/capture/afring"
	"weir/capture/socket"
)

// Endless fills the whole ring with the packets, over and over, and from then on
// hands the same blocks to the reader again whenever it has given them all back. The
// ring takes no other packets. It is for benchmarks: what the reader does is all
// that takes time.
func (m *Ring) Endless(packets []capture.Packet) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counts != (socket.Counts{}) || m.over() {
		return fmt.Errorf("mock of %s: it has been used already", m.iface.Name)
	}
	for full := false; !full; {
		queued := m.counts.Received
		for i := range packets {
			captured, ok := m.accepted(&packets[i])
			if full = m.add(&packets[i], captured, ok) == Dropped; full {
				break
			}
		}
		if m.counts.Received == queued {
			return fmt.Errorf("mock of %s: the filter refuses all the packets", m.iface.Name)
		}
	}
	m.round = m.counts.Received - m.counts.Drops
	m.counts = socket.Counts{Received: m.round}
	m.ended = errSaid
	return nil
}

// refill hands over all blocks of an endless ring once more.
func (m *Ring) refill() {
	if m.round == 0 || m.closed {
		return
	}
	for i := range m.layout.Blocks {
		if afring.HandedOver(m.block(i)) {
			return // the reader has not come to the end of the round yet
		}
	}
	for i := range m.layout.Blocks {
		b := m.block(i)
		native.PutUint64(b[24:], m.number)
		m.number++
		afring.HandOver(b)
	}
	m.counts.Received += m.round
}

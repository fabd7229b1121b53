package socket

import (
	"weir/capture"
)

// Common is what the sources over a port say of themselves, each in the same way.
// Its methods may be called from any goroutine.
type Common struct {
	gate    *Gate
	ifaces  []capture.Interface
	snaplen uint32
	group   uint16
}

// NewCommon returns what to embed in a source on an interface, of whose packets
// snaplen octets are captured at most, and which is in a fanout group if group is
// not 0.
func NewCommon(g *Gate, iface capture.Interface, snaplen uint32, group uint16) Common {
	return Common{gate: g, ifaces: []capture.Interface{iface}, snaplen: snaplen, group: group}
}

// Interfaces returns the one interface of the source. Its slice must not be changed.
func (c *Common) Interfaces() []capture.Interface { return c.ifaces }

// CaptureLength returns the most octets that Packet.Data has.
func (c *Common) CaptureLength() uint32 { return c.snaplen }

// FanoutGroup returns the group's number for others to join, 0 if there is none.
func (c *Common) FanoutGroup() uint16 { return c.group }

// Stats returns the counts since the source was opened; also after Close, then up to
// it. Packets that were still to be read at Close are Received, but neither in
// Packets nor in Drops.
func (c *Common) Stats() capture.Stats {
	// In this order, or packets could be delivered that are not yet received.
	n := c.gate.delivered.Load()
	p := c.gate.port.Counts()
	return capture.Stats{Packets: n, Received: max(p.Received, n), Drops: p.Drops, Freezes: p.Freezes, Filtered: p.Filtered}
}

// Refuse lets no more packets in, so that a capture can end without losing any: once
// those that are in have been read, which takes up to the retire timeout to arrive,
// Received is Packets + Drops.
func (c *Common) Refuse() error { return c.gate.port.Refuse() }

// Unblock makes NextBatch return capture.ErrUnblocked: now, if it is waiting, else
// at its next call.
func (c *Common) Unblock() error {
	c.gate.interrupt()
	return nil
}

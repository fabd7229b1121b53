package mock

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"weir/capture"
	"weir/capture/filter"
	"weir/capture/socket"
)

// Verdict is what became of a packet.
type Verdict uint8

const (
	Queued   Verdict = iota + 1 // it is where the reader finds it
	Filtered                    // it was refused: by the filter, or by a rule that comes before it
	Dropped                     // there was no room
	Ended                       // no more packets are taken
)

// host is the part of the kernel that rings and sockets have in common: which
// packets they get, who waits for what, and how it ends.
type host struct {
	buffer buffer
	config socket.Config
	iface  capture.Interface
	vm     *filter.VM

	mu      sync.Mutex
	counts  socket.Counts
	changed chan struct{} // closed when something has changed
	woken   bool
	ended   error // what Wait returns when all is read
	closed  bool
	refused bool
	each    func(*capture.Packet)
}

// buffer is where packets wait for their reader. The lock is held.
type buffer interface {
	// room reports whether put would find room.
	room(p *capture.Packet, captured int) bool
	// put adds a packet, if there is room.
	put(p *capture.Packet, captured int) bool
	// flush gives the reader all there is.
	flush()
	// refill is called when the reader waits and there is nothing.
	refill()
}

// prepare assembles the filter, as for an interface.
func (h *host) prepare(b buffer, name string, link capture.LinkType, c *socket.Config) error {
	h.buffer, h.config, h.changed = b, *c, make(chan struct{})
	h.iface = capture.Interface{Name: name, LinkType: link, Index: 1}
	program, err := filter.Config{LinkType: link, Length: c.CaptureLength, IgnoreVLANs: c.IgnoreVLANs, All: c.NoFilter, Extra: c.Filter}.Assemble()
	if err == nil {
		h.vm, err = filter.NewVM(program)
	}
	if err != nil {
		return fmt.Errorf("mock of %s: %w", name, err)
	}
	return nil
}

// OnPacket has fn called with each packet that is queued, as it was given. fn must
// not call the mock's methods.
func (h *host) OnPacket(fn func(*capture.Packet)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.each = fn
}

// Add gives the mock a packet, as an interface gives it to the kernel. It does not
// wait: without room the packet is dropped and counted. It keeps nothing of it.
//
// Link type and interface of the packet do not matter. A packet of an unknown type is
// one to this host.
func (h *host) Add(p *capture.Packet) Verdict {
	h.mu.Lock()
	defer h.mu.Unlock()
	captured, ok := h.accepted(p)
	return h.add(p, captured, ok)
}

// AddWait is Add, but waits until there is room. The error is that of ctx, or
// capture.ErrClosed.
func (h *host) AddWait(ctx context.Context, p *capture.Packet) (Verdict, error) {
	for {
		h.mu.Lock()
		captured, ok := h.accepted(p)
		if !ok || h.over() || h.buffer.room(p, captured) {
			v := h.add(p, captured, ok)
			h.mu.Unlock()
			if v == Ended {
				return v, fmt.Errorf("mock of %s: %w", h.iface.Name, capture.ErrClosed)
			}
			return v, nil
		}
		changed := h.changed
		h.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// Pipe gives the mock all packets of a source, waiting for room, until the source
// ends, which is no error. It neither closes the source nor ends the mock. When ctx
// ends, the source is unblocked.
func (h *host) Pipe(ctx context.Context, src capture.Source) error {
	defer context.AfterFunc(ctx, func() { src.Unblock() })()
	for {
		packets, err := src.NextBatch()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("mock of %s: %w", h.iface.Name, err)
		}
		for i := range packets {
			if _, err := h.AddWait(ctx, &packets[i]); err != nil {
				return err
			}
		}
	}
}

// End ends the packets: after the last one NextBatch returns io.EOF.
func (h *host) End() { h.end(io.EOF) }

// LinkGone deletes the interface: after the last packet NextBatch returns
// capture.ErrLinkGone.
func (h *host) LinkGone() { h.end(capture.ErrLinkGone) }

func (h *host) end(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended == nil {
		h.buffer.flush()
		h.ended = err
		h.notify()
	}
}

func (h *host) over() bool { return h.closed || h.ended != nil }

func (h *host) add(p *capture.Packet, captured int, accepted bool) Verdict {
	if h.over() {
		return Ended
	}
	if !accepted {
		h.counts.Filtered++
		return Filtered
	}
	h.counts.Received++
	if !h.buffer.put(p, captured) {
		h.counts.Drops++
		return Dropped
	}
	if h.each != nil {
		h.each(p)
	}
	return Queued
}

// notify wakes all who wait.
func (h *host) notify() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// port is what the reader knows of it.
type port host

var _ socket.Port = (*port)(nil)

func (p *port) Wait(ready func() bool, deadline time.Time) error {
	h := (*host)(p)
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	h.mu.Lock()
	h.woken = false // of an earlier Wake ready tells, as of one before a socket's deadline is set
	h.mu.Unlock()
	for {
		h.mu.Lock()
		h.notify() // what the reader gave back makes room
		changed, woken, ended := h.changed, h.woken, h.ended
		h.mu.Unlock()
		// Not under the lock, which it may take; what changes from here on is
		// told by changed.
		if ready() {
			return nil
		}
		if woken {
			return os.ErrDeadlineExceeded
		}
		switch ended {
		case nil:
		case errSaid:
			h.mu.Lock()
			h.buffer.refill()
			h.mu.Unlock()
			if ready() {
				return nil
			}
		case capture.ErrLinkGone:
			h.mu.Lock()
			h.ended = errSaid
			h.mu.Unlock()
			return ended
		default:
			return ended
		}
		select {
		case <-changed:
		case <-timer.C:
			return os.ErrDeadlineExceeded
		}
	}
}

// errSaid stands for an end that the reader is not told of, or not again: the kernel
// says once that an interface is gone.
var errSaid = errors.New("said")

func (p *port) Wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.woken = true
	(*host)(p).notify()
}

func (p *port) Counts() socket.Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

func (p *port) Refuse() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused = true
	return nil
}

func (p *port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	(*host)(p).notify()
	return nil
}

// refuses reports whether the kernel would not even ask the filter.
func (h *host) refuses(p *capture.Packet) bool {
	if h.refused {
		return true
	}
	switch p.Type {
	case capture.PacketOutgoing: // dev_queue_xmit_nit of net/core/dev.c; see socket.Config
		return h.config.IgnoreOutgoing || h.iface.LinkType == capture.LinkLoopback
	case capture.PacketLoopback: // tpacket_rcv and packet_rcv: it was seen on its way out
		return true
	case capture.PacketOtherHost: // the card's work
		return !h.config.Promiscuous
	}
	return false
}

// accepted returns how many octets of the packet are captured, and whether it is
// accepted at all.
func (h *host) accepted(p *capture.Packet) (captured int, ok bool) {
	if h.refuses(p) {
		return 0, false
	}
	n := h.vm.Run(p.Data, filter.Metadata{
		Protocol: h.protocol(p), PacketType: packetType(p), Interface: uint32(h.iface.Index), RxHash: p.RxHash,
		VLANTCI: p.VLANTCI, VLANTPID: p.VLANTPID, VLANPresent: p.VLANTPID != 0, Len: wireLen(p),
	})
	return min(int(n), len(p.Data)), n > 0
}

func packetType(p *capture.Packet) uint8 {
	if p.Type == capture.PacketUnknown {
		return uint8(capture.PacketHost)
	}
	return uint8(p.Type)
}

func wireLen(p *capture.Packet) uint32 { return max(p.WireLen, uint32(len(p.Data))) }

// The kernel's own numbers in the place of an EtherType (linux/if_ether.h).
const (
	ethP8023     = 0x0001 // of 802.3 frames that begin as only one protocol's do
	ethP8022     = 0x0004 // of 802.3 frames else
	minEtherType = 0x0600
)

// protocol returns the EtherType that the kernel would find (eth_type_trans of
// net/ethernet/eth.c).
func (h *host) protocol(p *capture.Packet) uint16 {
	switch h.iface.LinkType {
	case capture.LinkCooked:
		return p.Protocol
	case capture.LinkEthernet, capture.LinkLoopback:
		if len(p.Data) < 14 {
			return 0
		}
		etherType := binary.BigEndian.Uint16(p.Data[12:])
		switch {
		case etherType >= minEtherType:
			return etherType
		case len(p.Data) >= 16 && p.Data[14] == 0xff && p.Data[15] == 0xff:
			return ethP8023
		}
		return ethP8022
	}
	switch h.network(p).Version {
	case 4:
		return 0x0800
	case 6:
		return 0x86dd
	}
	return 0
}

// network finds the IP header of a packet that begins as the interface's do.
func (h *host) network(p *capture.Packet) capture.Network {
	q := *p
	q.LinkType = h.iface.LinkType
	return q.Network()
}

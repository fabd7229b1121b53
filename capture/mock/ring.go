// Package mock has capture sources that need no interface, for tests of programs
// that capture. Their packets go the way of real ones: a [Ring] plays the kernel on
// one side of a block of memory, and afring's own code reads the other.
//
//	ring, err := mock.NewRing("test0", capture.LinkEthernet, afring.Config{})
//	...
//	ring.Add(&packet)
//	ring.End()
//	program(ring.Source())
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
	"weir/capture/afring"
	"weir/capture/filter"
	"weir/capture/socket"
)

// The layout of TPACKET_V3, which the kernel has in include/uapi/linux/if_packet.h.
const (
	blockHeaderLen = 48 // struct tpacket_block_desc
	frameHeaderLen = 48 // struct tpacket3_hdr
	addressLen     = 20 // struct sockaddr_ll
	minLinkRoom    = 16 // for the link-layer header, however short it is

	statusVLANValid = 1 << 4 // TP_STATUS_VLAN_VALID
	statusVLANTPID  = 1 << 6 // TP_STATUS_VLAN_TPID_VALID
	versionV3       = 2      // TPACKET_V3
)

// Verdict is what became of a packet.
type Verdict uint8

const (
	Queued   Verdict = iota + 1 // it is in the ring
	Filtered                    // the filter refused it
	Dropped                     // there was no room
	Ended                       // the ring takes no more
)

// Ring plays the kernel for one ring. Its methods may be called from any goroutine.
type Ring struct {
	source *afring.Ring
	layout afring.Layout
	config afring.Config
	iface  capture.Interface
	vm     *filter.VM

	mu      sync.Mutex
	pages   []byte
	current int    // block being filled
	number  uint64 // its sequence number
	at      int    // where the next frame begins, 0 if the block is not opened
	last    int    // where the last one began
	packets uint32 // in the block
	frozen  bool   // the ring is full
	counts  socket.Counts
	timer   *time.Timer
	changed chan struct{} // closed when something has changed
	woken   bool
	ended   error // what Wait returns when all is read
	closed  bool
	each    func(*capture.Packet)
	round   uint64 // packets in the ring, if it is endless
}

// NewRing returns a ring for packets of a link type. The configuration counts as it
// would for an interface: filter, capture length, what is ignored.
func NewRing(name string, link capture.LinkType, c afring.Config) (*Ring, error) {
	m := &Ring{config: c, iface: capture.Interface{Name: name, LinkType: link, Index: 1}, number: 1, changed: make(chan struct{})}
	program, err := filter.Config{LinkType: link, Length: c.CaptureLength, IgnoreVLANs: c.IgnoreVLANs, All: c.NoFilter, Extra: c.Filter}.Assemble()
	if err != nil {
		return nil, fmt.Errorf("mock of %s: %w", name, err)
	}
	if m.vm, err = filter.NewVM(program); err != nil {
		return nil, fmt.Errorf("mock of %s: %w", name, err)
	}
	if m.source, m.pages, err = afring.Connect((*port)(m), m.iface, c); err != nil {
		return nil, err
	}
	m.layout = m.source.Layout()
	m.timer = time.AfterFunc(time.Hour, m.timeout)
	m.timer.Stop()
	return m, nil
}

// Source returns what the program under test reads.
func (m *Ring) Source() *afring.Ring { return m.source }

// OnPacket has fn called with each packet that is put into the ring, as it was
// given. fn must not call the ring's methods.
func (m *Ring) OnPacket(fn func(*capture.Packet)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.each = fn
}

// Add gives the ring a packet, as an interface gives it to the kernel. It does not
// wait: without room the packet is dropped and counted. It keeps nothing of it.
//
// Link type and interface of the packet do not matter. A packet of an unknown type is
// one to this host.
func (m *Ring) Add(p *capture.Packet) Verdict {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.add(p)
}

// AddWait is Add, but waits until there is room. The error is that of ctx, or
// capture.ErrClosed.
func (m *Ring) AddWait(ctx context.Context, p *capture.Packet) (Verdict, error) {
	for {
		m.mu.Lock()
		if m.room(p) {
			v := m.add(p)
			m.mu.Unlock()
			if v == Ended {
				return v, fmt.Errorf("mock of %s: %w", m.iface.Name, capture.ErrClosed)
			}
			return v, nil
		}
		changed := m.changed
		m.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// Flush hands over the block that is being filled, as the retire timeout does.
func (m *Ring) Flush() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.retire()
}

// End ends the packets: after the last one NextBatch returns io.EOF.
func (m *Ring) End() { m.end(io.EOF) }

// LinkGone deletes the interface: after the last packet NextBatch returns
// capture.ErrLinkGone.
func (m *Ring) LinkGone() { m.end(capture.ErrLinkGone) }

func (m *Ring) end(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended == nil {
		m.retire()
		m.ended = err
		m.notify()
	}
}

// Pipe puts all packets of a source into the ring, waiting for room, until the
// source ends, which is no error. It neither closes the source nor ends the ring.
func (m *Ring) Pipe(ctx context.Context, src capture.Source) error {
	for {
		packets, err := src.NextBatch()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("mock of %s: %w", m.iface.Name, err)
		}
		for i := range packets {
			if _, err := m.AddWait(ctx, &packets[i]); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// notify wakes all who wait.
func (m *Ring) notify() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// timeout is when the block in hand has waited long enough.
func (m *Ring) timeout() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.retire()
}

// port is the side of the ring that its reader knows.
type port Ring

var _ socket.Port = (*port)(nil)

func (p *port) Wait(ready func() bool, deadline time.Time) error {
	m := (*Ring)(p)
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	for {
		m.mu.Lock()
		if m.round > 0 && !m.closed && !ready() {
			m.again()
		}
		m.notify() // blocks that were given back make room
		changed, woken, ended := m.changed, m.woken, m.ended
		m.woken = false
		arrived := ready()
		m.mu.Unlock()
		switch {
		case arrived:
			return nil
		case woken:
			return os.ErrDeadlineExceeded
		case errors.Is(ended, capture.ErrLinkGone):
			m.mu.Lock()
			m.ended = errSaid
			m.mu.Unlock()
			return ended
		case ended != nil && ended != errSaid:
			return ended
		}
		select {
		case <-changed:
		case <-timer.C:
			return os.ErrDeadlineExceeded
		}
	}
}

// errSaid stands for an end that the reader was told of; the kernel says it once.
var errSaid = errors.New("said")

func (p *port) Wake() {
	m := (*Ring)(p)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.woken = true
	m.notify()
}

func (p *port) Counts() socket.Counts {
	m := (*Ring)(p)
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.counts
}

func (p *port) Close() error {
	m := (*Ring)(p)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.timer.Stop()
	m.notify()
	return nil
}

// align rounds up to a multiple of n, a power of two.
func align(v, n int) int { return (v + n - 1) &^ (n - 1) }

var native = binary.NativeEndian

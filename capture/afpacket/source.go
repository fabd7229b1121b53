// Package afpacket captures with a plain packet socket, for where there can be no
// ring: packets are copied by the kernel, many with one system call (recvmmsg(2)).
// A [Source] has the same faces as the ring of capture/afring, and the same
// metadata.
package afpacket

import (
	"fmt"
	"sync"
	"time"

	"weir/capture"
	"weir/capture/link"
	"weir/capture/socket"
)

// batchSize is how many packets are fetched with one system call, at most.
const batchSize = 64

// Port is where a source's packets come from.
type Port interface {
	socket.Port
	// Receive copies packets that have arrived, one into each of the buffers, and
	// describes them but for LinkType and Interface. It returns their number, 0 if
	// there are none. It does not wait.
	Receive(packets []capture.Packet, buffers [][]byte) (int, error)
}

// Source is a [capture.Source] over a packet socket.
//
// NextBatch belongs to one goroutine. All other methods may be called from any.
type Source struct {
	socket.Common
	port Port
	gate *socket.Gate

	mu      sync.Mutex // held by NextBatch while it runs, and by Close
	closed  bool
	arrived int   // packets that a wait found
	failed  error // what it found instead
	buffers [batchSize][]byte
	batch   [batchSize]capture.Packet
}

var _ capture.Source = (*Source)(nil)

// NewSource opens a source on the interface of that name.
func NewSource(iface string, options ...Option) (*Source, error) {
	l, err := link.ByName(iface)
	if err != nil {
		return nil, fmt.Errorf("capture on %s: %w", iface, err)
	}
	return NewSourceFromLink(l, options...)
}

// NewSourceFromLink opens a source on an interface.
func NewSourceFromLink(l link.Link, options ...Option) (*Source, error) {
	var c Config
	for _, o := range options {
		o(&c)
	}
	return Open(l, c)
}

// Open opens a source on an interface. It needs CAP_NET_RAW in the network
// namespace of the calling thread. For its errors see [socket.Open].
func Open(l link.Link, c Config) (*Source, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("capture on %s: %w", l.Name, err)
	}
	s, err := socket.Open(l, &c.Config, kind{&c})
	if err != nil {
		return nil, err
	}
	return connect(newReceiver(s), s.Interface(), s.FanoutGroup(), &c), nil
}

// Connect makes a source of a port that need not be the kernel's.
func Connect(p Port, iface capture.Interface, c Config) (*Source, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("capture on %s: %w", iface.Name, err)
	}
	return connect(p, iface, 0, &c), nil
}

func connect(p Port, iface capture.Interface, group uint16, c *Config) *Source {
	s := &Source{port: p}
	s.gate = socket.NewGate(p, iface.Name, s.receive, 10*time.Millisecond, c.BusyPoll)
	snaplen := c.CaptureLength.Max(iface.LinkType)
	s.Common = socket.NewCommon(s.gate, iface, snaplen, group)
	memory := make([]byte, batchSize*int(snaplen)) // pages that no packet reaches are never touched
	for i := range s.batch {
		s.batch[i].LinkType = iface.LinkType
		s.buffers[i], memory = memory[:snaplen:snaplen], memory[snaplen:]
	}
	return s
}

// receive fetches packets and reports whether there is something to do.
func (s *Source) receive() bool {
	if s.arrived == 0 && s.failed == nil {
		s.arrived, s.failed = s.port.Receive(s.batch[:], s.buffers[:])
	}
	return s.arrived > 0 || s.failed != nil
}

// NextBatch returns the packets that have arrived, at most 64. It waits for them up
// to a second, then returns an empty batch. Errors: capture.ErrUnblocked once after
// Unblock, capture.ErrClosed after Close, capture.ErrLinkGone when the interface was
// deleted and all its packets are delivered; all but the first stay. That the
// interface is down is no error.
//
// The packets are borrowed until the next call. The caller may change their
// descriptors but for LinkType and Interface, which are not written again.
func (s *Source) NextBatch() ([]capture.Packet, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if err := s.gate.Pass(); err != nil {
			return nil, err
		}
		if !s.receive() {
			if empty, err := s.gate.Wait(); empty || err != nil {
				return nil, err
			}
			continue
		}
		if s.failed != nil {
			return nil, s.gate.Fail(s.failed)
		}
		n := s.arrived
		s.arrived = 0
		s.gate.Deliver(n)
		return s.batch[:n], nil
	}
}

// Close ends the capture. It waits for a call of NextBatch that is under way, which
// returns at once. The last batch stays readable: its memory is the process's own.
func (s *Source) Close() error {
	s.gate.Shut()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.gate.Fail(capture.ErrClosed)
	return s.port.Close()
}

// Package afring captures with a ring of packets that the kernel shares with the
// process: TPACKET_V3 of packet(7), described in
// Documentation/networking/packet_mmap.rst.
//
// The ring consists of blocks. The kernel fills one with packets of varying length
// and hands it over when it is full, or when its retire timeout has passed. A [Ring]
// describes the packets where they lie, in batches, and gives the block back when
// its last batch has been used. Nothing is copied, and nothing is allocated per
// packet or per batch.
//
//	ring, err := afring.NewSource("eth0", afring.CaptureLength(filter.MinimalIPv6Transport))
//	if err != nil {
//		return err
//	}
//	defer ring.Close()
//	for {
//		packets, err := ring.NextBatch() // valid until the next call
//		if err != nil {
//			return err
//		}
//		for i := range packets {
//			use(&packets[i])
//		}
//	}
//
// [capture.NewReader] makes packet-at-a-time calls of it.
package afring

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"weir/capture"
	"weir/capture/link"
	"weir/capture/socket"
)

const (
	// batchSize is how many packets NextBatch describes at most. Their descriptors
	// take 6 KiB, so that with the packets' headers they stay in a small L1 cache.
	batchSize = 96

	// lendSize is how many packets NextFrames lends at most. It bounds how many are
	// read after Unblock.
	lendSize = 256
)

// Ring is a [capture.Source] over a TPACKET_V3 ring.
//
// NextBatch belongs to one goroutine. All other methods may be called from any
// goroutine, at any time: Close, too, never takes memory from under a reader.
type Ring struct {
	socket.Common
	port      socket.Port
	gate      *socket.Gate
	memory    memory // nil when it is given up
	cleanup   runtime.Cleanup
	blockSize int
	blocks    int
	link      capture.LinkType
	retire    time.Duration

	mu      sync.Mutex // held by NextBatch while it runs, and by Close
	closed  bool
	held    bool // the current block is the reader's
	current int
	number  uint64 // of the current block
	frames  capture.Frames
	lentLo  int // what the last batch lies in: from lentLo to lentHi of the memory
	lentHi  int
	batch   [batchSize]capture.Packet
}

var _ capture.Source = (*Ring)(nil)

// NewSource opens a ring on the interface of that name.
func NewSource(iface string, options ...Option) (*Ring, error) {
	l, err := link.ByName(iface)
	if err != nil {
		return nil, fmt.Errorf("capture on %s: %w", iface, err)
	}
	return NewSourceFromLink(l, options...)
}

// NewSourceFromLink opens a ring on an interface.
func NewSourceFromLink(l link.Link, options ...Option) (*Ring, error) {
	var c Config
	for _, o := range options {
		o(&c)
	}
	return Open(l, c)
}

// Open opens a ring on an interface. It needs CAP_NET_RAW in the network namespace
// of the calling thread. For its errors see [socket.Open].
func Open(l link.Link, c Config) (*Ring, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("capture on %s: %w", l.Name, err)
	}
	c.setDefaults()
	s, err := socket.Open(l, &c.Config, kind{&c})
	if err != nil {
		return nil, err
	}
	var m memory
	if cerr := s.Control(func(fd uintptr) { m, err = mapRing(int(fd), c.BlockSize*c.Blocks) }); cerr != nil {
		err = cerr
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("capture on %s: %w", l.Name, err)
	}
	return connect(s, m, s.Interface(), s.FanoutGroup(), &c), nil
}

// Connect makes a ring of blocks that something other than the kernel fills, laid
// out as TPACKET_V3 has it with a struct virtio_net_hdr before each packet unless
// the link type is LinkCooked. pages are the memory for them, until the ring closes
// its port. The first block has the sequence number 1.
func Connect(p socket.Port, iface capture.Interface, c Config) (r *Ring, pages []byte, err error) {
	if err := c.Validate(); err != nil {
		return nil, nil, fmt.Errorf("capture on %s: %w", iface.Name, err)
	}
	c.setDefaults()
	m, err := mapPages(-1, c.BlockSize*c.Blocks, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, nil, fmt.Errorf("capture on %s: %w", iface.Name, err)
	}
	return connect(p, m, iface, 0, &c), m, nil
}

func connect(p socket.Port, m memory, iface capture.Interface, group uint16, c *Config) *Ring {
	r := &Ring{
		port: p, memory: m, blockSize: c.BlockSize, blocks: c.Blocks, retire: c.RetireTimeout,
		link: iface.LinkType, number: 1,
	}
	for i := range r.batch {
		r.batch[i].LinkType = iface.LinkType
	}
	// When the interface is deleted, the block that is being filled still comes, but
	// only when its time is over.
	drain := 2*c.RetireTimeout + 100*time.Millisecond
	r.gate = socket.NewGate(p, iface.Name, func() bool { return r.block().ready() }, drain, c.BusyPoll)
	r.Common = socket.NewCommon(r.gate, iface, c.CaptureLength.Max(iface.LinkType), group)
	// For a program that forgets Close, and for memory that was lent when it was
	// closed.
	r.cleanup = runtime.AddCleanup(r, func(m memory) { m.unmap() }, m)
	return r
}

func (r *Ring) block() block {
	at := r.current * r.blockSize
	return block(r.memory[at : at+r.blockSize])
}

// NextBatch returns the next packets of the current block, at most 96. It waits
// for them up to a second, then returns an empty batch. Errors: capture.ErrUnblocked
// once after Unblock, capture.ErrClosed after Close, capture.ErrLinkGone when
// the interface was deleted and all its packets are delivered, capture.ErrBroken;
// all but the first stay. That the interface is down is no error.
//
// The packets are borrowed until the next call. The caller may change their
// descriptors but for LinkType and Interface, which are not written again.
func (r *Ring) NextBatch() ([]capture.Packet, error) {
	r.mu.Lock()
	packets, err := r.nextBatch()
	r.mu.Unlock()
	return packets, err
}

func (r *Ring) nextBatch() ([]capture.Packet, error) {
	n, err := r.lend(batchSize)
	if n == 0 || err != nil {
		return nil, err
	}
	if _, ok := r.frames.Describe(r.batch[:n]); !ok {
		return nil, r.gate.Fail(capture.ErrBroken)
	}
	r.gate.Deliver(n)
	return r.batch[:n], nil
}

// NextFrames is NextBatch for a [capture.Reader], which takes packets from the frames
// without having them described first: at most 256 at a time.
func (r *Ring) NextFrames() (*capture.Frames, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.lend(lendSize)
	if err != nil {
		return nil, err
	}
	r.gate.Deliver(n)
	return &r.frames, nil
}

// lend has up to so many frames lent and returns how many, 0 at an idle tick.
func (r *Ring) lend(most int) (int, error) {
	r.lentHi = 0
	if r.closed {
		r.letGo()
	}
	for {
		if err := r.gate.Pass(); err != nil {
			return 0, err
		}
		from := r.frames.Offset()
		n, ok := r.frames.Lend(most)
		if !ok {
			return 0, r.gate.Fail(capture.ErrBroken)
		}
		if n > 0 {
			// How far they reach nobody has looked yet.
			at := r.current * r.blockSize
			r.lentLo, r.lentHi = at+min(from, r.blockSize), at+r.blockSize
			return n, nil
		}
		if r.held {
			r.giveBack()
		}
		if !r.block().ready() {
			if empty, err := r.gate.Wait(); empty || err != nil {
				return 0, err
			}
			continue
		}
		if !r.block().open(&r.frames, r.number, r.link) {
			return 0, r.gate.Fail(capture.ErrBroken)
		}
		r.held = true
	}
}

// giveBack returns the current block to the kernel.
func (r *Ring) giveBack() {
	r.block().release()
	r.held = false
	r.number++
	if r.current++; r.current == r.blocks {
		r.current = 0
	}
}

// Close ends the capture and frees the ring. It waits for a call of NextBatch that
// is under way, which returns at once. A batch that somebody still reads stays
// readable, unchanged, until the next call of NextBatch, or until the
// Ring is garbage.
func (r *Ring) Close() error {
	r.gate.Shut()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	r.gate.Fail(capture.ErrClosed)
	err := r.port.Close()
	if r.lentHi == 0 {
		return errors.Join(err, r.letGo())
	}
	// The mapping keeps the socket alive, so its place is taken by memory of the
	// process: addresses stay valid, and what is lent keeps its content.
	return errors.Join(err, r.memory.detach(r.lentLo, r.lentHi))
}

// letGo gives up the memory, which nobody reads any more.
func (r *Ring) letGo() error {
	if r.memory == nil {
		return nil
	}
	r.cleanup.Stop()
	m := r.memory
	r.memory = nil
	return m.unmap()
}

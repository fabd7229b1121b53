// Package capture says what a captured packet is and what yields packets.
//
// It holds no code that captures: rings, sockets and capture files are packages
// below it, and each is a [Source]. It imports nothing else of this project, so
// that a program can read packets with it and bring its own idea of a flow.
//
// # Ownership
//
// A Source lends its packets. The slice returned by [Source.NextBatch] and every
// byte that its packets point to are valid until the next call of NextBatch or
// Close on that source, and no longer. Whoever wants to keep a packet copies it.
package capture

import "errors"

// MaxTime bounds [Packet.Time]: 2^62 nanoseconds after the epoch, which is
// 2116-02-20T23:53:38Z. A source clamps what lies outside 0..MaxTime, so that a
// hostile timestamp cannot overflow the arithmetic of those who come after it.
const MaxTime int64 = 1 << 62

// PacketType is the kernel's view of whom a packet was for, as sll_pkttype has
// it (PACKET_* in linux/if_packet.h).
type PacketType uint8

// The packet types of linux/if_packet.h. PacketUnknown is ours: most capture
// files do not say.
const (
	PacketHost      PacketType = 0   // to this host
	PacketBroadcast PacketType = 1   // to all
	PacketMulticast PacketType = 2   // to a group
	PacketOtherHost PacketType = 3   // to somebody else, seen in promiscuous mode
	PacketOutgoing  PacketType = 4   // sent by this host
	PacketLoopback  PacketType = 5   // multicast or broadcast looped back
	PacketUser      PacketType = 6   // to user space
	PacketKernel    PacketType = 7   // to the kernel
	PacketUnknown   PacketType = 255 // the source does not know
)

// String returns the kernel's word for t in lower case.
func (t PacketType) String() string {
	switch t {
	case PacketHost:
		return "host"
	case PacketBroadcast:
		return "broadcast"
	case PacketMulticast:
		return "multicast"
	case PacketOtherHost:
		return "otherhost"
	case PacketOutgoing:
		return "outgoing"
	case PacketLoopback:
		return "loopback"
	case PacketUser:
		return "user"
	case PacketKernel:
		return "kernel"
	}
	return "unknown"
}

// Packet describes one captured packet. Data is borrowed, see the package comment.
type Packet struct {
	// Data holds the captured bytes from the link-layer header on.
	Data []byte
	// Time is when the packet was seen, in nanoseconds since the Unix epoch, 0..MaxTime.
	Time int64
	// WireLen is the packet's length on the wire in octets, link-layer header
	// included. It is at least len(Data) unless the source itself was wrong.
	WireLen uint32
	// Interface is an index into the source's Interfaces.
	Interface uint32
	// LinkType says how Data begins.
	LinkType LinkType
	// VLANTCI and VLANTPID are the tag that the kernel or the hardware took out of
	// Data (TP_STATUS_VLAN_VALID). VLANTPID is 0 if there was none: a tag may
	// carry VLAN id 0.
	VLANTCI  uint16
	VLANTPID uint16
	// GSOSize is the payload octets of each wire segment of a super-packet
	// (virtio_net_hdr.gso_size), 0 for an ordinary packet.
	GSOSize uint16
	// GSOHeader is the octets, from the start of Data, of the headers that each
	// segment of a super-packet repeats; 0 if they are not known.
	GSOHeader uint16
	// RxHash is the flow hash that the kernel or the hardware computed, 0 if it did
	// not (tpacket3_hdr.tp_rxhash).
	RxHash uint32
	// Protocol is the EtherType of what Data begins with, in host byte order. It is
	// set only if LinkType is [LinkCooked].
	Protocol uint16
	// Type says whom the packet was for.
	Type PacketType
}

// Segments returns how many packets the wire had: 1, or the segments of a
// super-packet that the network stack or the card cuts up or has put together
// (TSO, GSO, GRO).
func (p *Packet) Segments() int {
	if p.GSOSize == 0 || p.WireLen <= uint32(p.GSOHeader) {
		return 1
	}
	size := uint32(p.GSOSize)
	return int((p.WireLen-uint32(p.GSOHeader)-1)/size + 1)
}

// Interface is one place where a source captures.
type Interface struct {
	// Name is the kernel's name of the interface, or what the capture file calls
	// it; empty if the file does not say.
	Name string
	// LinkType says how its packets begin.
	LinkType LinkType
	// Index is the kernel's index of the interface, 0 if there is none.
	Index int
}

// Stats are cumulative counts since the source was opened. Reading them resets
// nothing. Once a source has delivered all it has, Received = Packets + Drops.
type Stats struct {
	Packets  uint64 // delivered by NextBatch
	Received uint64 // that passed the filter, those dropped and those still to be delivered included
	Drops    uint64 // lost because the reader was too slow
	Freezes  uint64 // times that the ring stood still because it was full
	Filtered uint64 // that the filter refused; the kernel does not count them, so 0 where it filters
}

// Errors that end or interrupt a capture. Sources wrap them, errors.Is finds them.
var (
	// ErrUnblocked is what NextBatch returns once after Unblock.
	ErrUnblocked = errors.New("capture unblocked")
	// ErrClosed is what NextBatch returns after Close.
	ErrClosed = errors.New("capture closed")
	// ErrLinkGone is what NextBatch returns, after the last packet, when the
	// interface was deleted. A new interface of the same name is another one.
	ErrLinkGone = errors.New("interface is gone")
	// ErrBroken is what NextBatch returns when what fills a ring breaks the rules
	// of its layout.
	ErrBroken = errors.New("ring is broken")
)

// Source yields packets in batches. It belongs to one goroutine, except that
// Unblock, Stats and Close may be called from any.
type Source interface {
	// NextBatch returns the next packets, in the order in which they were seen. An
	// empty batch without an error is an idle tick. The batch is borrowed until
	// the next call. At the end of a finite source the error is io.EOF; packets
	// and an error never come together.
	NextBatch() ([]Packet, error)
	// Interfaces returns what Packet.Interface is an index into. It may grow
	// between batches, as capture files declare interfaces on the way.
	Interfaces() []Interface
	// Stats returns the counts so far.
	Stats() Stats
	// Unblock makes the call of NextBatch that waits for packets, or else the next
	// one, return ErrUnblocked. It returns at once. Several calls count as one until
	// NextBatch has answered them.
	Unblock() error
	// Close ends the capture: NextBatch, if it is waiting, returns ErrClosed, and so
	// do all later calls. Close waits until it has. A second call does nothing.
	Close() error
}

package flows_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// Headers by hand, octet by octet, for the tests of Decode. What follows a header
// is given as further arguments, so that lengths can be computed.

// The addresses of all packets built here.
var (
	src4, dst4 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.2")
	src6, dst6 = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:ffff::2")
)

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// repeat returns n octets of value v.
func repeat(v byte, n int) []byte { return slices.Repeat([]byte{v}, n) }

// macs are the two addresses of an Ethernet header.
var macs = []byte{0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1}

// ether returns an Ethernet frame.
func ether(etherType uint16, payload ...[]byte) []byte {
	return join(macs, be16(etherType), join(payload...))
}

// tag returns what stands after a VLAN's EtherType: priority and id, and the
// EtherType of what follows.
func tag(tci, etherType uint16, payload ...[]byte) []byte {
	return join(be16(tci), be16(etherType), join(payload...))
}

// label returns an MPLS label stack entry with TTL 64.
func label(value uint32, bottom bool, payload ...[]byte) []byte {
	entry := value<<12 | 64
	if bottom {
		entry |= 1 << 8
	}
	return join(be32(entry), join(payload...))
}

// pppoe returns a PPPoE session header and the PPP frame in it.
func pppoe(ppp ...[]byte) []byte {
	payload := join(ppp...)
	return join([]byte{0x11, 0x00}, be16(7), be16(uint16(len(payload))), payload)
}

// snap returns an LLC/SNAP header of organisation oui.
func snap(oui uint32, etherType uint16, payload ...[]byte) []byte {
	return join([]byte{0xaa, 0xaa, 0x03}, be32(oui)[1:], be16(etherType), join(payload...))
}

// ieee8023 returns an Ethernet frame with a length instead of an EtherType.
func ieee8023(payload ...[]byte) []byte {
	p := join(payload...)
	return ether(uint16(len(p)), p)
}

// ip4 is an IPv4 header whose lengths are right unless they are set.
type ip4 struct {
	proto    byte
	options  []byte // a multiple of four octets
	fragment uint16 // flags and offset
	first    byte   // version and header length, if not 0
	total    int    // total length, if not 0; -1 stands for 0
}

const moreFragments = 0x2000

func (h ip4) with(payload ...[]byte) []byte {
	p := join(payload...)
	size := 20 + len(h.options)
	first, total := 0x40|byte(size/4), size+len(p)
	if h.first != 0 {
		first = h.first
	}
	if h.total != 0 {
		total = max(h.total, 0)
	}
	return join([]byte{first, 0}, be16(uint16(total)), be16(0xabcd), be16(h.fragment),
		[]byte{64, h.proto, 0, 0}, src4.AsSlice(), dst4.AsSlice(), h.options, p)
}

// ip6 is an IPv6 header whose length is right unless it is set.
type ip6 struct {
	next    byte
	payload int // payload length, if not 0; -1 stands for 0
}

func (h ip6) with(payload ...[]byte) []byte {
	p := join(payload...)
	length := len(p)
	if h.payload != 0 {
		length = max(h.payload, 0)
	}
	return join([]byte{0x60, 0, 0, 0}, be16(uint16(length)), []byte{h.next, 64}, src6.AsSlice(), dst6.AsSlice(), p)
}

// extension returns a hop-by-hop, routing or destination header, or one of their
// format, whose content has a length of 6, 14, 22, ... octets.
func extension(next byte, content []byte) []byte {
	return join([]byte{next, byte((len(content)+2)/8 - 1)}, content)
}

// padN is the option that fills a hop-by-hop or destination header of 8 octets.
var padN = []byte{1, 4, 0, 0, 0, 0}

// segmentsLeft0 is a routing header of type 2 (RFC 6275) that has arrived.
var segmentsLeft0 = join([]byte{2, 0, 0, 0, 0, 0}, dst6.AsSlice())

// jumbo is the content of a hop-by-hop header with a jumbo payload option.
func jumbo(length uint32) []byte { return join([]byte{0xc2, 4}, be32(length)) }

// fragment6 returns a fragment header; offset counts octets.
func fragment6(next byte, offset uint16, more bool) []byte {
	if more {
		offset |= 1
	}
	return join([]byte{next, 0}, be16(offset), be32(0x1234))
}

// auth returns an authentication header with an integrity check value of 12 octets.
func auth(next byte) []byte {
	return join([]byte{next, 4, 0, 0}, be32(0x100), be32(1), repeat(0xee, 12))
}

// Ports of all packets built here, chosen so that no octet is 0.
const srcPort, dstPort = 0x9c41, 0x01bb // 40001, 443

var ports = join(be16(srcPort), be16(dstPort))

// tcp returns a TCP header of 20 octets, without payload.
func tcp(flags byte) []byte {
	return join(ports, be32(1), be32(2), []byte{0x50, flags}, be16(1024), be16(0), be16(0))
}

// udp returns a UDP header, or a UDP-Lite header, and n octets of payload.
func udp(n int) []byte {
	return join(ports, be16(uint16(8+n)), be16(0), repeat(0x5a, n))
}

// icmp returns an ICMP or ICMPv6 header.
func icmp(kind, code byte) []byte { return []byte{kind, code, 0, 0, 0, 7, 0, 1} }

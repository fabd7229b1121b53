package flows

import (
	"encoding/binary"

	"weir/capture"
)

// Headers is what flows need to know of one packet. The zero value is ready; one
// Headers is meant to be decoded into over and over.
type Headers struct {
	Key      Key
	Time     int64  // of the packet, nanoseconds since the Unix epoch
	Octets   uint64 // IP octets of all wire packets, headers included
	Packets  uint32 // wire packets: 1, or the segments of a super-packet
	TCPFlags uint8  // RFC 9293 section 3.1, CWR..FIN; 0 if not TCP or cut off
	marks    marks
}

// Decode reads p's headers from the link layer to the transport ports. The
// outermost IP header makes the flow; VLAN tags, MPLS labels, PPPoE and LLC/SNAP
// before it are stripped. If the verdict is not OK, h's content is undefined.
//
// Decode never looks past len(p.Data) and, for ports and flags, never past the
// length in the IP header: link-layer padding supplies neither. It keeps nothing
// of p and does not allocate.
func (h *Headers) Decode(p *capture.Packet) Verdict {
	// The low word of the key under construction: VLAN and direction come from
	// the layers below IP, protocol and ports are added by those above.
	rest := uint64(direction(p.Type))
	if p.VLANTPID != 0 {
		rest |= uint64(p.VLANTCI&0xfff) << 16
	}
	h.Time = p.Time
	b := p.Data
	if len(b) >= 14 && p.LinkType == capture.LinkEthernet && p.GSOSize == 0 {
		// Most packets by far.
		switch binary.BigEndian.Uint16(b[12:]) {
		case etherIPv4:
			return h.ipv4(p, b[14:], rest)
		case etherIPv6:
			return h.ipv6(p, b[14:], rest)
		}
	}
	return h.decodeNetwork(p)
}

// decodeNetwork is Decode for all packets but the plainest.
func (h *Headers) decodeNetwork(p *capture.Packet) (v Verdict) {
	n := p.Network()
	if n.Cause != capture.OK {
		return Verdict(n.Cause)
	}
	rest := uint64(direction(n.Type))
	if n.Tagged {
		rest |= uint64(n.VLAN) << 16
	}
	b := p.Data[n.Offset:]
	if n.Version == 4 {
		v = h.ipv4(p, b, rest)
	} else {
		v = h.ipv6(p, b, rest)
	}
	if p.GSOSize != 0 && p.GSOHeader != 0 {
		// The source knows what each segment repeats, below tunnels too.
		segments := uint64(p.Segments())
		h.Packets = uint32(segments)
		h.Octets += (segments - 1) * uint64(max(int(p.GSOHeader)-n.Offset, 0))
	}
	return v
}

// direction returns the host's view of a packet.
func direction(t capture.PacketType) Direction {
	switch t {
	case capture.PacketUnknown:
		return DirectionUnknown
	case capture.PacketOutgoing:
		return DirectionOut
	}
	return DirectionIn
}

// wireFrom returns the wire octets from the start of b to the end of the packet,
// where b is a tail of p.Data.
func wireFrom(p *capture.Packet, b []byte) uint64 {
	before := len(p.Data) - len(b)
	return uint64(max(int(p.WireLen)-before, len(b)))
}

// ipv4 decodes an IPv4 header (RFC 791 section 3.1) and what follows.
func (h *Headers) ipv4(p *capture.Packet, b []byte, rest uint64) Verdict {
	if len(b) < 20 {
		if len(b) > 0 && b[0]>>4 != 4 {
			return ErrorVersion
		}
		return ErrorIPHeader
	}
	if b[0]>>4 != 4 {
		return ErrorVersion
	}
	hlen := int(b[0]&0xf) * 4
	if hlen < 20 {
		return ErrorIHL
	}
	if len(b) < hlen {
		return ErrorIPHeader
	}
	total := uint64(binary.BigEndian.Uint16(b[2:]))
	if total < uint64(hlen) {
		if total != 0 {
			return ErrorTotalLength
		}
		total = wireFrom(p, b) // left to the hardware: TSO, BIG TCP
	}
	h.Key.srcHi, h.Key.srcLo = 0, mapped|uint64(binary.BigEndian.Uint32(b[12:]))
	h.Key.dstHi, h.Key.dstLo = 0, mapped|uint64(binary.BigEndian.Uint32(b[16:]))
	proto := b[9]
	if binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
		h.noTransport(total, rest, proto) // a later fragment
		return OK
	}
	h.transport(p, b[:min(uint64(len(b)), total)], hlen, total, rest, proto)
	return OK
}

// transport decodes the ports and flags of the header that begins at ip[at:]. ip
// runs from the IP header to the end of what is captured and belongs to IP;
// total is the length of the IP packet, rest the key's low word so far.
func (h *Headers) transport(p *capture.Packet, ip []byte, at int, total, rest uint64, proto uint8) {
	h.noTransport(total, rest, proto)
	b := ip[at:]
	l4 := 0 // transport header's octets, as far as super-packets need it
	switch proto {
	case protoTCP:
		if len(b) < 4 {
			return
		}
		h.Key.rest |= uint64(binary.BigEndian.Uint32(b)) << 32
		if len(b) >= 14 {
			h.TCPFlags = b[13]
			h.marks = synMarks[b[13]>>1&1|b[13]>>3&2]
			l4 = int(b[12]>>4) * 4
		}
	case protoUDP, protoUDPLite, protoSCTP, protoDCCP:
		if len(b) < 4 {
			return
		}
		h.Key.rest |= uint64(binary.BigEndian.Uint32(b)) << 32
		if proto == protoUDP {
			l4 = 8
		}
	case protoICMP, protoICMPv6:
		if len(b) >= 2 {
			h.Key.rest |= uint64(binary.BigEndian.Uint16(b)) << 32
			h.marks = markICMP
		}
		return
	}
	if p.GSOSize != 0 && p.GSOHeader == 0 && l4 != 0 {
		h.segment(uint64(at+l4), uint64(p.GSOSize))
	}
}

// noTransport fills in a packet without ports.
func (h *Headers) noTransport(total, rest uint64, proto uint8) {
	h.Key.rest = rest | uint64(proto)<<8
	h.Packets, h.Octets, h.TCPFlags, h.marks = 1, total, 0, 0
}

// segment counts a super-packet as the wire had it, where the source does not know
// its headers: each segment repeats them and carries at most size octets of payload.
func (h *Headers) segment(headers, size uint64) {
	if h.Octets <= headers+size {
		return
	}
	n := (h.Octets - headers + size - 1) / size
	h.Packets = uint32(n)
	h.Octets += (n - 1) * headers
}

// EtherTypes (IANA "IEEE 802 Numbers").
const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
)

// IP protocol numbers (IANA "Protocol Numbers").
const (
	protoICMP    = 1
	protoTCP     = 6
	protoUDP     = 17
	protoDCCP    = 33
	protoICMPv6  = 58
	protoSCTP    = 132
	protoUDPLite = 136
)

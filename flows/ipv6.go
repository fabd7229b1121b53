package flows

import (
	"encoding/binary"

	"weir/capture"
)

// IPv6 extension headers that lead on to another header (RFC 8200 section 4).
// ESP, no-next-header, mobility, HIP and shim6 end the walk, as any other
// protocol does.
const (
	extHopByHop    = 0
	extRouting     = 43
	extFragment    = 44
	extAuth        = 51
	extDestination = 60
)

// optJumbo is the jumbo payload option of the hop-by-hop header (RFC 2675 section 2).
const optJumbo = 0xc2

// ipv6 decodes an IPv6 header (RFC 8200 section 3), its extension headers and
// what follows.
func (h *Headers) ipv6(p *capture.Packet, b []byte, rest uint64) Verdict {
	if len(b) > 0 && b[0]>>4 != 6 {
		return ErrorVersion
	}
	if len(b) < 40 {
		return ErrorIPHeader
	}
	h.Key.srcHi, h.Key.srcLo = binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])
	h.Key.dstHi, h.Key.dstLo = binary.BigEndian.Uint64(b[24:]), binary.BigEndian.Uint64(b[32:])
	next := b[6]
	total := uint64(binary.BigEndian.Uint16(b[4:])) + 40
	if total == 40 {
		total = jumboTotal(b, next)
		if total == 0 {
			total = wireFrom(p, b)
		}
	}
	b = b[:min(uint64(len(b)), total)]
	if next == protoTCP || next == protoUDP {
		h.transport(p, b, 40, total, rest, next)
		return OK
	}
	proto, at, later := walkExtensions(b, next)
	if later {
		h.noTransport(total, rest, proto)
		return OK
	}
	h.transport(p, b, at, total, rest, proto)
	return OK
}

// walkExtensions follows the extension headers in ip, an IPv6 packet whose first
// next-header value is next. It returns the protocol that it arrives at and where
// that begins. A header that is cut off is itself the protocol. later says that
// ip is a fragment other than the first, whose payload is not a header.
func walkExtensions(ip []byte, next uint8) (proto uint8, at int, later bool) {
	at = 40
	for {
		b := ip[at:]
		var size int
		switch next {
		case extHopByHop, extRouting, extDestination:
			if len(b) < 2 {
				return next, at, false
			}
			size = (int(b[1]) + 1) * 8
		case extAuth:
			if len(b) < 2 {
				return next, at, false
			}
			size = (int(b[1]) + 2) * 4 // RFC 4302 section 2.2: in 4-octet units
		case extFragment:
			size = 8
		default:
			return next, at, false
		}
		if len(b) < size {
			return next, at, false
		}
		if next == extFragment && binary.BigEndian.Uint16(b[2:])&0xfff8 != 0 {
			return b[0], at + size, true
		}
		next = b[0]
		at += size
	}
}

// jumboTotal returns the length of an IPv6 packet by its jumbo payload option,
// header included, or 0 if there is none. The option is only valid above 65,535
// (RFC 2675 section 3).
func jumboTotal(ip []byte, next uint8) uint64 {
	if next != extHopByHop || len(ip) < 48 {
		return 0
	}
	opts := ip[42:min(len(ip), 40+(int(ip[41])+1)*8)]
	for len(opts) >= 2 {
		if opts[0] == 0 { // Pad1 has no length
			opts = opts[1:]
			continue
		}
		size := 2 + int(opts[1])
		if len(opts) < size {
			return 0
		}
		if opts[0] == optJumbo && size == 6 {
			if n := binary.BigEndian.Uint32(opts[2:]); n > 0xffff {
				return uint64(n) + 40
			}
			return 0
		}
		opts = opts[size:]
	}
	return 0
}

package flows

import (
	"encoding/binary"

	"weir/capture"
)

// EtherTypes (IANA "IEEE 802 Numbers").
const (
	etherIPv4           = 0x0800
	etherARP            = 0x0806
	etherRARP           = 0x8035
	etherVLAN           = 0x8100 // IEEE 802.1Q
	etherIPv6           = 0x86dd
	etherMPLS           = 0x8847
	etherMPLSUpstream   = 0x8848
	etherPPPoEDiscovery = 0x8863
	etherPPPoE          = 0x8864
	etherQinQ           = 0x88a8 // IEEE 802.1ad
	etherLLDP           = 0x88cc
	etherQinQ9100       = 0x9100 // before 802.1ad, and still sent
	etherQinQ9200       = 0x9200

	// minEtherType is the least value that is a type; below it stands the length
	// of an 802.3 frame (IEEE 802.3 clause 3.2.6).
	minEtherType = 0x0600
)

// etherType decodes what follows an EtherType, shim by shim. Each turn of the
// loop takes octets off b, which bounds it. tagged says that a VLAN id is in
// rest already; only the outermost counts.
func (h *Headers) etherType(p *capture.Packet, b []byte, et uint16, rest uint64, tagged bool) Verdict {
	for {
		switch et {
		case etherIPv4:
			return h.ipv4(p, b, rest)
		case etherIPv6:
			return h.ipv6(p, b, rest)
		case etherVLAN, etherQinQ, etherQinQ9100, etherQinQ9200:
			if len(b) < 4 {
				return ErrorLinkHeader
			}
			if !tagged {
				tagged = true
				rest |= uint64(binary.BigEndian.Uint16(b)&0xfff) << 16
			}
			et = binary.BigEndian.Uint16(b[2:])
			b = b[4:]
		case etherMPLS, etherMPLSUpstream:
			return h.mpls(p, b, rest)
		case etherPPPoE:
			return h.pppoe(p, b, rest)
		case etherPPPoEDiscovery:
			return NotIPPPPoEDiscovery
		case etherARP, etherRARP:
			return NotIPARP
		case etherLLDP:
			return NotIPLLDP
		default:
			if et >= minEtherType {
				return NotIPEtherType
			}
			var v Verdict
			if et, b, v = llc(b); v != OK {
				return v
			}
		}
	}
}

// llc reads an IEEE 802.2 header and returns the EtherType that it leads to.
func llc(b []byte) (et uint16, payload []byte, v Verdict) {
	if len(b) < 3 {
		return 0, nil, ErrorLinkHeader
	}
	switch {
	case b[0] == 0xaa && b[1] == 0xaa && b[2] == 0x03: // SNAP (RFC 1042)
		if len(b) < 8 {
			return 0, nil, ErrorLinkHeader
		}
		// Organisations other than these two number their protocols as they like.
		if oui := uint32(b[3])<<16 | uint32(b[4])<<8 | uint32(b[5]); oui != 0 && oui != 0x0000f8 {
			return 0, nil, NotIPLLC
		}
		if et = binary.BigEndian.Uint16(b[6:]); et < minEtherType {
			return 0, nil, NotIPLLC
		}
		return et, b[8:], OK
	case b[0] == 0x06 && b[1] == 0x06 && b[2] == 0x03: // the SAP of IP
		return etherIPv4, b[3:], OK
	}
	return 0, nil, NotIPLLC
}

// mpls strips the label stack (RFC 3032 section 2.1). What follows the bottom is
// known by its first nibble only (RFC 4928 section 3).
func (h *Headers) mpls(p *capture.Packet, b []byte, rest uint64) Verdict {
	for {
		if len(b) < 4 {
			return ErrorLinkHeader
		}
		bottom := b[2]&1 != 0
		b = b[4:]
		if !bottom {
			continue
		}
		if len(b) == 0 {
			return ErrorIPHeader
		}
		switch b[0] >> 4 {
		case 4:
			return h.ipv4(p, b, rest)
		case 6:
			return h.ipv6(p, b, rest)
		}
		return NotIPMPLS
	}
}

// pppoe strips a PPPoE session header (RFC 2516 section 4).
func (h *Headers) pppoe(p *capture.Packet, b []byte, rest uint64) Verdict {
	if len(b) < 6 {
		return ErrorLinkHeader
	}
	if b[1] != 0 { // not session data: discovery over LINKTYPE_PPP_ETHER
		return NotIPPPPoEDiscovery
	}
	return h.ppp(p, b[6:], rest)
}

// ppp decodes from a PPP protocol field on (RFC 1661 section 2), which may be
// compressed to one octet (section 6.5).
func (h *Headers) ppp(p *capture.Packet, b []byte, rest uint64) Verdict {
	if len(b) < 2 {
		return ErrorLinkHeader
	}
	var proto uint16
	if b[0]&1 != 0 {
		proto, b = uint16(b[0]), b[1:]
	} else {
		proto, b = binary.BigEndian.Uint16(b), b[2:]
	}
	switch proto {
	case 0x0021:
		return h.ipv4(p, b, rest)
	case 0x0057:
		return h.ipv6(p, b, rest)
	case 0x0281, 0x0283: // MPLS unicast and multicast (RFC 3032 section 4.2)
		return h.mpls(p, b, rest)
	}
	return NotIPPPP
}

// hdlc decodes PPP that may be framed as in HDLC (RFC 1662 section 3.1), or
// Cisco's use of the same framing, told by the address octet.
func (h *Headers) hdlc(p *capture.Packet, b []byte, rest uint64, tagged bool) Verdict {
	if len(b) < 2 {
		return ErrorLinkHeader
	}
	if b[0] == 0xff && b[1] == 0x03 {
		return h.ppp(p, b[2:], rest)
	}
	if p.LinkType == capture.LinkPPPSerial && (b[0] == 0x0f || b[0] == 0x8f) {
		return h.ciscoHDLC(p, b, rest, tagged)
	}
	return h.ppp(p, b, rest)
}

// ciscoHDLC decodes address, control and an EtherType.
func (h *Headers) ciscoHDLC(p *capture.Packet, b []byte, rest uint64, tagged bool) Verdict {
	if len(b) < 4 {
		return ErrorLinkHeader
	}
	et := binary.BigEndian.Uint16(b[2:])
	if et < minEtherType { // there is no 802.3 here to have a length
		return NotIPEtherType
	}
	return h.etherType(p, b[4:], et, rest, tagged)
}

// family decodes a four-octet address family: LINKTYPE_NULL has it in the byte
// order of the capturing host, LINKTYPE_LOOP in network order. The values are
// small, so that one of the two orders always makes sense of them.
func (h *Headers) family(p *capture.Packet, b []byte, rest uint64) Verdict {
	if len(b) < 4 {
		return ErrorLinkHeader
	}
	f := binary.BigEndian.Uint32(b)
	if f > 0xffff {
		f = binary.LittleEndian.Uint32(b)
	}
	switch f {
	case 2: // AF_INET everywhere
		return h.ipv4(p, b[4:], rest)
	case 10, 24, 28, 30: // AF_INET6 of Linux, NetBSD and OpenBSD, FreeBSD, Darwin
		return h.ipv6(p, b[4:], rest)
	}
	return NotIPFamily
}

// sll decodes Linux cooked capture v1: packet type, ARPHRD, address length,
// address[8], protocol; all big endian.
func (h *Headers) sll(p *capture.Packet, b []byte, rest uint64, tagged bool) Verdict {
	if len(b) < 16 {
		return ErrorLinkHeader
	}
	if p.Type == capture.PacketUnknown {
		rest |= cookedDirection(binary.BigEndian.Uint16(b))
	}
	return h.cooked(p, b[16:], binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint16(b[14:]), rest, tagged)
}

// sll2 decodes Linux cooked capture v2: protocol, reserved[2], interface[4],
// ARPHRD, packet type (one octet), address length, address[8]; big endian.
func (h *Headers) sll2(p *capture.Packet, b []byte, rest uint64, tagged bool) Verdict {
	if len(b) < 20 {
		return ErrorLinkHeader
	}
	if p.Type == capture.PacketUnknown {
		rest |= cookedDirection(uint16(b[10]))
	}
	return h.cooked(p, b[20:], binary.BigEndian.Uint16(b[8:]), binary.BigEndian.Uint16(b), rest, tagged)
}

// cookedDirection maps sll_pkttype to the key's direction.
func cookedDirection(t uint16) uint64 {
	switch {
	case t == uint16(capture.PacketOutgoing):
		return uint64(DirectionOut)
	case t <= uint16(capture.PacketKernel):
		return uint64(DirectionIn)
	}
	return uint64(DirectionUnknown)
}

// cooked decodes what follows a cooked header. Of the ETH_P_* values below
// minEtherType (linux/if_ether.h), 802.2 has an LLC header; the others are not IP.
// On netlink monitors the field is a netlink family, which has values of its own.
func (h *Headers) cooked(p *capture.Packet, b []byte, arphrd, proto uint16, rest uint64, tagged bool) Verdict {
	const (
		arphrdNetlink = 824
		ethP8022      = 0x0004
	)
	if proto >= minEtherType || proto == ethP8022 && arphrd != arphrdNetlink {
		return h.etherType(p, b, proto, rest, tagged)
	}
	return NotIPFamily
}

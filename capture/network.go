package capture

import "encoding/binary"

const ethernetLen = 14 // octets of an untagged Ethernet header

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
// loop takes octets off b, which bounds it. Of VLAN tags only the outermost counts.
func (n *Network) etherType(p *Packet, b []byte, et uint16) Cause {
	for {
		switch et {
		case etherIPv4:
			return n.found(p, 4, b)
		case etherIPv6:
			return n.found(p, 6, b)
		case etherVLAN, etherQinQ, etherQinQ9100, etherQinQ9200:
			if len(b) < 4 {
				return ErrorLinkHeader
			}
			if !n.Tagged {
				n.Tagged, n.VLAN = true, binary.BigEndian.Uint16(b)&0xfff
			}
			et = binary.BigEndian.Uint16(b[2:])
			b = b[4:]
		case etherMPLS, etherMPLSUpstream:
			return n.mpls(p, b)
		case etherPPPoE:
			return n.pppoe(p, b)
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
			var v Cause
			if et, b, v = llc(b); v != OK {
				return v
			}
		}
	}
}

// llc reads an IEEE 802.2 header and returns the EtherType that it leads to.
func llc(b []byte) (et uint16, payload []byte, v Cause) {
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
func (n *Network) mpls(p *Packet, b []byte) Cause {
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
			return n.found(p, 4, b)
		case 6:
			return n.found(p, 6, b)
		}
		return NotIPMPLS
	}
}

// pppoe strips a PPPoE session header (RFC 2516 section 4).
func (n *Network) pppoe(p *Packet, b []byte) Cause {
	if len(b) < 6 {
		return ErrorLinkHeader
	}
	if b[1] != 0 { // not session data: discovery over LINKTYPE_PPP_ETHER
		return NotIPPPPoEDiscovery
	}
	return n.ppp(p, b[6:])
}

// ppp decodes from a PPP protocol field on (RFC 1661 section 2), which may be
// compressed to one octet (section 6.5).
func (n *Network) ppp(p *Packet, b []byte) Cause {
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
		return n.found(p, 4, b)
	case 0x0057:
		return n.found(p, 6, b)
	case 0x0281, 0x0283: // MPLS unicast and multicast (RFC 3032 section 4.2)
		return n.mpls(p, b)
	}
	return NotIPPPP
}

// hdlc decodes PPP that may be framed as in HDLC (RFC 1662 section 3.1), or
// Cisco's use of the same framing, told by the address octet.
func (n *Network) hdlc(p *Packet, b []byte) Cause {
	if len(b) < 2 {
		return ErrorLinkHeader
	}
	if b[0] == 0xff && b[1] == 0x03 {
		return n.ppp(p, b[2:])
	}
	if p.LinkType == LinkPPPSerial && (b[0] == 0x0f || b[0] == 0x8f) {
		return n.ciscoHDLC(p, b)
	}
	return n.ppp(p, b)
}

// ciscoHDLC decodes address, control and an EtherType.
func (n *Network) ciscoHDLC(p *Packet, b []byte) Cause {
	if len(b) < 4 {
		return ErrorLinkHeader
	}
	et := binary.BigEndian.Uint16(b[2:])
	if et < minEtherType { // there is no 802.3 here to have a length
		return NotIPEtherType
	}
	return n.etherType(p, b[4:], et)
}

// family decodes a four-octet address family: LINKTYPE_NULL has it in the byte
// order of the capturing host, LINKTYPE_LOOP in network order. The values are
// small, so that one of the two orders always makes sense of them.
func (n *Network) family(p *Packet, b []byte) Cause {
	if len(b) < 4 {
		return ErrorLinkHeader
	}
	f := binary.BigEndian.Uint32(b)
	if f > 0xffff {
		f = binary.LittleEndian.Uint32(b)
	}
	switch f {
	case 2: // AF_INET everywhere
		return n.found(p, 4, b[4:])
	case 10, 24, 28, 30: // AF_INET6 of Linux, NetBSD and OpenBSD, FreeBSD, Darwin
		return n.found(p, 6, b[4:])
	}
	return NotIPFamily
}

// sll decodes Linux cooked capture v1: packet type, ARPHRD, address length,
// address[8], protocol; all big endian.
func (n *Network) sll(p *Packet, b []byte) Cause {
	if len(b) < 16 {
		return ErrorLinkHeader
	}
	n.cookedType(binary.BigEndian.Uint16(b))
	return n.cooked(p, b[16:], binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint16(b[14:]))
}

// sll2 decodes Linux cooked capture v2: protocol, reserved[2], interface[4],
// ARPHRD, packet type (one octet), address length, address[8]; big endian.
func (n *Network) sll2(p *Packet, b []byte) Cause {
	if len(b) < 20 {
		return ErrorLinkHeader
	}
	n.cookedType(uint16(b[10]))
	return n.cooked(p, b[20:], binary.BigEndian.Uint16(b[8:]), binary.BigEndian.Uint16(b))
}

// cookedType takes over sll_pkttype where the source knows no better.
func (n *Network) cookedType(t uint16) {
	if n.Type == PacketUnknown && t <= uint16(PacketKernel) {
		n.Type = PacketType(t)
	}
}

// cooked decodes what follows a cooked header. Of the ETH_P_* values below
// minEtherType (linux/if_ether.h), 802.2 has an LLC header; the others are not IP.
// On netlink monitors the field is a netlink family, which has values of its own.
func (n *Network) cooked(p *Packet, b []byte, arphrd, proto uint16) Cause {
	const (
		arphrdNetlink = 824
		ethP8022      = 0x0004
	)
	if proto >= minEtherType || proto == ethP8022 && arphrd != arphrdNetlink {
		return n.etherType(p, b, proto)
	}
	return NotIPFamily
}

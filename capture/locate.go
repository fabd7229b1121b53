package capture

import "encoding/binary"

// Cause is why a packet has no IP header, or OK. It is an integer and not an error
// because it is made for every packet.
type Cause uint8

// Causes. Up to NotIPEtherType the packet carries no IP; from ErrorLinkType on it
// lies, was cut too short, or is of a kind that is not known.
const (
	OK Cause = iota

	NotIPARP            // ARP and RARP
	NotIPLLDP           // LLDP (IEEE 802.1AB)
	NotIPLLC            // 802.3 with an LLC header that leads to no EtherType: STP, IS-IS, IPX
	NotIPPPPoEDiscovery // PPPoE discovery
	NotIPPPP            // PPP control protocols: LCP, IPCP, PAP, ...
	NotIPMPLS           // an MPLS payload that is neither IPv4 nor IPv6: pseudowires
	NotIP80211          // 802.11 management, control and null frames, A-MSDU
	NotIPEncrypted      // protected 802.11 frames
	NotIPFamily         // an address family or interface type that is not IP
	NotIPEtherType      // any other EtherType

	ErrorLinkType   // a link type that cannot be decoded
	ErrorLinkHeader // cut off within the link-layer header or a shim
	ErrorVersion    // IP version against the EtherType, or neither 4 nor 6
	ErrorIPHeader   // cut off before the IP header
	numCauses
)

// NumCauses is the number of causes, OK included.
const NumCauses = int(numCauses)

// Network is where a packet's network layer begins. If Cause is not OK, there is no
// IP header, and Offset and Version are undefined.
type Network struct {
	Offset  int        // of the IP header in Data
	VLAN    uint16     // id of the outermost tag, in line or in the packet's metadata
	Tagged  bool       // there is a tag; its id may be 0
	Version uint8      // of IP, 4 or 6: what leads to it and the header itself agree
	Type    PacketType // of the packet, or what a cooked header says if that is unknown
	Cause   Cause
}

// Network finds the packet's outermost IP header. VLAN tags, MPLS labels, PPPoE and
// LLC/SNAP before it are passed over. It reads nothing behind the first octet of
// IP, and does not allocate.
func (p *Packet) Network() (n Network) {
	n.Type = p.Type
	if p.VLANTPID != 0 {
		n.Tagged, n.VLAN = true, p.VLANTCI&0xfff
	}
	n.Cause = n.linkLayer(p)
	return n
}

// IP returns the packet from its outermost IP header on, as far as it was captured;
// padding of the link layer may follow. It is nil if the packet carries no IP. It
// shares the memory of Data.
func (p *Packet) IP() []byte {
	if plain(p.Data, p.LinkType) {
		return p.Data[ethernetLen:]
	}
	return p.networkLayer()
}

// plain reports whether a packet is what most are by far: IPv4 or IPv6 behind a bare
// Ethernet header. It is inlined.
func plain(b []byte, link LinkType) bool {
	if len(b) < ethernetLen+2 || link != LinkEthernet {
		return false
	}
	// EtherType and version in one look.
	v := binary.BigEndian.Uint32(b[ethernetLen-2:]) &^ 0x0fff
	return v == etherIPv4<<16|4<<12 || v == etherIPv6<<16|6<<12
}

// networkLayer is IP for all others.
//
//go:noinline
func (p *Packet) networkLayer() []byte {
	if n := p.Network(); n.Cause == OK {
		return p.Data[n.Offset:]
	}
	return nil
}

func (n *Network) linkLayer(p *Packet) Cause {
	b := p.Data
	switch p.LinkType {
	case LinkEthernet, LinkLoopback:
		if len(b) < ethernetLen {
			return ErrorLinkHeader
		}
		return n.etherType(p, b[ethernetLen:], binary.BigEndian.Uint16(b[ethernetLen-2:]))
	case LinkCooked:
		if p.Protocol < minEtherType { // the kernel's own numbers (linux/if_ether.h)
			return NotIPFamily
		}
		return n.etherType(p, b, p.Protocol)
	case LinkRaw, LinkRaw12, LinkRaw14, LinkIPv4, LinkIPv6, LinkNone, LinkTunnel, LinkTunnel6, LinkSIT, LinkGRE, LinkGRE6:
		return n.ip(p, b)
	case LinkSLL:
		return n.sll(p, b)
	case LinkSLL2:
		return n.sll2(p, b)
	case LinkNull, LinkLoop:
		return n.family(p, b)
	case LinkPPP, LinkPPPSerial:
		return n.hdlc(p, b)
	case LinkPPPoE:
		return n.pppoe(p, b)
	case LinkCiscoHDLC:
		return n.ciscoHDLC(p, b)
	case Link80211:
		return n.ieee80211(p, b, 0)
	case Link80211Radio:
		return n.radiotap(p, b)
	}
	return ErrorLinkType
}

// ip goes by the version of IP where nothing else says it. LinkIPv4 and LinkIPv6 do.
func (n *Network) ip(p *Packet, b []byte) Cause {
	if len(b) == 0 {
		return ErrorIPHeader
	}
	version := b[0] >> 4
	if version != 4 && version != 6 || version == 4 && p.LinkType == LinkIPv6 || version == 6 && p.LinkType == LinkIPv4 {
		return ErrorVersion
	}
	return n.found(p, version, b)
}

// found notes that b, a tail of the packet, begins with IP.
func (n *Network) found(p *Packet, version uint8, b []byte) Cause {
	if len(b) == 0 {
		return ErrorIPHeader
	}
	if b[0]>>4 != version {
		return ErrorVersion
	}
	n.Offset, n.Version = len(p.Data)-len(b), version
	return OK
}

package capture

import "strconv"

// LinkType says what a packet's first bytes are. The numbers are those of
// LINKTYPE_* (https://www.tcpdump.org/linktypes.html) where capture files have
// one, and of ARPHRD_* (linux/if_arp.h) for the devices that files never name;
// the two lists do not collide in what is supported here.
type LinkType uint32

// The supported link types.
const (
	LinkNull       LinkType = 0     // BSD loopback: address family, in the byte order of the capturing host
	LinkEthernet   LinkType = 1     // also ARPHRD_ETHER
	LinkPPP        LinkType = 9     // PPP, with or without HDLC address and control
	LinkRaw12      LinkType = 12    // raw IP, as some systems number it
	LinkRaw14      LinkType = 14    // raw IP, as OpenBSD numbers it
	LinkPPPSerial  LinkType = 50    // PPP in HDLC-like framing, or Cisco HDLC
	LinkPPPoE      LinkType = 51    // PPPoE session header, then PPP
	LinkRaw        LinkType = 101   // raw IPv4 or IPv6
	LinkCiscoHDLC  LinkType = 104   // Cisco HDLC
	Link80211      LinkType = 105   // IEEE 802.11
	LinkLoop       LinkType = 108   // OpenBSD loopback: address family, big endian
	LinkSLL        LinkType = 113   // Linux cooked v1
	Link80211Radio LinkType = 127   // radiotap, then IEEE 802.11
	LinkIPv4       LinkType = 228   // raw IPv4
	LinkIPv6       LinkType = 229   // raw IPv6
	LinkSLL2       LinkType = 276   // Linux cooked v2
	LinkTunnel     LinkType = 768   // ARPHRD_TUNNEL: IPIP
	LinkTunnel6    LinkType = 769   // ARPHRD_TUNNEL6: IP6IP6
	LinkLoopback   LinkType = 772   // ARPHRD_LOOPBACK: Ethernet with null addresses
	LinkSIT        LinkType = 776   // ARPHRD_SIT: IPv6 in IPv4
	LinkGRE        LinkType = 778   // ARPHRD_IPGRE
	LinkGRE6       LinkType = 823   // ARPHRD_IP6GRE
	LinkNone       LinkType = 65534 // ARPHRD_NONE: tun, WireGuard

	// LinkCooked is ours: the kernel has taken the link-layer header off
	// (SOCK_DGRAM of packet(7)), and Packet.Protocol says what follows.
	LinkCooked LinkType = 1 << 31
)

var linkNames = map[LinkType]string{
	LinkNull: "NULL", LinkEthernet: "EN10MB", LinkPPP: "PPP", LinkRaw12: "RAW", LinkRaw14: "RAW",
	LinkPPPSerial: "PPP_SERIAL", LinkPPPoE: "PPP_ETHER", LinkRaw: "RAW", LinkCiscoHDLC: "C_HDLC",
	Link80211: "IEEE802_11", LinkLoop: "LOOP", LinkSLL: "LINUX_SLL", Link80211Radio: "IEEE802_11_RADIO",
	LinkIPv4: "IPV4", LinkIPv6: "IPV6", LinkSLL2: "LINUX_SLL2", LinkTunnel: "TUNNEL",
	LinkTunnel6: "TUNNEL6", LinkLoopback: "LOOPBACK", LinkSIT: "SIT", LinkGRE: "IPGRE",
	LinkGRE6: "IP6GRE", LinkNone: "NONE",
	LinkCooked: "COOKED",
}

// Supported reports whether flows can be made of packets of this type.
func (t LinkType) Supported() bool { _, ok := linkNames[t]; return ok }

// String returns the type's name and number, or only the number if it is unknown here.
func (t LinkType) String() string {
	n := strconv.FormatUint(uint64(t), 10)
	if s, ok := linkNames[t]; ok {
		return s + " (" + n + ")"
	}
	return n
}

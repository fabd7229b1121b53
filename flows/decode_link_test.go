package flows_test

import (
	"encoding/binary"

	"weir/capture"
)

// The two packets that link-layer samples carry, and what they decode to.
var (
	inside4 = ip4{proto: 17}.with(udp(2))
	inside6 = ip6{next: 17}.with(udp(2))
)

const (
	got4 = "v4 17 40001>443 octets 30"
	got6 = "v6 17 40001>443 octets 50"
)

const (
	notInFiles  = "ARPHRD_* of a device, which no capture file has"
	hasMetadata = "what the ring says beside the packet is not in a capture file"
)

// sll returns a Linux cooked header v1.
func sll(kind, arphrd, protocol uint16, payload ...[]byte) []byte {
	return join(be16(kind), be16(arphrd), be16(6), macs[:6], be16(0), be16(protocol), join(payload...))
}

// sll2 returns a Linux cooked header v2.
func sll2(kind byte, arphrd, protocol uint16, payload ...[]byte) []byte {
	return join(be16(protocol), be16(0), be32(3), be16(arphrd), []byte{kind, 6}, macs[:6], be16(0), join(payload...))
}

// linkSamples has every link type but 802.11, and every shim but VLAN tags.
func linkSamples() []sample {
	hostOrder := binary.NativeEndian.AppendUint32(nil, 2)
	samples := []sample{
		{"Ethernet IPv4", on(capture.LinkEthernet, ether(0x0800, inside4)), got4, ""},
		{"Ethernet IPv6", on(capture.LinkEthernet, ether(0x86dd, inside6)), got6, ""},
		{"loopback device IPv4", on(capture.LinkLoopback, ether(0x0800, inside4)), got4, notInFiles},
		{"loopback device IPv6", on(capture.LinkLoopback, ether(0x86dd, inside6)), got6, notInFiles},

		// Not IP, by cause.
		{"ARP", on(capture.LinkEthernet, ether(0x0806, repeat(0, 28))), "arp", ""},
		{"RARP", on(capture.LinkEthernet, ether(0x8035, repeat(0, 28))), "arp", ""},
		{"LLDP", on(capture.LinkEthernet, ether(0x88cc, repeat(0, 28))), "lldp", ""},
		{"EtherType of wake-on-LAN", on(capture.LinkEthernet, ether(0x0842, repeat(0xff, 28))), "ethertype", ""},
		{"EtherType without payload", on(capture.LinkEthernet, ether(0xffff)), "ethertype", ""},
		{"EtherType 0x0600", on(capture.LinkEthernet, ether(0x0600, inside4)), "ethertype", ""},

		// IEEE 802.3 with LLC.
		{"LLC of spanning tree", on(capture.LinkEthernet, ieee8023([]byte{0x42, 0x42, 3}, repeat(0, 35))), "llc", ""},
		{"LLC of IS-IS", on(capture.LinkEthernet, ieee8023([]byte{0xfe, 0xfe, 3}, repeat(0, 35))), "llc", ""},
		{"LLC with the SAP of IP", on(capture.LinkEthernet, ieee8023([]byte{6, 6, 3}, inside4)), got4, ""},
		{"Novell raw 802.3", on(capture.LinkEthernet, ieee8023(repeat(0xff, 30))), "llc", ""},
		{"SNAP IPv4", on(capture.LinkEthernet, ieee8023(snap(0, 0x0800, inside4))), got4, ""},
		{"SNAP IPv6", on(capture.LinkEthernet, ieee8023(snap(0, 0x86dd, inside6))), got6, ""},
		{"SNAP bridge tunnel IPv4", on(capture.LinkEthernet, ieee8023(snap(0x0000f8, 0x0800, inside4))), got4, ""},
		{"SNAP ARP", on(capture.LinkEthernet, ieee8023(snap(0, 0x0806, repeat(0, 28)))), "arp", ""},
		{"SNAP of Cisco with IP's number", on(capture.LinkEthernet, ieee8023(snap(0x00000c, 0x0800, inside4))), "llc", ""},
		{"SNAP with a length for EtherType", on(capture.LinkEthernet, ieee8023(snap(0, 0x0030, inside4))), "llc", ""},
		{"LLC cut off", on(capture.LinkEthernet, ieee8023([]byte{0xaa, 0xaa})), "link_header", ""},
		{"SNAP cut off", on(capture.LinkEthernet, ieee8023([]byte{0xaa, 0xaa, 3, 0, 0, 0, 8})), "link_header", ""},

		// MPLS.
		{"MPLS", on(capture.LinkEthernet, ether(0x8847, label(100, true, inside4))), got4, ""},
		{"MPLS IPv6", on(capture.LinkEthernet, ether(0x8847, label(100, true, inside6))), got6, ""},
		{"MPLS upstream", on(capture.LinkEthernet, ether(0x8848, label(100, true, inside4))), got4, ""},
		{"MPLS five labels", on(capture.LinkEthernet, ether(0x8847,
			label(1, false, label(2, false, label(3, false, label(4, false, label(5, true, inside4))))))), got4, ""},
		{"MPLS pseudowire control word", on(capture.LinkEthernet, ether(0x8847, label(100, true, be32(0), ether(0x0800, inside4)))),
			"mpls_payload", ""},
		{"MPLS without bottom", on(capture.LinkEthernet, ether(0x8847, label(1, false, label(2, false)))), "link_header", ""},
		{"MPLS without payload", on(capture.LinkEthernet, ether(0x8847, label(1, true))), "ip_header", ""},

		// PPPoE and PPP.
		{"PPPoE IPv4", on(capture.LinkEthernet, ether(0x8864, pppoe(be16(0x0021), inside4))), got4, ""},
		{"PPPoE IPv6", on(capture.LinkEthernet, ether(0x8864, pppoe(be16(0x0057), inside6))), got6, ""},
		{"PPPoE compressed IPv4", on(capture.LinkEthernet, ether(0x8864, pppoe([]byte{0x21}, inside4))), got4, ""},
		{"PPPoE compressed IPv6", on(capture.LinkEthernet, ether(0x8864, pppoe([]byte{0x57}, inside6))), got6, ""},
		{"PPPoE MPLS", on(capture.LinkEthernet, ether(0x8864, pppoe(be16(0x0281), label(9, true, inside4)))), got4, ""},
		{"PPPoE LCP", on(capture.LinkEthernet, ether(0x8864, pppoe(be16(0xc021), []byte{9, 1, 0, 8, 0, 0, 0, 0}))), "ppp_control", ""},
		{"PPPoE discovery", on(capture.LinkEthernet, ether(0x8863, []byte{0x11, 9, 0, 0, 0, 4, 1, 1, 0, 0})), "pppoe_discovery", ""},
		{"PPPoE cut off", on(capture.LinkEthernet, ether(0x8864, []byte{0x11, 0, 0, 1, 0})), "link_header", ""},
		{"PPPoE without protocol", on(capture.LinkEthernet, ether(0x8864, pppoe())), "link_header", ""},
		{"PPPoE link", on(capture.LinkPPPoE, pppoe(be16(0x0021), inside4)), got4, ""},
		{"PPPoE link discovery", on(capture.LinkPPPoE, []byte{0x11, 9, 0, 0, 0, 4, 1, 1, 0, 0}), "pppoe_discovery", ""},
		{"PPP", on(capture.LinkPPP, be16(0x0021), inside4), got4, ""},
		{"PPP IPv6", on(capture.LinkPPP, be16(0x0057), inside6), got6, ""},
		{"PPP compressed", on(capture.LinkPPP, []byte{0x21}, inside4), got4, ""},
		{"PPP HDLC", on(capture.LinkPPP, []byte{0xff, 3}, be16(0x0021), inside4), got4, ""},
		{"PPP HDLC compressed", on(capture.LinkPPP, []byte{0xff, 3, 0x57}, inside6), got6, ""},
		{"PPP IPCP", on(capture.LinkPPP, []byte{0xff, 3, 0x80, 0x21, 1, 1, 0, 4}), "ppp_control", ""},
		{"PPP serial", on(capture.LinkPPPSerial, []byte{0xff, 3}, be16(0x0021), inside4), got4, ""},
		{"PPP serial as Cisco HDLC", on(capture.LinkPPPSerial, []byte{0x0f, 0}, be16(0x0800), inside4), got4, ""},
		{"PPP serial as Cisco HDLC multicast", on(capture.LinkPPPSerial, []byte{0x8f, 0}, be16(0x86dd), inside6), got6, ""},

		// Cisco HDLC.
		{"Cisco HDLC IPv4", on(capture.LinkCiscoHDLC, []byte{0x0f, 0}, be16(0x0800), inside4), got4, ""},
		{"Cisco HDLC IPv6", on(capture.LinkCiscoHDLC, []byte{0x8f, 0}, be16(0x86dd), inside6), got6, ""},
		{"Cisco HDLC SLARP", on(capture.LinkCiscoHDLC, []byte{0x8f, 0}, be16(0x8035), repeat(0, 14)), "arp", ""},
		{"Cisco HDLC CDP", on(capture.LinkCiscoHDLC, []byte{0x8f, 0}, be16(0x2000), repeat(0, 14)), "ethertype", ""},
		{"Cisco HDLC has no lengths", on(capture.LinkCiscoHDLC, []byte{0x0f, 0}, be16(0x0030), snap(0, 0x0800, inside4)), "ethertype", ""},

		// An address family, in either byte order.
		{"NULL IPv4 little endian", on(capture.LinkNull, []byte{2, 0, 0, 0}, inside4), got4, ""},
		{"NULL IPv4 big endian", on(capture.LinkNull, []byte{0, 0, 0, 2}, inside4), got4, ""},
		{"NULL IPv4 as this host has it", on(capture.LinkNull, hostOrder, inside4), got4, ""},
		{"NULL IPv6 of Linux", on(capture.LinkNull, []byte{10, 0, 0, 0}, inside6), got6, "tshark knows the numbers of the BSDs only"},
		{"NULL IPv6 of OpenBSD", on(capture.LinkNull, []byte{24, 0, 0, 0}, inside6), got6, ""},
		{"NULL IPv6 of FreeBSD", on(capture.LinkNull, []byte{28, 0, 0, 0}, inside6), got6, ""},
		{"NULL IPv6 of Darwin", on(capture.LinkNull, []byte{0, 0, 0, 30}, inside6), got6, ""},
		{"NULL AppleTalk", on(capture.LinkNull, []byte{16, 0, 0, 0}, repeat(0, 40)), "family", ""},
		{"NULL IPv6 in AF_INET", on(capture.LinkNull, []byte{2, 0, 0, 0}, inside6), "ip_version", ""},
		{"LOOP IPv4", on(capture.LinkLoop, []byte{0, 0, 0, 2}, inside4), got4, ""},
		{"LOOP IPv6", on(capture.LinkLoop, []byte{0, 0, 0, 24}, inside6), got6, ""},

		// Linux cooked. Direction is in the header.
		{"SLL to us", on(capture.LinkSLL, sll(0, 1, 0x0800, inside4)), got4 + " in", ""},
		{"SLL broadcast", on(capture.LinkSLL, sll(1, 1, 0x0800, inside4)), got4 + " in", ""},
		{"SLL multicast", on(capture.LinkSLL, sll(2, 1, 0x86dd, inside6)), got6 + " in", ""},
		{"SLL to others", on(capture.LinkSLL, sll(3, 1, 0x0800, inside4)), got4 + " in", ""},
		{"SLL from us", on(capture.LinkSLL, sll(4, 1, 0x0800, inside4)), got4 + " out", ""},
		{"SLL of a type unheard of", on(capture.LinkSLL, sll(0x1234, 1, 0x0800, inside4)), got4, "tshark has no opinion on direction"},
		{"SLL ARP", on(capture.LinkSLL, sll(1, 1, 0x0806, repeat(0, 28))), "arp", ""},
		{"SLL 802.2", on(capture.LinkSLL, sll(0, 1, 4, []byte{0x42, 0x42, 3}, repeat(0, 35))), "llc", ""},
		{"SLL 802.2 SNAP", on(capture.LinkSLL, sll(0, 1, 4, snap(0, 0x0800, inside4))), got4 + " in", ""},
		{"SLL 802.3 of Novell", on(capture.LinkSLL, sll(0, 1, 1, repeat(0xff, 30))), "family", ""},
		{"SLL CAN", on(capture.LinkSLL, sll(0, 280, 0x000c, repeat(0, 16))), "family", ""},
		{"SLL netlink", on(capture.LinkSLL, sll(4, 824, 4, snap(0, 0x0800, inside4))), "family", ""},
		{"SLL of a GRE device", on(capture.LinkSLL, sll(0, 778, 0x0800, inside4)), got4 + " in", ""},
		{"SLL MPLS", on(capture.LinkSLL, sll(0, 1, 0x8847, label(5, true, inside4))), got4 + " in", ""},
		{"SLL2 to us", on(capture.LinkSLL2, sll2(0, 1, 0x0800, inside4)), got4 + " in", ""},
		{"SLL2 from us", on(capture.LinkSLL2, sll2(4, 1, 0x86dd, inside6)), got6 + " out", ""},
		{"SLL2 of a type unheard of", on(capture.LinkSLL2, sll2(200, 1, 0x0800, inside4)), got4, "tshark has no opinion on direction"},
		{"SLL2 ARP", on(capture.LinkSLL2, sll2(1, 1, 0x0806, repeat(0, 28))), "arp", ""},
		{"SLL2 netlink", on(capture.LinkSLL2, sll2(4, 824, 4, snap(0, 0x0800, inside4))), "family", ""},
		{"SLL2 PPPoE", on(capture.LinkSLL2, sll2(0, 1, 0x8864, pppoe(be16(0x0021), inside4))), got4 + " in", ""},

		// Direction beside the packet: from the ring, or epb_flags of pcapng.
		{"host", to(capture.PacketHost, ether(0x0800, inside4)), got4 + " in", hasMetadata},
		{"broadcast", to(capture.PacketBroadcast, ether(0x0800, inside4)), got4 + " in", hasMetadata},
		{"multicast", to(capture.PacketMulticast, ether(0x86dd, inside6)), got6 + " in", hasMetadata},
		{"other host", to(capture.PacketOtherHost, ether(0x0800, inside4)), got4 + " in", hasMetadata},
		{"outgoing", to(capture.PacketOutgoing, ether(0x0800, inside4)), got4 + " out", hasMetadata},
		{"looped back", to(capture.PacketLoopback, ether(0x0800, inside4)), got4 + " in", hasMetadata},
		{"cooked header against ring", withType(capture.PacketOutgoing, on(capture.LinkSLL, sll(0, 1, 0x0800, inside4))), got4 + " out", hasMetadata},
		{"cooked header against ring v2", withType(capture.PacketHost, on(capture.LinkSLL2, sll2(4, 1, 0x0800, inside4))), got4 + " in", hasMetadata},

		{"raw link IPv4 with IPv6", on(capture.LinkIPv4, inside6), "ip_version", ""},
		{"raw link IPv6 with IPv4", on(capture.LinkIPv6, inside4), "ip_version", ""},
		{"raw IPv4", on(capture.LinkIPv4, inside4), got4, ""},
		{"raw IPv6", on(capture.LinkIPv6, inside6), got6, ""},
		{"raw nibble 5", on(capture.LinkRaw, repeat(0x55, 40)), "ip_version", ""},
		{"unknown link type", on(147, inside4), "link_type", "nor does tshark know it"},
	}
	for _, l := range []capture.LinkType{capture.LinkRaw, capture.LinkRaw12, capture.LinkRaw14,
		capture.LinkNone, capture.LinkTunnel, capture.LinkTunnel6, capture.LinkSIT, capture.LinkGRE, capture.LinkGRE6} {
		reason := ""
		if l != capture.LinkRaw && l != capture.LinkRaw12 && l != capture.LinkRaw14 {
			reason = notInFiles
		}
		samples = append(samples,
			sample{l.String() + " IPv4", on(l, inside4), got4, reason},
			sample{l.String() + " IPv6", on(l, inside6), got6, reason})
	}
	return samples
}

// to returns an Ethernet packet of a type.
func to(kind capture.PacketType, data []byte) capture.Packet {
	return withType(kind, on(capture.LinkEthernet, data))
}

func withType(kind capture.PacketType, p capture.Packet) capture.Packet {
	p.Type = kind
	return p
}

// withVLAN returns p with a tag that the kernel took out of it.
func withVLAN(tpid, tci uint16, p capture.Packet) capture.Packet {
	p.VLANTPID, p.VLANTCI = tpid, tci
	return p
}

// vlanSamples has VLAN tags in line and beside the packet. Priority bits are set
// here and there, as they are no part of the id.
func vlanSamples() []sample {
	var deep []byte
	for id := uint16(50); id > 1; id-- {
		deep = tag(id, 0x8100, deep)
		if id == 50 {
			deep = tag(id, 0x0800, inside4)
		}
	}
	eth := func(data []byte) capture.Packet { return on(capture.LinkEthernet, data) }
	return []sample{
		{"802.1Q", eth(ether(0x8100, tag(7, 0x0800, inside4))), got4 + " vlan 7", ""},
		{"802.1Q with priority", eth(ether(0x8100, tag(0xf007, 0x86dd, inside6))), got6 + " vlan 7", ""},
		{"802.1Q id 4095", eth(ether(0x8100, tag(4095, 0x0800, inside4))), got4 + " vlan 4095", ""},
		{"802.1Q id 0", eth(ether(0x8100, tag(0xa000, 0x0800, inside4))), got4, ""},
		{"802.1Q id 0 then 5", eth(ether(0x8100, tag(0, 0x8100, tag(5, 0x0800, inside4)))), got4, ""},
		{"802.1ad", eth(ether(0x88a8, tag(300, 0x8100, tag(100, 0x0800, inside4)))), got4 + " vlan 300", ""},
		{"0x9100", eth(ether(0x9100, tag(301, 0x8100, tag(100, 0x0800, inside4)))), got4 + " vlan 301", ""},
		{"0x9200", eth(ether(0x9200, tag(302, 0x0800, inside4))), got4 + " vlan 302", "tshark does not know 0x9200"},
		{"all four", eth(ether(0x9200, tag(1, 0x9100, tag(2, 0x88a8, tag(3, 0x8100, tag(4, 0x86dd, inside6)))))), got6 + " vlan 1",
			"tshark does not know 0x9200"},
		{"50 tags", eth(ether(0x8100, tag(1, 0x8100, deep))), got4 + " vlan 1", "tshark gives up after some twenty tags"},
		{"VLAN on LLC", eth(ether(0x8100, tag(7, 38, snap(0, 0x0800, inside4)))), got4 + " vlan 7", ""},
		{"VLAN within SNAP", eth(ieee8023(snap(0, 0x8100, tag(7, 0x0800, inside4)))), got4 + " vlan 7", ""},
		{"VLAN on MPLS", eth(ether(0x8100, tag(7, 0x8847, label(1, true, inside4)))), got4 + " vlan 7", ""},
		{"VLAN on PPPoE", eth(ether(0x8100, tag(7, 0x8864, pppoe(be16(0x0021), inside4)))), got4 + " vlan 7", ""},
		{"VLAN on ARP", eth(ether(0x8100, tag(7, 0x0806, repeat(0, 28)))), "arp", ""},
		{"VLAN cut off", eth(ether(0x8100, []byte{0, 7, 8})), "link_header", ""},
		{"VLAN after SLL", on(capture.LinkSLL, sll(4, 1, 0x8100, tag(7, 0x0800, inside4))), got4 + " vlan 7 out", ""},
		{"VLAN after SLL2", on(capture.LinkSLL2, sll2(0, 1, 0x88a8, tag(7, 0x8100, tag(8, 0x0800, inside4)))), got4 + " vlan 7 in", ""},
		{"VLAN after Cisco HDLC", on(capture.LinkCiscoHDLC, []byte{0x0f, 0}, be16(0x8100), tag(7, 0x0800, inside4)), got4 + " vlan 7", "tshark does not look for a VLAN tag there"},

		{"metadata", withVLAN(0x8100, 0x2007, eth(ether(0x0800, inside4))), got4 + " vlan 7", hasMetadata},
		{"metadata IPv6", withVLAN(0x88a8, 7, eth(ether(0x86dd, inside6))), got6 + " vlan 7", hasMetadata},
		{"metadata id 0", withVLAN(0x8100, 0, eth(ether(0x0800, inside4))), got4, hasMetadata},
		{"metadata and in line", withVLAN(0x88a8, 300, eth(ether(0x8100, tag(100, 0x0800, inside4)))), got4 + " vlan 300", hasMetadata},
		{"metadata id 0 and in line", withVLAN(0x8100, 0, eth(ether(0x8100, tag(100, 0x0800, inside4)))), got4, hasMetadata},
		{"metadata without tag", withVLAN(0, 7, eth(ether(0x0800, inside4))), got4, hasMetadata},
		{"metadata on SLL", withVLAN(0x8100, 9, on(capture.LinkSLL, sll(4, 1, 0x8100, tag(7, 0x0800, inside4)))), got4 + " vlan 9 out", hasMetadata},
		{"metadata on SLL2", withVLAN(0x8100, 9, on(capture.LinkSLL2, sll2(4, 1, 0x0800, inside4))), got4 + " vlan 9 out", hasMetadata},
		{"metadata on raw", withVLAN(0x8100, 9, on(capture.LinkRaw, inside4)), got4 + " vlan 9", hasMetadata},
		{"metadata on Cisco HDLC", withVLAN(0x8100, 6, on(capture.LinkCiscoHDLC, []byte{0x0f, 0}, be16(0x8100), tag(9, 0x0800, inside4))), got4 + " vlan 6", hasMetadata},
		{"metadata on 802.11", withVLAN(0x8100, 6, on(capture.Link80211, wifi(8, 1), snap(0, 0x8100, tag(9, 0x0800, inside4)))), got4 + " vlan 6", hasMetadata},
	}
}

package flows_test

import (
	"testing"

	"weir/capture"
	"weir/flows"
)

// repeating returns p as a super-packet of which the source knows that each segment
// repeats header octets from the start of Data on.
func repeating(header, size uint16, p capture.Packet) capture.Packet {
	p.GSOHeader, p.GSOSize = header, size
	return p
}

// takenOff returns a packet whose link-layer header the kernel has taken off.
func takenOff(protocol uint16, data ...[]byte) capture.Packet {
	p := on(capture.LinkCooked, data...)
	p.Protocol = protocol
	return p
}

// superSamples has super-packets whose headers the source knows.
func superSamples() []sample {
	eth4 := func(ip []byte) capture.Packet { return on(capture.LinkEthernet, ether(0x0800, ip)) }
	bulk := func(payload int) capture.Packet { // TCP, payload not captured
		return wired(uint32(54+payload), eth4(ip4{proto: 6, total: 40 + payload}.with(tcp(0x18))))
	}
	// Outer IPv4, UDP, VXLAN, inner Ethernet, IPv4 and TCP: 20+8+8+14+20+20.
	vxlan := wired(14+90+3000, eth4(ip4{proto: 17, total: 90 + 3000}.with(udp(8), ether(0x0800, ip4{proto: 6, total: 3040}.with(tcp(0x10))))))
	// Outer IPv4, GRE, inner IPv4 and TCP: 20+4+20+20.
	gre := ip4{proto: 47, total: 64 + 2500}.with(be16(0), be16(0x0800), ip4{proto: 6, total: 2540}.with(tcp(0x10)))
	return []sample{
		{"known headers", repeating(54, 1448, bulk(3*1448)), "v4 6 40001>443 flags 18 octets 4464 packets 3", notOnTheWire},
		{"known headers, a rest", repeating(54, 1448, bulk(3*1448+1)), "v4 6 40001>443 flags 18 octets 4505 packets 4", notOnTheWire},
		{"known headers, one segment", repeating(54, 1448, bulk(1448)), "v4 6 40001>443 flags 18 octets 1488", notOnTheWire},
		{"known headers, TCP cut off", repeating(54, 1448, shorn(14+20+2, bulk(3*1448))), "v4 6 octets 4464 packets 3", notOnTheWire},
		{"known headers, length 0", repeating(54, 1448, wired(54+70*1448, eth4(ip4{proto: 6, total: -1}.with(tcp(0x10))))),
			"v4 6 40001>443 flags 10 octets 104160 packets 70", notOnTheWire},
		{"known headers of VXLAN", repeating(104, 1000, vxlan), "v4 17 40001>443 octets 3270 packets 3", notOnTheWire},
		{"known headers of GRE", repeating(78, 1000, wired(14+64+2500, eth4(gre))), "v4 47 octets 2692 packets 3", notOnTheWire},
		{"known headers of GRE behind VLAN", repeating(82, 1000, wired(18+64+2500, on(capture.LinkEthernet, ether(0x8100, tag(7, 0x0800, gre))))),
			"v4 47 octets 2692 vlan 7 packets 3", notOnTheWire},
		{"known headers, no link layer", repeating(64, 1000, wired(64+2500, raw(gre))), "v4 47 octets 2692 packets 3", notOnTheWire},
		{"known headers end before IP", repeating(10, 1000, bulk(2000)), "v4 6 40001>443 flags 18 octets 2040 packets 3", notOnTheWire},
	}
}

// takenOffSamples has packets without a link-layer header.
func takenOffSamples() []sample {
	const v4, v6 = "v4 6 40001>443 flags 10 octets 40", "v6 6 40001>443 flags 10 octets 60"
	ipv4, ipv6 := ip4{proto: 6}.with(tcp(0x10)), ip6{next: 6}.with(tcp(0x10))
	return []sample{
		{"taken off: IPv4", takenOff(0x0800, ipv4), v4, notInFiles},
		{"taken off: IPv6", takenOff(0x86dd, ipv6), v6, notInFiles},
		{"taken off: tag", takenOff(0x8100, tag(7, 0x0800, ipv4)), v4 + " vlan 7", notInFiles},
		{"taken off: two tags", takenOff(0x88a8, tag(7, 0x8100, tag(8, 0x86dd, ipv6))), v6 + " vlan 7", notInFiles},
		{"taken off: MPLS", takenOff(0x8847, label(16, true, ipv4)), v4, notInFiles},
		{"taken off: PPPoE", takenOff(0x8864, pppoe(be16(0x57), ipv6)), v6, notInFiles},
		{"taken off: ARP", takenOff(0x0806, repeat(0, 28)), "arp", notInFiles},
		{"taken off: one of the kernel's numbers", takenOff(0x0004, ipv4), "family", notInFiles},
		{"taken off: of the other version", takenOff(0x86dd, ipv4), "ip_version", notInFiles},
		{"taken off: nothing left", takenOff(0x0800), "ip_header", notInFiles},
		{"taken off: tag cut off", takenOff(0x8100, be16(7)), "link_header", notInFiles},
	}
}

// TestSegmentsAgree holds that a super-packet of known headers is as many packets
// here as in capture.
func TestSegmentsAgree(t *testing.T) {
	for _, s := range superSamples() {
		var h flows.Headers
		if v := h.Decode(&s.packet); v != flows.OK || int(h.Packets) != s.packet.Segments() {
			t.Errorf("%s: %v, %d packets of %d segments", s.name, v, h.Packets, s.packet.Segments())
		}
	}
}

// TestVerdictOfCause pins that each cause of capture is the verdict of its number.
func TestVerdictOfCause(t *testing.T) {
	want := []string{
		capture.OK: "ok", capture.NotIPARP: "arp", capture.NotIPLLDP: "lldp", capture.NotIPLLC: "llc",
		capture.NotIPPPPoEDiscovery: "pppoe_discovery", capture.NotIPPPP: "ppp_control", capture.NotIPMPLS: "mpls_payload",
		capture.NotIP80211: "ieee80211_control", capture.NotIPEncrypted: "ieee80211_encrypted", capture.NotIPFamily: "family",
		capture.NotIPEtherType: "ethertype", capture.ErrorLinkType: "link_type", capture.ErrorLinkHeader: "link_header",
		capture.ErrorVersion: "ip_version", capture.ErrorIPHeader: "ip_header",
	}
	if len(want) != capture.NumCauses {
		t.Fatalf("%d causes are named here, there are %d", len(want), capture.NumCauses)
	}
	for cause, name := range want {
		v := flows.Verdict(cause)
		if v.String() != name || v.IsError() != (capture.Cause(cause) >= capture.ErrorLinkType) {
			t.Errorf("cause %d: %v, want %s", cause, v, name)
		}
	}
}

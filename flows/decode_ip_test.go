package flows_test

import (
	"fmt"

	"weir/capture"
)

// raw returns a packet that begins with its IP header.
func raw(ip ...[]byte) capture.Packet { return on(capture.LinkRaw, ip...) }

// shorn returns p captured to n octets, its wire length unchanged.
func shorn(n int, p capture.Packet) capture.Packet {
	p.Data = p.Data[:n:n]
	return p
}

// frame returns an Ethernet frame, padded to 60 octets with 0xee: a decoder that
// took padding for ports would show it.
func frame(etherType uint16, payload []byte) capture.Packet {
	b := ether(etherType, payload)
	return on(capture.LinkEthernet, b, repeat(0xee, max(60-len(b), 0)))
}

// upperSamples has what follows IP and is the same in both families: size is that
// of the IP header, with one that carries proto.
func upperSamples(family string, size int, with func(proto byte, payload []byte) []byte) []sample {
	got := func(format string, args ...any) string { return family + " " + fmt.Sprintf(format, args...) }
	return []sample{
		{family + " TCP", raw(with(6, tcp(0x12))), got("6 40001>443 flags 12 octets %d", size+20), ""},
		{family + " TCP all flags", raw(with(6, tcp(0xff))), got("6 40001>443 flags ff octets %d", size+20), ""},
		{family + " TCP without flags", raw(with(6, tcp(0))), got("6 40001>443 octets %d", size+20), ""},
		{family + " UDP", raw(with(17, udp(10))), got("17 40001>443 octets %d", size+18), ""},
		{family + " UDP-Lite", raw(with(136, udp(10))), got("136 40001>443 octets %d", size+18), ""},
		{family + " SCTP", raw(with(132, join(ports, repeat(0, 8)))), got("132 40001>443 octets %d", size+12), ""},
		{family + " DCCP", raw(with(33, join(ports, []byte{4, 0, 0, 0, 0, 0, 0, 1}))), got("33 40001>443 octets %d", size+12), ""},

		// Neither ports nor a look inside.
		{family + " GRE", raw(with(47, join([]byte{0, 0, 8, 0}, inside4))), got("47 octets %d", size+34), ""},
		{family + " IPIP", raw(with(4, inside4)), got("4 octets %d", size+30), ""},
		{family + " 6in4", raw(with(41, inside6)), got("41 octets %d", size+50), ""},
		{family + " ESP", raw(with(50, repeat(0x77, 24))), got("50 octets %d", size+24), ""},
		{family + " OSPF", raw(with(89, repeat(0x77, 24))), got("89 octets %d", size+24), ""},
		{family + " protocol 255", raw(with(255, repeat(0x77, 24))), got("255 octets %d", size+24), ""},
		{family + " VRRP", raw(with(112, repeat(0x21, 24))), got("112 octets %d", size+24), ""},

		// 4 octets make ports, 14 make flags; both ports or neither.
		{family + " TCP 13 octets captured", shorn(size+13, raw(with(6, tcp(0x12)))), got("6 40001>443 octets %d", size+20), ""},
		{family + " TCP 14 octets captured", shorn(size+14, raw(with(6, tcp(0x12)))), got("6 40001>443 flags 12 octets %d", size+20), "tshark shows no flags unless the whole header is there"},
		{family + " TCP 4 octets captured", shorn(size+4, raw(with(6, tcp(0x12)))), got("6 40001>443 octets %d", size+20), ""},
		{family + " TCP 3 octets captured", shorn(size+3, raw(with(6, tcp(0x12)))), got("6 octets %d", size+20), ""},
		{family + " UDP 4 octets captured", shorn(size+4, raw(with(17, udp(9)))), got("17 40001>443 octets %d", size+17), ""},
		{family + " UDP 3 octets captured", shorn(size+3, raw(with(17, udp(9)))), got("17 octets %d", size+17), ""},
		{family + " UDP 0 octets captured", shorn(size, raw(with(17, udp(9)))), got("17 octets %d", size+17), ""},
		{family + " SCTP 3 octets captured", shorn(size+3, raw(with(132, ports))), got("132 octets %d", size+4), ""},
		{family + " TCP of 4 octets", raw(with(6, ports)), got("6 40001>443 octets %d", size+4), ""},
		{family + " UDP of 3 octets", raw(with(17, ports[:3])), got("17 octets %d", size+3), ""},
	}
}

// icmpSamples has types and codes: the destination port is type<<8 | code.
func icmpSamples(family string, proto byte, size int, with func(proto byte, payload []byte) []byte) []sample {
	var samples []sample
	for _, k := range [][2]byte{{0, 0}, {3, 1}, {8, 0}, {11, 1}, {128, 0}, {129, 0}, {135, 0}, {255, 255}} {
		port := ""
		if k != [2]byte{} {
			port = fmt.Sprintf(" 0>%d", int(k[0])<<8|int(k[1]))
		}
		samples = append(samples, sample{fmt.Sprintf("%s ICMP %d/%d", family, k[0], k[1]), raw(with(proto, icmp(k[0], k[1]))),
			fmt.Sprintf("%s %d%s octets %d", family, proto, port, size+8), ""})
	}
	unreachable := join(icmp(3, 3), inside4) // the packet within makes no flow
	var two, one string                      // what tshark does with so many octets
	if proto == 1 {
		two = "tshark shows neither type nor code unless the whole header is there"
	} else {
		one = "tshark shows the type without the code"
	}
	return append(samples,
		sample{family + " ICMP error", raw(with(proto, unreachable)), fmt.Sprintf("%s %d 0>771 octets %d", family, proto, size+38), ""},
		sample{family + " ICMP 2 octets captured", shorn(size+2, raw(with(proto, icmp(8, 1)))),
			fmt.Sprintf("%s %d 0>2049 octets %d", family, proto, size+8), two},
		sample{family + " ICMP 1 octet captured", shorn(size+1, raw(with(proto, icmp(8, 1)))),
			fmt.Sprintf("%s %d octets %d", family, proto, size+8), one})
}

// ipv4Samples has what is particular to IPv4, and malformed headers.
func ipv4Samples() []sample {
	plain := func(proto byte, payload []byte) []byte { return ip4{proto: proto}.with(payload) }
	samples := append(upperSamples("v4", 20, plain), icmpSamples("v4", 1, 20, plain)...)

	// Options of every length: octets of an option must not be taken for ports.
	for words := 1; words <= 10; words++ {
		options := repeat(1, words*4) // no operation
		samples = append(samples, sample{fmt.Sprintf("v4 options of %d octets", words*4),
			raw(ip4{proto: 6, options: options}.with(tcp(0x10))),
			fmt.Sprintf("v4 6 40001>443 flags 10 octets %d", 40+words*4), ""})
	}
	return append(samples,
		sample{"v4 AH is final", raw(plain(51, join(auth(6), tcp(2)))), "v4 51 octets 64", ""},
		sample{"v4 hop-by-hop means nothing", raw(plain(0, join(extension(17, padN), udp(1)))), "v4 0 octets 37", ""},
		sample{"v4 fragment header means nothing", raw(plain(44, join(fragment6(17, 0, false), udp(1)))), "v4 44 octets 37", ""},
		sample{"v4 ICMPv6", raw(plain(58, icmp(128, 0))), "v4 58 0>32768 octets 28", ""},

		sample{"v4 first fragment", raw(ip4{proto: 17, fragment: moreFragments}.with(udp(16))), "v4 17 40001>443 octets 44", ""},
		sample{"v4 don't fragment", raw(ip4{proto: 17, fragment: 0x4000}.with(udp(16))), "v4 17 40001>443 octets 44", ""},
		sample{"v4 evil bit", raw(ip4{proto: 17, fragment: 0x8000}.with(udp(16))), "v4 17 40001>443 octets 44", ""},
		sample{"v4 middle fragment", raw(ip4{proto: 17, fragment: moreFragments | 1}.with(udp(16))), "v4 17 octets 44", ""},
		sample{"v4 last fragment", raw(ip4{proto: 6, fragment: 0x1fff}.with(tcp(2))), "v4 6 octets 40", ""},
		sample{"v4 later fragment of ICMP", raw(ip4{proto: 1, fragment: 185}.with(icmp(8, 0))), "v4 1 octets 28", ""},
		sample{"v4 first fragment of TCP", raw(ip4{proto: 6, fragment: moreFragments}.with(tcp(2), repeat(0, 4))), "v4 6 40001>443 flags 02 octets 44", ""},

		// Frames are padded to 60 octets, and IP's length says where padding begins.
		sample{"v4 frame padded", frame(0x0800, plain(17, udp(0))), "v4 17 40001>443 octets 28", ""},
		sample{"v4 frame padded after the IP header", frame(0x0800, plain(17, nil)), "v4 17 octets 20", ""},
		sample{"v4 frame padded within ports", frame(0x0800, plain(6, ports[:3])), "v4 6 octets 23", ""},
		sample{"v4 frame padded within TCP", frame(0x0800, plain(6, ports)), "v4 6 40001>443 octets 24", ""},
		sample{"v4 frame padded before the flags", frame(0x0800, plain(6, tcp(0xff)[:13])), "v4 6 40001>443 octets 33", ""},
		sample{"v4 frame padded after the ICMP type", frame(0x0800, plain(1, []byte{8})), "v4 1 octets 21", ""},
		sample{"v4 frame padded options", frame(0x0800, ip4{proto: 17, options: repeat(1, 12)}.with()), "v4 17 octets 32", ""},
		sample{"v4 frame padded first fragment", frame(0x0800, ip4{proto: 17, fragment: moreFragments}.with()), "v4 17 octets 20", ""},

		// Malformed, by cause.
		sample{"v4 nothing", on(capture.LinkEthernet, ether(0x0800)), "ip_header", ""},
		sample{"v4 version 6", on(capture.LinkEthernet, ether(0x0800, inside6)), "ip_version", ""},
		sample{"v4 version 6 short", on(capture.LinkEthernet, ether(0x0800, inside6[:3])), "ip_version", ""},
		sample{"v4 version 0", raw(ip4{proto: 17, first: 0x05}.with(udp(9))), "ip_version", ""},
		sample{"v4 header length 4 words", raw(ip4{proto: 17, first: 0x44}.with(udp(9))), "ip_ihl", ""},
		sample{"v4 header length 0", raw(ip4{proto: 17, first: 0x40}.with(udp(9))), "ip_ihl", ""},
		sample{"v4 header longer than the packet", raw(ip4{proto: 17, first: 0x4f}.with(udp(9))), "ip_header", ""},
		sample{"v4 total length below the header's", raw(ip4{proto: 17, total: 19}.with(udp(9))), "ip_total_length", ""},
		sample{"v4 total length 1", raw(ip4{proto: 17, total: 1}.with(udp(9))), "ip_total_length", ""},
		sample{"v4 total length within options", raw(ip4{proto: 17, options: repeat(1, 8), total: 27}.with(udp(9))), "ip_total_length", ""},
		sample{"v4 19 octets captured", shorn(19, raw(inside4)), "ip_header", ""},
		sample{"v4 20 octets captured", shorn(20, raw(inside4)), "v4 17 octets 30", ""},
		sample{"v4 options cut off", shorn(27, raw(ip4{proto: 17, options: repeat(1, 8)}.with(udp(9)))), "ip_header", ""},
	)
}

// ipv6Samples has extension headers, and what is particular to IPv6.
func ipv6Samples() []sample {
	plain := func(next byte, payload []byte) []byte { return ip6{next: next}.with(payload) }
	samples := append(upperSamples("v6", 40, plain), icmpSamples("v6", 58, 40, plain)...)

	// All of this once more behind an extension header.
	behind := func(next byte, payload []byte) []byte { return ip6{next: 60}.with(extension(next, padN), payload) }
	for _, s := range append(upperSamples("v6", 48, behind), icmpSamples("v6", 58, 48, behind)...) {
		s.name += " behind options"
		samples = append(samples, s)
	}

	// Each extension header that is walked, whole and cut off at every octet: then
	// it is itself the protocol.
	headers := []struct {
		name   string
		number byte
		bytes  []byte
	}{
		{"hop-by-hop", 0, extension(17, padN)},
		{"hop-by-hop of 24 octets", 0, extension(17, join([]byte{1, 20}, repeat(0, 20)))},
		{"routing", 43, extension(17, segmentsLeft0)},
		{"atomic fragment", 44, fragment6(17, 0, false)},
		{"first fragment", 44, fragment6(17, 0, true)},
		{"AH", 51, auth(17)},
		{"destination options", 60, extension(17, padN)},
	}
	for _, h := range headers {
		whole := raw(ip6{next: h.number}.with(h.bytes, udp(9)))
		octets := 40 + len(h.bytes) + 17
		samples = append(samples, sample{"v6 " + h.name, whole, fmt.Sprintf("v6 17 40001>443 octets %d", octets), ""})
		for n := range h.bytes {
			reason := "tshark takes what a header leads to for the protocol, though the header is cut off"
			if h.number == 0 && n < 2 {
				reason = "" // 0 is hop-by-hop, too
			}
			samples = append(samples,
				sample{fmt.Sprintf("v6 %s, %d octets captured", h.name, n), shorn(40+n, whole),
					fmt.Sprintf("v6 %d octets %d", h.number, octets), reason})
			if n > 0 { // payload length 0 means something else
				samples = append(samples, sample{fmt.Sprintf("v6 %s, %d octets by IP's length", h.name, n),
					on(capture.LinkEthernet, ether(0x86dd, ip6{next: h.number, payload: n}.with(h.bytes, udp(9)))),
					fmt.Sprintf("v6 %d octets %d", h.number, 40+n), reason})
			}
		}
	}

	// Those that end the walk. Each has octets that would make a header of the
	// walkable kind, with UDP behind it.
	for number, name := range map[byte]string{50: "ESP", 59: "no next header", 135: "mobility", 139: "HIP", 140: "shim6", 253: "experimental"} {
		samples = append(samples, sample{"v6 " + name + " ends the walk",
			raw(ip6{next: number}.with(extension(17, padN), udp(9))), fmt.Sprintf("v6 %d octets 65", number), ""})
	}

	all := join(extension(43, padN), extension(44, segmentsLeft0), fragment6(51, 0, false), auth(60), extension(6, padN), tcp(2))
	deep := tcp(2)
	for i := range 100 {
		next := byte(60)
		if i == 0 {
			next = 6
		}
		deep = join(extension(next, padN), deep)
	}
	return append(samples,
		sample{"v6 all extension headers", raw(ip6{next: 0}.with(all)), fmt.Sprintf("v6 6 40001>443 flags 02 octets %d", 40+len(all)), ""},
		sample{"v6 100 extension headers", raw(ip6{next: 60}.with(deep)), "v6 6 40001>443 flags 02 octets 860", ""},
		sample{"v6 ESP behind an option header", raw(ip6{next: 60}.with(extension(50, padN), repeat(0x99, 24))), "v6 50 octets 72", ""},
		sample{"v6 AH of the least length", raw(ip6{next: 51}.with([]byte{17, 0, 0, 0}, be32(1), udp(9))), "v6 17 40001>443 octets 65", ""},

		// Later fragments: no ports, and the protocol of the fragment header, even
		// where that is an extension header.
		sample{"v6 middle fragment", raw(ip6{next: 44}.with(fragment6(17, 8, true), udp(16))), "v6 17 octets 72", ""},
		sample{"v6 last fragment", raw(ip6{next: 44}.with(fragment6(6, 0xfff8, false), tcp(2))), "v6 6 octets 68", ""},
		sample{"v6 later fragment of ICMPv6", raw(ip6{next: 44}.with(fragment6(58, 1448, false), icmp(128, 0))), "v6 58 octets 56", ""},
		sample{"v6 later fragment of options", raw(ip6{next: 44}.with(fragment6(60, 8, false), extension(17, padN), udp(9))), "v6 60 octets 73", ""},
		sample{"v6 later fragment behind options", raw(ip6{next: 0}.with(extension(44, padN), fragment6(17, 8, false), udp(9))), "v6 17 octets 73", ""},
		sample{"v6 reserved bits are no offset", raw(ip6{next: 44}.with([]byte{17, 0xff, 0, 0x06}, be32(1), udp(9))), "v6 17 40001>443 octets 65", ""},

		sample{"v6 frame padded", frame(0x86dd, plain(17, ports)), "v6 17 40001>443 octets 44", ""},
		sample{"v6 frame padded within ports", frame(0x86dd, plain(17, ports[:3])), "v6 17 octets 43", ""},
		sample{"v6 frame padded within ports behind options", frame(0x86dd, ip6{next: 60, payload: 11}.with(extension(17, padN), udp(9))), "v6 17 octets 51", ""},

		sample{"v6 nothing", on(capture.LinkEthernet, ether(0x86dd)), "ip_header", ""},
		sample{"v6 version 4", on(capture.LinkEthernet, ether(0x86dd, inside4)), "ip_version", ""},
		sample{"v6 version 4 short", on(capture.LinkEthernet, ether(0x86dd, inside4[:2])), "ip_version", ""},
		sample{"v6 39 octets captured", shorn(39, raw(inside6)), "ip_header", ""},
		sample{"v6 40 octets captured", shorn(40, raw(inside6)), "v6 17 octets 50", ""},
	)
}

package flows_test

import (
	"weir/capture"
)

const notOnTheWire = "segments are of the ring: a capture file does not have them"

// wired returns p with another wire length.
func wired(n uint32, p capture.Packet) capture.Packet {
	p.WireLen = n
	return p
}

// segmented returns p as a super-packet whose segments carry size octets.
func segmented(size uint16, p capture.Packet) capture.Packet {
	p.GSOSize = size
	return p
}

// octetSamples has packets whose length is not simply that of the IP header.
func octetSamples() []sample {
	eth4 := func(ip []byte) capture.Packet { return on(capture.LinkEthernet, ether(0x0800, ip)) }
	eth6 := func(ip []byte) capture.Packet { return on(capture.LinkEthernet, ether(0x86dd, ip)) }
	noLength4, noLength6 := ip4{proto: 6, total: -1}, ip6{next: 6, payload: -1}
	jumbogram := func(content ...[]byte) capture.Packet {
		return wired(14+90048, eth6(ip6{next: 0, payload: -1}.with(extension(6, join(content...)), tcp(0x10))))
	}
	const (
		missing   = "tshark refuses length 0 with a hop-by-hop header that has no jumbo option; Decode counts the wire length"
		misplaced = "tshark shows the option wherever it is; RFC 2675 has it in the hop-by-hop header of a packet of length 0 only"
		lies      = "a jumbo length that RFC 2675 section 3 forbids: tshark shows it, Decode counts the wire length"
		huge      = "tshark's lengths end at 2^31"
	)
	bulk4 := func(payload uint16) capture.Packet { // TCP, payload not captured
		return wired(uint32(payload)+54, eth4(ip4{proto: 6, total: 40 + int(payload)}.with(tcp(0x18))))
	}
	bulk6 := func(payload uint16) capture.Packet {
		return wired(uint32(payload)+74, eth6(ip6{next: 6, payload: 20 + int(payload)}.with(tcp(0x18))))
	}
	timestamps := tcp(0x10)
	timestamps[12] = 0x80 // 32 octets
	return []sample{
		// Longer on the wire than captured: IP's length counts.
		{"v4 snaplen", shorn(54, eth4(ip4{proto: 6, total: 1500}.with(tcp(0x10), repeat(0, 100)))), "v4 6 40001>443 flags 10 octets 1500", ""},
		{"v4 of 65535 octets", eth4(ip4{proto: 6, total: 65535}.with(tcp(0x10))), "v4 6 40001>443 flags 10 octets 65535", ""},
		{"v6 of 65575 octets", eth6(ip6{next: 6, payload: 65535}.with(tcp(0x10))), "v6 6 40001>443 flags 10 octets 65575", ""},
		{"v4 on a longer wire", wired(1514, eth4(ip4{proto: 6}.with(tcp(0x10)))), "v4 6 40001>443 flags 10 octets 40", ""},

		// Length 0: the wire length from the IP header on.
		{"v4 length 0", wired(14+30000, eth4(noLength4.with(tcp(0x10)))), "v4 6 40001>443 flags 10 octets 30000", ""},
		{"v4 length 0 above 65535", wired(14+190000, eth4(noLength4.with(tcp(0x10)))), "v4 6 40001>443 flags 10 octets 190000", ""},
		{"v4 length 0 behind VLAN", wired(18+30000, on(capture.LinkEthernet, ether(0x8100, tag(7, 0x0800, noLength4.with(tcp(0x10)))))),
			"v4 6 40001>443 flags 10 octets 30000 vlan 7", ""},
		{"v4 length 0 on a wire shorter than captured", wired(10, eth4(noLength4.with(tcp(0x10)))), "v4 6 40001>443 flags 10 octets 40", ""},
		{"v4 length 0 on the longest wire", wired(1<<32-1, raw(noLength4.with(tcp(0x10)))), "v4 6 40001>443 flags 10 octets 4294967295",
			huge},
		{"v6 length 0", wired(14+80040, eth6(noLength6.with(tcp(0x18)))), "v6 6 40001>443 flags 18 octets 80040", ""},
		{"v6 length 0 behind options", wired(80048, raw(ip6{next: 60, payload: -1}.with(extension(6, padN), tcp(0x18)))),
			"v6 6 40001>443 flags 18 octets 80048", ""},

		// The jumbo payload option (RFC 2675).
		{"jumbo", jumbogram(jumbo(80008)), "v6 6 40001>443 flags 10 octets 80048", ""},
		{"jumbo behind padding", jumbogram([]byte{0}, []byte{1, 1, 0}, jumbo(80008), []byte{1, 2, 0, 0}), "v6 6 40001>443 flags 10 octets 80048", ""},
		{"jumbo of 65536", jumbogram(jumbo(65536)), "v6 6 40001>443 flags 10 octets 65576", ""},
		{"jumbo of 2^32-1", jumbogram(jumbo(1<<32 - 1)), "v6 6 40001>443 flags 10 octets 4294967335", huge},
		{"jumbo of 65535", jumbogram(jumbo(65535)), "v6 6 40001>443 flags 10 octets 90048", lies},
		{"jumbo of 0", jumbogram(jumbo(0)), "v6 6 40001>443 flags 10 octets 90048", lies},
		{"jumbo of 5 octets", jumbogram([]byte{0xc2, 3, 0, 1, 0}, []byte{0}), "v6 6 40001>443 flags 10 octets 90048", missing},
		{"jumbo beyond its header", jumbogram(padN[:2], []byte{0, 0}, []byte{0xc2, 4}), "v6 6 40001>443 flags 10 octets 90048", missing},
		{"option beyond its header", jumbogram([]byte{1, 200, 0, 0, 0, 0}), "v6 6 40001>443 flags 10 octets 90048", missing},
		{"no jumbo among options", jumbogram(padN), "v6 6 40001>443 flags 10 octets 90048", missing},
		{"jumbo, the last octet captured", shorn(14+48, jumbogram(jumbo(80008))), "v6 6 octets 80048", ""},
		{"jumbo cut off", shorn(14+47, jumbogram(jumbo(90008))), "v6 0 octets 90048", missing},
		{"jumbo in destination options", wired(90048, raw(ip6{next: 60, payload: -1}.with(extension(6, jumbo(70000)), tcp(0x10)))),
			"v6 6 40001>443 flags 10 octets 90048", misplaced},
		{"jumbo beside a length", raw(ip6{next: 0}.with(extension(6, jumbo(70000)), tcp(0x10))), "v6 6 40001>443 flags 10 octets 68", misplaced},

		// Super-packets: each segment repeats the headers.
		{"v4 segments", segmented(1448, bulk4(1448*3)), "v4 6 40001>443 flags 18 octets 4464 packets 3", notOnTheWire},
		{"v4 segments and a rest", segmented(1448, bulk4(1448*3+1)), "v4 6 40001>443 flags 18 octets 4505 packets 4", notOnTheWire},
		{"v4 one segment", segmented(1448, bulk4(1448)), "v4 6 40001>443 flags 18 octets 1488", notOnTheWire},
		{"v4 less than a segment", segmented(1448, bulk4(1)), "v4 6 40001>443 flags 18 octets 41", notOnTheWire},
		{"v4 segments of nothing", segmented(1448, bulk4(0)), "v4 6 40001>443 flags 18 octets 40", notOnTheWire},
		{"v4 segments of 1 octet", segmented(1, bulk4(60000)), "v4 6 40001>443 flags 18 octets 2460000 packets 60000", notOnTheWire},
		{"v4 segments with options", segmented(1000, wired(5000, eth4(ip4{proto: 6, options: repeat(1, 8), total: 28 + 32 + 2500}.with(timestamps, repeat(1, 12))))),
			"v4 6 40001>443 flags 10 octets 2680 packets 3", notOnTheWire},
		{"v4 segments of length 0", segmented(1448, wired(14+40+2896, eth4(noLength4.with(tcp(0x10))))), "v4 6 40001>443 flags 10 octets 2976 packets 2", notOnTheWire},
		{"v6 segments", segmented(1428, bulk6(1428*10)), "v6 6 40001>443 flags 18 octets 14880 packets 10", notOnTheWire},
		{"v6 segments behind options", segmented(1000, wired(3000, eth6(ip6{next: 60, payload: 8 + 20 + 2000}.with(extension(6, padN), tcp(0x10))))),
			"v6 6 40001>443 flags 10 octets 2136 packets 2", notOnTheWire},
		{"jumbo segments", segmented(1000, jumbogram(jumbo(90028))), "v6 6 40001>443 flags 10 octets 96120 packets 90", notOnTheWire},
		{"UDP segments", segmented(1200, wired(10000, eth4(ip4{proto: 17, total: 28 + 4800}.with(udp(0))))), "v4 17 40001>443 octets 4912 packets 4", notOnTheWire},
		{"segments of TCP cut off", segmented(1448, shorn(14+20+13, bulk4(1448*3))), "v4 6 40001>443 octets 4384", notOnTheWire},
		{"segments in a tunnel", segmented(1000, eth4(ip4{proto: 47, total: 9000}.with(repeat(0, 40)))), "v4 47 octets 9000", notOnTheWire},
	}
}

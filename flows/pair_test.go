package flows

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"weir/capture"
)

// TestAnswers: of any key, an answer leads to the same conversation the other way
// round, and the answer to an answer is the key itself.
func TestAnswers(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	addrs := []string{"10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2", "::", "255.255.255.255"}
	protos := []uint8{protoICMP, protoICMPv6, protoTCP, protoUDP, protoSCTP, 47}
	ports := []uint16{0, 1, 443, 40000, 65535}
	for range 100_000 {
		src, dst := netip.MustParseAddr(addrs[r.IntN(len(addrs))]), netip.MustParseAddr(addrs[r.IntN(len(addrs))])
		proto, a, b := protos[r.IntN(len(protos))], ports[r.IntN(len(ports))], ports[r.IntN(len(ports))]
		var m marks
		if proto == protoICMP || proto == protoICMPv6 {
			a, b, m = 0, uint16(r.Uint32()), markICMP
			if r.IntN(4) == 0 {
				b, m = 0, 0 // a later fragment
			}
		}
		k := NewKey(src, dst, a, b, uint16(r.IntN(2)), proto, Direction(r.IntN(3)))
		back := k.answer(m)
		if twice := back.answer(m); twice != k {
			t.Fatalf("the answer to the answer to %+v is %+v", k, twice)
		}
		c, way := conversation(&k, m)
		d, yaw := conversation(&back, m)
		sameDirection := k
		sameDirection.rest = k.rest&^keyDirection | back.rest&keyDirection
		if c != d || way == yaw && sameDirection != back {
			t.Fatalf("%+v goes %d in conversation %+v, its answer %+v goes %d in %+v", k, way, c, back, yaw, d)
		}
		if c.Direction() != DirectionUnknown || c.VLAN() != k.VLAN() || c.Proto() != k.Proto() {
			t.Fatalf("%+v is in conversation %+v", k, c)
		}
	}
}

// TestPairs: what makes one record, and who is its source.
func TestPairs(t *testing.T) {
	const a6, b6 = "2001:db8::2", "2001:db8::1" // a has the higher address here
	icmp := func(typ, code byte) []byte { return []byte{typ, code, 0, 0} }
	vlan := func(id uint16, p capture.Packet) capture.Packet { p.VLANTPID, p.VLANTCI = 0x8100, id; return p }
	type want struct {
		src              string
		srcPort, dstPort uint16
		there, back      uint64
		by               Initiator
	}
	for _, c := range []struct {
		name    string
		packets []capture.Packet
		want    []want
	}{
		{"ICMPv6 echo, reply first", []capture.Packet{packet(b6, a6, protoICMPv6, icmp(129, 0)...), packet(a6, b6, protoICMPv6, icmp(128, 0)...)},
			[]want{{a6, 0, 128 << 8, 1, 1, InitiatorICMP}}},
		{"neighbour solicitation and advertisement", []capture.Packet{packet(a6, b6, protoICMPv6, icmp(135, 0)...), packet(b6, a6, protoICMPv6, icmp(136, 0)...)},
			[]want{{a6, 0, 135 << 8, 1, 1, InitiatorICMP}}},
		{"neighbour advertisement alone", []capture.Packet{packet(b6, a6, protoICMPv6, icmp(136, 0)...)},
			[]want{{a6, 0, 135 << 8, 0, 1, InitiatorICMP}}},
		{"timestamps", []capture.Packet{packet(b, a, protoICMP, icmp(14, 0)...), packet(a, b, protoICMP, icmp(13, 0)...)},
			[]want{{a, 0, 13 << 8, 1, 1, InitiatorICMP}}},
		{"types of the other family are unknown", []capture.Packet{packet(b, a, protoICMP, icmp(129, 0)...), packet(a, b, protoICMP, icmp(128, 0)...)},
			[]want{{b, 0, 129 << 8, 1, 0, InitiatorFirst}, {a, 0, 128 << 8, 1, 0, InitiatorFirst}}},
		{"type 0 of ICMPv6 is no reply", []capture.Packet{packet(b6, a6, protoICMPv6, icmp(0, 0)...), packet(a6, b6, protoICMPv6, icmp(0, 0)...)},
			[]want{{b6, 0, 0, 1, 1, InitiatorFirst}}},
		{"unreachable both ways", []capture.Packet{packet(b, a, protoICMP, icmp(3, 3)...), packet(a, b, protoICMP, icmp(3, 3)...)},
			[]want{{b, 0, 3<<8 | 3, 1, 1, InitiatorFirst}}},
		{"other codes", []capture.Packet{packet(b, a, protoICMP, icmp(3, 3)...), packet(a, b, protoICMP, icmp(3, 1)...)},
			[]want{{b, 0, 3<<8 | 3, 1, 0, InitiatorFirst}, {a, 0, 3<<8 | 1, 1, 0, InitiatorFirst}}},
		{"to itself, two ports", []capture.Packet{at(2, udp(a, a, 53, 50000)), at(3, udp(a, a, 50000, 53))},
			[]want{{a, 50000, 53, 1, 1, InitiatorPort}}},
		{"to itself, one port", []capture.Packet{udp(a, a, 123, 123), udp(a, a, 123, 123)},
			[]want{{a, 123, 123, 2, 0, InitiatorFirst}}},
		{"equal ports", []capture.Packet{at(9, udp(a, b, 123, 123)), at(8, udp(b, a, 123, 123))},
			[]want{{b, 123, 123, 1, 1, InitiatorFirst}}},
		{"system ports on both sides", []capture.Packet{udp(b, a, 500, 53), udp(a, b, 53, 500)},
			[]want{{b, 500, 53, 1, 1, InitiatorFirst}}},
		{"registered against ephemeral port", []capture.Packet{udp(b, a, 5432, 40000)},
			[]want{{a, 40000, 5432, 0, 1, InitiatorPort}}},
		{"port 0 is no service", []capture.Packet{udp(b, a, 0, 40000)}, []want{{b, 0, 40000, 1, 0, InitiatorFirst}}},
		{"no ports", []capture.Packet{packet(b, a, 47, 0, 0), packet(a, b, 47, 0, 0)}, []want{{b, 0, 0, 1, 1, InitiatorFirst}}},
		{"simultaneous open", []capture.Packet{
			at(2, tcp(a, b, 5000, 6000, flagSYN)), at(1, tcp(b, a, 6000, 5000, flagSYN)),
			at(3, tcp(a, b, 5000, 6000, flagSYN|flagACK)), at(4, tcp(b, a, 6000, 5000, flagSYN|flagACK))},
			[]want{{b, 6000, 5000, 2, 2, InitiatorSYN}}},
		{"SYN against ports", []capture.Packet{tcp(a, b, 22, 50000, flagSYN), tcp(b, a, 50000, 22, flagACK)},
			[]want{{a, 22, 50000, 1, 1, InitiatorSYN}}},
		{"two VLANs", []capture.Packet{vlan(5, udp(a, b, 50000, 53)), vlan(6, udp(b, a, 53, 50000))},
			[]want{{a, 50000, 53, 1, 0, InitiatorPort}, {a, 50000, 53, 0, 1, InitiatorPort}}},
	} {
		got := history(TrackerConfig{}, c.packets)[0]
		if len(got) != len(c.want) {
			t.Errorf("%s: %d records, want %d", c.name, len(got), len(c.want))
			continue
		}
		for i, w := range c.want {
			r := &got[i]
			if r.Key.Src().String() != w.src || r.Key.SrcPort() != w.srcPort || r.Key.DstPort() != w.dstPort ||
				r.Forward.Packets != w.there || r.Reverse.Packets != w.back || r.Initiator != w.by {
				t.Errorf("%s: record %d is %s, want %+v", c.name, i, describe(r), w)
			}
		}
	}
}

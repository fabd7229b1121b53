package flows_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"weir/capture"
	"weir/flows"
)

// sample is a packet and what becomes of it.
type sample struct {
	name   string
	packet capture.Packet
	want   string // in the words of brief, or a verdict
	// noSecondOpinion is why tshark is not asked about this packet.
	noSecondOpinion string
}

// on returns a packet of link type l that is captured whole.
func on(l capture.LinkType, data ...[]byte) capture.Packet {
	b := join(data...)
	return capture.Packet{Data: b, WireLen: uint32(len(b)), LinkType: l, Type: capture.PacketUnknown, Time: 1234567890}
}

// samples are all packets of the tables in decode_*_test.go.
func samples() []sample {
	return slices.Concat(linkSamples(), vlanSamples(), wifiSamples(), ipv4Samples(), ipv6Samples(), octetSamples(), superSamples(), takenOffSamples())
}

// brief says what Decode made of a packet: "v4" and "v6" stand for the addresses
// of all packets built here, ports, flags, VLAN, direction and packets are left
// out where they are 0, unknown and 1. Examples: "v4 17 40001>443 octets 28",
// "v6 6 40001>443 flags 12 octets 60 vlan 7 in packets 2".
func brief(v flows.Verdict, h *flows.Headers) string {
	if v != flows.OK {
		return v.String()
	}
	k := &h.Key
	s := fmt.Sprintf("%v>%v", k.Src(), k.Dst())
	switch {
	case k.Src() == src4 && k.Dst() == dst4:
		s = "v4"
	case k.Src() == src6 && k.Dst() == dst6:
		s = "v6"
	}
	s += fmt.Sprintf(" %d", k.Proto())
	if k.SrcPort() != 0 || k.DstPort() != 0 {
		s += fmt.Sprintf(" %d>%d", k.SrcPort(), k.DstPort())
	}
	if h.TCPFlags != 0 {
		s += fmt.Sprintf(" flags %02x", h.TCPFlags)
	}
	s += fmt.Sprintf(" octets %d", h.Octets)
	if k.VLAN() != 0 {
		s += fmt.Sprintf(" vlan %d", k.VLAN())
	}
	if k.Direction() != flows.DirectionUnknown {
		s += " " + k.Direction().String()
	}
	if h.Packets != 1 {
		s += fmt.Sprintf(" packets %d", h.Packets)
	}
	return s
}

// dirty returns headers as a former packet may have left them, with every bit set
// that can be: after a SYN-ACK, or after an ICMP message.
func dirty(icmpBefore bool) flows.Headers {
	before := raw(ip4{proto: 6}.with(tcp(0x12)))
	if icmpBefore {
		before = raw(ip4{proto: 1}.with(icmp(8, 0)))
	}
	var h flows.Headers
	h.Decode(&before)
	ones, _ := netip.AddrFromSlice(repeat(0xff, 16))
	h.Key = flows.NewKey(ones, ones, 0xffff, 0xffff, 0xffff, 0xff, 0xff)
	h.Time, h.Octets, h.Packets, h.TCPFlags = -1, ^uint64(0), ^uint32(0), 0xff
	return h
}

// TestDecode decodes each sample into clean headers and into dirty ones.
func TestDecode(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range samples() {
		if seen[s.name] {
			t.Errorf("two samples of the name %q", s.name)
		}
		seen[s.name] = true
		t.Run(s.name, func(t *testing.T) {
			var clean flows.Headers
			v := clean.Decode(&s.packet)
			if got := brief(v, &clean); got != s.want {
				t.Fatalf("got  %s\nwant %s", got, s.want)
			}
			for _, used := range []flows.Headers{dirty(false), dirty(true)} {
				if again := used.Decode(&s.packet); again != v || v == flows.OK && used != clean {
					t.Errorf("after another packet: %v %+v, want %v %+v", again, used, v, clean)
				}
			}
			if v == flows.OK && clean.Time != s.packet.Time {
				t.Errorf("time %d, want %d", clean.Time, s.packet.Time)
			}
		})
	}
}

// TestDecodeAllocates pins that decoding does not allocate, whatever the packet.
func TestDecodeAllocates(t *testing.T) {
	all := samples()
	var h flows.Headers
	if n := testing.AllocsPerRun(100, func() {
		for i := range all {
			h.Decode(&all[i].packet)
		}
	}); n != 0 {
		t.Errorf("%v allocations for %d packets, want 0", n, len(all))
	}
}

// TestDecodeUnknownLinkTypes pins that a link type is either decoded or refused
// as such, in agreement with LinkType.Supported.
func TestDecodeUnknownLinkTypes(t *testing.T) {
	var h flows.Headers
	data := repeat(0x45, 128)
	for l := capture.LinkType(0); l < 1<<16; l++ {
		p := on(l, data)
		if v := h.Decode(&p); (v != flows.ErrorLinkType) != l.Supported() {
			t.Errorf("link type %v: %v, Supported says %v", l, v, l.Supported())
		}
	}
	p := on(capture.LinkCooked, data)
	if v := h.Decode(&p); v == flows.ErrorLinkType || !p.LinkType.Supported() {
		t.Errorf("link type %v: %v", p.LinkType, v)
	}
	p = on(1<<32-1, data)
	if v := h.Decode(&p); v != flows.ErrorLinkType {
		t.Errorf("link type %v: %v", p.LinkType, v)
	}
}

// TestDecodeCutAnywhere cuts each sample after every octet. What is left never
// decodes to another flow: at most ports, flags and extension headers are missing.
func TestDecodeCutAnywhere(t *testing.T) {
	for _, s := range samples() {
		var whole flows.Headers
		if whole.Decode(&s.packet) != flows.OK {
			whole = flows.Headers{}
		}
		ports := false
		for n := range len(s.packet.Data) + 1 {
			p := s.packet
			p.Data = p.Data[:n:n] // a read beyond n panics
			h := dirty(false)
			if v := h.Decode(&p); v != flows.OK {
				if ports {
					t.Errorf("%s: cut to %d octets: %v, but fewer sufficed", s.name, n, v)
				}
				continue
			}
			if err := contradiction(&h, &whole); err != "" {
				t.Errorf("%s: cut to %d octets: %s:\ngot   %s\nwhole %s", s.name, n, err, brief(flows.OK, &h), brief(flows.OK, &whole))
			}
			if has := hasPorts(&h); ports && !has {
				t.Errorf("%s: cut to %d octets: no ports, but fewer sufficed", s.name, n)
			} else {
				ports = has
			}
		}
	}
}

func hasPorts(h *flows.Headers) bool { return h.Key.SrcPort() != 0 || h.Key.DstPort() != 0 }

// contradiction says how cut, decoded from the beginning of a packet, cannot be
// of the same flow as whole, or "".
func contradiction(cut, whole *flows.Headers) string {
	c, w := &cut.Key, &whole.Key
	switch {
	case c.Src() != w.Src() || c.Dst() != w.Dst():
		return "other addresses"
	case c.VLAN() != w.VLAN() || c.Direction() != w.Direction():
		return "other VLAN or direction"
	case cut.TCPFlags != 0 && cut.TCPFlags != whole.TCPFlags:
		return "other flags"
	case hasPorts(cut) && *c != *w:
		return "other ports"
	case c.Proto() != w.Proto() && !slices.Contains(walked, c.Proto()):
		return "another protocol"
	case cut.Octets == 0 || cut.Packets == 0:
		return "nothing to count"
	}
	return ""
}

// walked are the IPv6 headers that lead on to another one, unless they are cut off.
var walked = []uint8{0, 43, 44, 51, 60}

// TestDecodePadding puts octets behind each sample: what lies behind the length
// in the IP header is nobody's.
func TestDecodePadding(t *testing.T) {
	padded := 0
	for _, s := range samples() {
		var bare, h flows.Headers
		if bare.Decode(&s.packet) != flows.OK || int(s.packet.WireLen) != len(s.packet.Data) || !endsByIP(&bare, &s.packet) {
			continue
		}
		padded++
		p := s.packet
		p.Data = join(p.Data, repeat(0xd7, 64))
		p.WireLen += 64
		if v := h.Decode(&p); v != flows.OK || h != bare {
			t.Errorf("%s: with padding %s, without %s", s.name, brief(v, &h), brief(flows.OK, &bare))
		}
	}
	if padded < 100 {
		t.Errorf("only %d samples end where IP's length says", padded)
	}
}

// endsByIP reports whether p ends where the length in its IP header says, which
// is not 0.
func endsByIP(h *flows.Headers, p *capture.Packet) bool {
	longer := *p
	longer.WireLen++
	var again flows.Headers
	again.Decode(&longer)
	return again.Octets == h.Octets && h.Octets <= uint64(len(p.Data))
}

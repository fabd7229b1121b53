package mock_test

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/bpf"

	"weir/capture"
	"weir/capture/filter"
	"weir/capture/mock"
	"weir/capture/socket"
)

var a4, b4 = netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("10.99.0.2")
var a6, b6 = netip.MustParseAddr("fd99::1"), netip.MustParseAddr("fd99::2")

// with returns a packet with a change.
func with(p capture.Packet, change func(*capture.Packet)) capture.Packet {
	change(&p)
	return p
}

// TestRules holds which packets a configuration lets in, of rings and of sockets.
func TestRules(t *testing.T) {
	plain := mock.Ethernet().IPv4(a4, b4).UDP(1000, 2000).Payload([]byte("data")).Packet()
	arp := mock.Ethernet().Packet()
	arp.Data[12], arp.Data[13] = 8, 6
	tagged := mock.Ethernet().VLAN(0x8100, 0).IPv4(a4, b4).UDP(1000, 2000).Packet()
	taken := with(plain, func(p *capture.Packet) { p.VLANTPID = 0x8100 }) // tag 0, taken out
	outgoing := with(plain, func(p *capture.Packet) { p.Type = capture.PacketOutgoing })
	other := with(plain, func(p *capture.Packet) { p.Type = capture.PacketOtherHost })
	looped := with(plain, func(p *capture.Packet) { p.Type = capture.PacketLoopback })
	unknown := with(plain, func(p *capture.Packet) { p.Type = capture.PacketUnknown })
	raw := mock.Raw().IPv6(a6, b6).UDP(1000, 2000).Packet()
	cooked := with(raw, func(p *capture.Packet) { p.Protocol = 0x86dd })
	toHost, err := bpf.Assemble([]bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtType}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipFalse: 1},
		bpf.RetConstant{Val: 1}, bpf.RetConstant{}})
	if err != nil {
		t.Fatal(err)
	}
	const eth, loopback = capture.LinkEthernet, capture.LinkLoopback
	for i, c := range []struct {
		link     capture.LinkType
		config   socket.Config
		packet   capture.Packet
		captured int // 0 if it is refused
	}{
		{eth, socket.Config{}, plain, 46},
		{eth, socket.Config{}, arp, 0},
		{eth, socket.Config{NoFilter: true}, arp, 14},
		{eth, socket.Config{CaptureLength: filter.Fixed(40)}, plain, 40},
		{eth, socket.Config{}, tagged, 46},
		{eth, socket.Config{IgnoreVLANs: true}, tagged, 0},
		{eth, socket.Config{}, taken, 46},
		{eth, socket.Config{IgnoreVLANs: true}, taken, 0},
		{eth, socket.Config{}, outgoing, 46},
		{eth, socket.Config{IgnoreOutgoing: true}, outgoing, 0},
		{loopback, socket.Config{}, outgoing, 0},
		{loopback, socket.Config{}, plain, 46},
		{eth, socket.Config{}, other, 0},
		{eth, socket.Config{Promiscuous: true}, other, 46},
		{eth, socket.Config{Promiscuous: true}, looped, 0},
		{eth, socket.Config{Filter: toHost}, plain, 46},
		{eth, socket.Config{Filter: toHost}, outgoing, 0},
		{eth, socket.Config{Filter: toHost}, unknown, 46},
		{capture.LinkNone, socket.Config{}, raw, 48},
		{capture.LinkCooked, socket.Config{}, cooked, 48},
		{capture.LinkCooked, socket.Config{}, raw, 0}, // it does not say what it is
	} {
		for _, s := range both(t, c.link, c.config) {
			want := mock.Filtered
			if c.captured > 0 {
				want = mock.Queued
			}
			if v := s.Add(&c.packet); v != want {
				t.Fatalf("packet %d: verdict %d, want %d", i, v, want)
			}
			s.End()
			got := drain(t, s.reader)
			stats := s.reader.Stats()
			if c.captured == 0 {
				if len(got) != 0 || stats != (capture.Stats{Filtered: 1}) {
					t.Fatalf("packet %d: %d, %+v", i, len(got), stats)
				}
				continue
			}
			p := c.packet
			if p.Type == capture.PacketUnknown {
				p.Type = capture.PacketHost
			}
			if len(got) != 1 || !bytes.Equal(got[0].Data, p.Data[:c.captured]) || got[0].WireLen != p.WireLen || got[0].Type != p.Type ||
				got[0].LinkType != c.link || got[0].VLANTPID != p.VLANTPID || got[0].Protocol != p.Protocol || stats != (capture.Stats{Packets: 1, Received: 1}) {
				t.Fatalf("packet %d: %+v, %+v", i, got, stats)
			}
		}
	}
}

// TestSuperPackets holds that the length of the headers that segments repeat comes
// out as it was given, by way of where the checksum starts.
func TestSuperPackets(t *testing.T) {
	data := make([]byte, 5000)
	e := mock.Ethernet()
	for i, c := range []struct {
		packet   capture.Packet
		header   uint16
		segments int
	}{
		{e.IPv4(a4, b4).TCP(1000, 2000, mock.ACK).Payload(data).Packet(), 54, 4},
		{e.IPv4(a4, b4, 1, 1).TCP(1000, 2000, mock.ACK, 1, 1, 1, 1, 1).Payload(data).Packet(), 66, 4},
		{e.IPv6(a6, b6).TCP(1000, 2000, mock.ACK).Payload(data).Packet(), 74, 4},
		{e.IPv4(a4, b4).UDP(1000, 2000).Payload(data).Packet(), 42, 4},
		{e.IPv4(a4, b4).IPv6(a6, b6).TCP(1000, 2000, mock.ACK).Payload(data).Packet(), 94, 4},
		{e.IPv6(a6, b6).TCP(1000, 2000, mock.ACK).Payload(data).Packet(), 0, 4}, // not known
	} {
		c.packet.GSOSize, c.packet.GSOHeader = 1448, c.header
		for _, s := range both(t, capture.LinkEthernet, socket.Config{CaptureLength: filter.Fixed(200)}) {
			s.Add(&c.packet)
			s.End()
			got := drain(t, s.reader)
			if len(got) != 1 || got[0].GSOSize != 1448 || got[0].GSOHeader != c.header || got[0].Segments() != c.segments || got[0].WireLen != c.packet.WireLen {
				t.Fatalf("packet %d: %+v", i, got)
			}
		}
	}
}

// TestMetadata holds that what the kernel says of a packet comes through.
func TestMetadata(t *testing.T) {
	c := small()
	c.Promiscuous = true
	m := newRing(t, capture.LinkEthernet, c)
	want := []capture.Packet{
		{VLANTCI: 7, VLANTPID: 0x88a8, Type: capture.PacketOutgoing},
		{VLANTCI: 0, VLANTPID: 0x8100, Type: capture.PacketOtherHost},
		{GSOSize: 1448, GSOHeader: 66, WireLen: 65226, Type: capture.PacketHost},
		{GSOSize: 500, Type: capture.PacketBroadcast},
		{RxHash: 77, Type: capture.PacketMulticast},
	}
	for i := range want {
		want[i].Data, want[i].Time, want[i].LinkType = packet(i, 80).Data, int64(i)*1e9+5, capture.LinkEthernet
		want[i].WireLen = max(want[i].WireLen, 80)
		if v := m.Add(&want[i]); v != mock.Queued {
			t.Fatalf("packet %d: %v", i, v)
		}
	}
	m.End()
	got := drain(t, m.Source())
	if len(got) != len(want) {
		t.Fatalf("%d packets", len(got))
	}
	for i := range got {
		if !bytes.Equal(got[i].Data, want[i].Data) {
			t.Fatalf("packet %d: % x", i, got[i].Data)
		}
		got[i].Data, want[i].Data = nil, nil
		if g, w := got[i], want[i]; g.VLANTCI != w.VLANTCI || g.VLANTPID != w.VLANTPID || g.GSOSize != w.GSOSize || g.GSOHeader != w.GSOHeader ||
			g.WireLen != w.WireLen || g.Type != w.Type || g.RxHash != w.RxHash || g.Time != w.Time || g.Segments() != w.Segments() {
			t.Fatalf("packet %d: %+v, want %+v", i, g, w)
		}
	}
}

// TestBusyPoll holds that a reader that spins gets packets, idle ticks and the end as
// one that sleeps does.
func TestBusyPoll(t *testing.T) {
	c := small()
	c.BusyPoll = time.Millisecond
	m := newRing(t, capture.LinkEthernet, c)
	go func() {
		for n := range 100 {
			p := packet(n, 60)
			if _, err := m.AddWait(t.Context(), &p); err != nil {
				t.Error(err)
			}
		}
		m.End()
	}()
	if got := drain(t, m.Source()); len(got) != 100 {
		t.Fatalf("%d packets", len(got))
	}
}

package flows

import (
	"net/netip"
	"slices"
	"testing"

	"weir/capture"
)

// packet returns a raw IP packet.
func packet(src, dst string, proto uint8, l4 ...byte) capture.Packet {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	var b []byte
	if s.Is4() {
		b = []byte{0x45, 0, 0, byte(20 + len(l4)), 0, 0, 0, 0, 64, proto, 0, 0}
	} else {
		b = []byte{0x60, 0, 0, 0, 0, byte(len(l4)), proto, 64}
	}
	b = slices.Concat(b, s.AsSlice(), d.AsSlice(), l4)
	return capture.Packet{Data: b, WireLen: uint32(len(b)), LinkType: capture.LinkRaw, Type: capture.PacketUnknown}
}

func udp(src, dst string, srcPort, dstPort uint16) capture.Packet {
	return packet(src, dst, protoUDP, byte(srcPort>>8), byte(srcPort), byte(dstPort>>8), byte(dstPort), 0, 8, 0, 0)
}

func tcp(src, dst string, srcPort, dstPort uint16, flags byte) capture.Packet {
	return packet(src, dst, protoTCP, byte(srcPort>>8), byte(srcPort), byte(dstPort>>8), byte(dstPort),
		0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0)
}

// at sets a packet's time.
func at(t int64, p capture.Packet) capture.Packet { p.Time = t; return p }

// way sets a packet's type.
func way(t capture.PacketType, p capture.Packet) capture.Packet { p.Type = t; return p }

// TestOverflow: packets that find no room are all there in the sums, by direction and
// protocol.
func TestOverflow(t *testing.T) {
	m := NewMeter(NewDecoder(nil), NewTable(2))
	var ps []capture.Packet
	for i := range 10 {
		ps = append(ps, at(int64(100-i), way(capture.PacketHost, udp("10.0.0.1", "10.0.0.2", uint16(i), 53))))
	}
	ps = append(ps, at(7, way(capture.PacketOutgoing, tcp("10.0.0.2", "10.0.0.1", 80, 9, flagSYN|flagACK))))
	ps = append(ps, ps[0]) // a flow that has its place
	m.Add(ps)
	table, ledger := m.Rotate(NewTable(2))
	if ledger.Packets != 12 || ledger.Metered != 12 || ledger.Overflow != 9 {
		t.Errorf("ledger: %+v", ledger)
	}
	var got []Record
	NewTracker(TrackerConfig{Max: 2}).Flush(table, 200, false, func(r *Record) { got = append(got, *r) })
	if len(got) != 4 {
		t.Fatalf("%d records, want two flows and two overflows", len(got))
	}
	in, out := got[2], got[3]
	if in.EndReason != EndLack || in.Forward.Packets != 8 || in.Forward.Octets != 8*28 || in.First != 91 || in.Last != 98 ||
		in.Key.Direction() != DirectionIn || in.Key.Proto() != protoUDP || !in.Key.Src().IsUnspecified() {
		t.Errorf("overflow in: %+v", in)
	}
	if out.EndReason != EndLack || out.Forward.Packets != 1 || out.Forward.TCPFlags != flagSYN|flagACK || out.Key.Direction() != DirectionOut {
		t.Errorf("overflow out: %+v", out)
	}
	if table.Reset(); table.overflow != nil || table.Len() != 0 {
		t.Error("Reset leaves something")
	}
}

// TestLedgerCloses: metered and not metered packets make up all.
func TestLedgerCloses(t *testing.T) {
	m := NewMeter(NewDecoder(nil), NewTable(100))
	good, short := udp("10.0.0.1", "10.0.0.2", 1, 2), udp("10.0.0.1", "10.0.0.2", 1, 2)
	short.Data = short.Data[:10]
	arp := capture.Packet{Data: append(make([]byte, 12), 0x08, 0x06), LinkType: capture.LinkEthernet}
	odd := capture.Packet{Data: make([]byte, 60), LinkType: 4711}
	for i := range 1000 {
		m.Add([]capture.Packet{good, short, arp, odd, good}[:1+i%5])
	}
	_, l := m.Rotate(NewTable(1))
	if l.Packets != 3000 || l.Metered != 1200 || l.Causes[ErrorIPHeader] != 800 || l.Causes[NotIPARP] != 600 || l.Causes[ErrorLinkType] != 400 {
		t.Errorf("ledger: %+v", l)
	}
	if l.Metered+l.NotIP()+l.DecodeErrors() != l.Packets || l.Octets != 1200*28 {
		t.Errorf("the sums do not close: %+v", l)
	}
}

func TestLocalDirection(t *testing.T) {
	for _, c := range []struct {
		local    []string
		src, dst string
		typ      capture.PacketType
		want     Direction
	}{
		{[]string{"10.0.0.0/8"}, "10.1.2.3", "192.0.2.1", capture.PacketUnknown, DirectionOut},
		{[]string{"10.0.0.0/8"}, "192.0.2.1", "10.1.2.3", capture.PacketUnknown, DirectionIn},
		{[]string{"10.0.0.0/8"}, "10.1.2.3", "10.1.2.4", capture.PacketUnknown, DirectionUnknown},
		{[]string{"10.0.0.0/8"}, "192.0.2.1", "192.0.2.2", capture.PacketUnknown, DirectionUnknown},
		{[]string{"10.0.0.0/8"}, "10.1.2.3", "192.0.2.1", capture.PacketHost, DirectionIn},
		{[]string{"192.0.2.0/24", "10.1.2.3/32"}, "10.1.2.3", "10.1.2.4", capture.PacketUnknown, DirectionOut},
		{[]string{"10.1.2.3/32"}, "10.1.2.2", "10.1.2.3", capture.PacketUnknown, DirectionIn},
		{[]string{"0.0.0.0/0"}, "10.1.2.3", "192.0.2.1", capture.PacketUnknown, DirectionUnknown},
		{[]string{"::/0"}, "10.1.2.3", "192.0.2.1", capture.PacketUnknown, DirectionUnknown},
		{[]string{"fd00::/8"}, "10.1.2.3", "192.0.2.1", capture.PacketUnknown, DirectionUnknown},
	} {
		var local []netip.Prefix
		for _, s := range c.local {
			local = append(local, netip.MustParsePrefix(s))
		}
		var d Decoded
		NewDecoder(local).Decode(&d, []capture.Packet{way(c.typ, udp(c.src, c.dst, 1, 2))})
		if got := d.headers[0].Key.Direction(); got != c.want {
			t.Errorf("%v: %s to %s (%v) goes %v, want %v", c.local, c.src, c.dst, c.typ, got, c.want)
		}
	}
	for _, c := range []struct {
		prefix, addr string
		want         bool
	}{
		{"2001:db8::/32", "2001:db8:ffff::1", true},
		{"2001:db8::/32", "2001:db9::1", false},
		{"2001:db8::/96", "2001:db8::ffff:ffff", true},
		{"2001:db8::/96", "2001:db8::1:0:0", false},
		{"2001:db8::1/128", "2001:db8::1", true},
		{"2001:db8::1/128", "2001:db8::2", false},
		{"2001:db8::/64", "2001:db8::ffff:ffff:ffff:ffff", true},
	} {
		n := newNetwork(netip.MustParsePrefix(c.prefix))
		a := netip.MustParseAddr(c.addr)
		k := NewKey(a, a, 0, 0, 0, 0, 0)
		if got := n.holds(k.srcHi, k.srcLo); got != c.want {
			t.Errorf("%s holds %s: %v", c.prefix, c.addr, got)
		}
	}
}

// TestMeterAllocates nothing: per packet, per flow and per interval, once the
// tables have their size.
func TestMeterAllocates(t *testing.T) {
	ps := traffic(5000, 20_000)
	m := NewMeter(NewDecoder([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}), NewTable(1<<20))
	tracker := NewTracker(TrackerConfig{Max: 1 << 20})
	spare, records := NewTable(1<<20), 0
	interval := func() {
		m.Add(ps)
		full, _ := m.Rotate(spare)
		tracker.Flush(full, 1, false, func(*Record) { records++ })
		full.Reset()
		spare = full
	}
	interval()
	interval()
	if n := testing.AllocsPerRun(5, interval); n > 0 {
		t.Errorf("%v allocations for %d packets", n, len(ps))
	}
	if records < 5000 {
		t.Errorf("only %d records", records)
	}
}

// TestTableReset: a table that was used before counts like a new one.
func TestTableReset(t *testing.T) {
	sums := func(table *Table) (n, packets uint64, last int64) {
		m := NewMeter(NewDecoder(nil), table)
		m.Add(traffic(300, 3000))
		for i := range uint32(table.Len()) {
			c := table.flows.at(i)
			n++
			packets += c.val.packets
			last = max(last, c.val.last)
		}
		return n, packets, last
	}
	used := NewTable(1 << 16)
	NewMeter(NewDecoder(nil), used).Add(traffic(5000, 20_000))
	used.Reset()
	n1, p1, l1 := sums(used)
	n2, p2, l2 := sums(NewTable(1 << 16))
	if n1 != n2 || p1 != p2 || l1 != l2 || p1 != 3000 {
		t.Errorf("used: %d %d %d; new: %d %d %d", n1, p1, l1, n2, p2, l2)
	}
}

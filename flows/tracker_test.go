package flows

import (
	"net/netip"
	"testing"
	"time"

	"weir/capture"
)

// history flushes one interval of ten nanoseconds for each argument and returns the
// records of each.
func history(cfg TrackerConfig, intervals ...[]capture.Packet) (out [][]Record) {
	cfg.Max = max(cfg.Max, 100)
	tracker := NewTracker(cfg)
	meter := NewMeter(NewDecoder(nil), NewTable(cfg.Max))
	for i, ps := range intervals {
		meter.Add(ps)
		table, _ := meter.Rotate(NewTable(cfg.Max))
		var rs []Record
		tracker.Flush(table, int64(i+1)*10, i == len(intervals)-1, func(r *Record) { rs = append(rs, *r) })
		out = append(out, rs)
	}
	return out
}

// one returns the only record of an interval.
func one(t *testing.T, rs []Record) Record {
	t.Helper()
	if len(rs) != 1 {
		t.Fatalf("%d records, want one: %+v", len(rs), rs)
	}
	return rs[0]
}

const a, b = "192.0.2.1", "192.0.2.2"

// TestHandshake: one conversation, its initiator found by the SYN whichever way
// came first, and its end by FIN from both sides.
func TestHandshake(t *testing.T) {
	r := one(t, history(TrackerConfig{}, []capture.Packet{
		at(3, tcp(b, a, 443, 50000, flagSYN|flagACK)), // the capture goes backwards
		at(2, tcp(a, b, 50000, 443, flagSYN)),
		at(4, tcp(a, b, 50000, 443, flagACK|flagFIN)),
		at(5, tcp(b, a, 443, 50000, flagACK|flagFIN)),
	})[0])
	if r.Key.Src() != netip.MustParseAddr(a) || r.Key.SrcPort() != 50000 || r.Key.DstPort() != 443 ||
		r.Initiator != InitiatorSYN || r.EndReason != EndEnd || r.First != 2 || r.Last != 5 || r.Start != 2 ||
		r.Forward != (Counters{2, 80, flagSYN | flagACK | flagFIN}) || r.Reverse != (Counters{2, 80, flagSYN | flagACK | flagFIN}) {
		t.Errorf("%+v", r)
	}
}

// TestAnswerAlone: who got a SYN-ACK, or an echo reply, is the initiator although none
// of its packets were seen; the direction is that of the packets it must have sent.
func TestAnswerAlone(t *testing.T) {
	r := one(t, history(TrackerConfig{}, []capture.Packet{way(capture.PacketHost, tcp(b, a, 443, 50000, flagSYN|flagACK))})[0])
	if r.Key.Src() != netip.MustParseAddr(a) || r.Key.DstPort() != 443 || r.Key.Direction() != DirectionOut ||
		r.Forward.Packets != 0 || r.Reverse.Packets != 1 || r.Initiator != InitiatorSYN {
		t.Errorf("SYN-ACK: %+v", r)
	}
	r = one(t, history(TrackerConfig{}, []capture.Packet{way(capture.PacketOutgoing, packet(b, a, protoICMP, 0, 0))})[0])
	if r.Key.Src() != netip.MustParseAddr(a) || r.Key.DstPort() != 8<<8 || r.Key.Direction() != DirectionIn ||
		r.Forward.Packets != 0 || r.Reverse.Packets != 1 || r.Initiator != InitiatorICMP {
		t.Errorf("echo reply: %+v", r)
	}
}

// TestPings: two hosts that ping each other are two conversations, one that pings
// itself is one.
func TestPings(t *testing.T) {
	rs := history(TrackerConfig{}, []capture.Packet{
		packet(a, b, protoICMP, 8, 0), packet(b, a, protoICMP, 0, 0),
		packet(b, a, protoICMP, 8, 0), packet(a, b, protoICMP, 0, 0),
		packet(a, a, protoICMP, 8, 0), packet(a, a, protoICMP, 0, 0),
	})[0]
	if len(rs) != 3 {
		t.Fatalf("%d records: %+v", len(rs), rs)
	}
	for i, src := range []string{a, b, a} {
		if r := rs[i]; r.Key.Src() != netip.MustParseAddr(src) || r.Forward.Packets != 1 || r.Reverse.Packets != 1 || r.Key.DstPort() != 8<<8 {
			t.Errorf("record %d: %+v", i, r)
		}
	}
}

// TestDirections: the host's own conversations pair in with out; what is forwarded
// out of the interface that it came in by is two records; on lo, where all comes
// in, in pairs with in.
func TestDirections(t *testing.T) {
	in, out := capture.PacketHost, capture.PacketOutgoing
	there, back := udp(a, b, 50000, 53), udp(b, a, 53, 50000)
	own := one(t, history(TrackerConfig{}, []capture.Packet{way(in, there), way(out, back)})[0])
	if own.Key.Direction() != DirectionIn || own.Forward.Packets != 1 || own.Reverse.Packets != 1 {
		t.Errorf("own: %+v", own)
	}
	hairpin := history(TrackerConfig{}, []capture.Packet{way(in, there), way(out, there), way(in, back), way(out, back)})[0]
	if len(hairpin) != 2 || hairpin[0].Key.Direction() != DirectionIn || hairpin[1].Key.Direction() != DirectionOut ||
		hairpin[0].Reverse.Packets != 1 || hairpin[1].Reverse.Packets != 1 {
		t.Errorf("hairpin: %+v", hairpin)
	}
	lo := one(t, history(TrackerConfig{}, []capture.Packet{way(in, there), way(in, back)})[0])
	if lo.Key.Direction() != DirectionIn || lo.Reverse.Packets != 1 {
		t.Errorf("lo: %+v", lo)
	}
}

// TestIdentity lives over intervals: start and initiator stay until the flow is idle,
// and a better reason replaces a worse one.
func TestIdentity(t *testing.T) {
	h := history(TrackerConfig{Idle: 15},
		[]capture.Packet{at(1, tcp(b, a, 5000, 6000, flagACK))},                                          // first seen
		[]capture.Packet{at(11, tcp(b, a, 5000, 6000, flagACK)), at(12, tcp(a, b, 6000, 5000, flagSYN))}, // but a called
		[]capture.Packet{at(21, tcp(b, a, 5000, 6000, flagACK))},
		nil,
		[]capture.Packet{at(49, tcp(b, a, 5000, 6000, flagACK))}, // another flow
	)
	for i, want := range []struct {
		src       string
		start     int64
		initiator Initiator
		end       EndReason
	}{
		{b, 1, InitiatorFirst, EndNone}, {a, 1, InitiatorSYN, EndNone}, {a, 1, InitiatorSYN, EndNone}, {}, {b, 49, InitiatorFirst, EndForced},
	} {
		if want.src == "" {
			if len(h[i]) != 0 {
				t.Errorf("interval %d without packets has records", i)
			}
			continue
		}
		r := one(t, h[i])
		if r.Key.Src() != netip.MustParseAddr(want.src) || r.Start != want.start || r.Initiator != want.initiator || r.EndReason != want.end {
			t.Errorf("interval %d: %+v, want %+v", i, r, want)
		}
	}
}

// TestEnds: each reason.
func TestEnds(t *testing.T) {
	p := func(time int64) []capture.Packet { return []capture.Packet{at(time, udp(a, b, 50000, 53))} }
	h := history(TrackerConfig{Idle: 8}, p(1), p(18))
	for i, want := range []EndReason{EndIdle, EndForced} {
		if r := one(t, h[i]); r.EndReason != want {
			t.Errorf("idle timeout, interval %d ends %v, want %v", i, r.EndReason, want)
		}
	}
	h = history(TrackerConfig{Active: 20}, p(1), p(11), p(21), p(31))
	for i, want := range []EndReason{EndNone, EndNone, EndActive, EndForced} {
		if r := one(t, h[i]); r.EndReason != want || r.Start != []int64{1, 1, 1, 31}[i] {
			t.Errorf("active timeout, interval %d: %+v, want %v", i, r, want)
		}
	}
	h = history(TrackerConfig{}, []capture.Packet{tcp(a, b, 50000, 80, flagSYN), tcp(b, a, 80, 50000, flagRST|flagACK)},
		[]capture.Packet{at(11, tcp(a, b, 50000, 80, flagACK))}, []capture.Packet{at(21, tcp(a, b, 50000, 80, flagSYN))})
	for i, want := range []EndReason{EndEnd, EndNone, EndForced} {
		if r := one(t, h[i]); r.EndReason != want || i == 2 && r.Start != 21 {
			t.Errorf("reset, interval %d: %+v, want %v", i, r, want)
		}
	}
}

// TestTrackerIsBounded: more conversations than it may remember, interval after
// interval, cost it its memory of silent ones and nothing else.
func TestTrackerIsBounded(t *testing.T) {
	const size = 500
	tracker := NewTracker(TrackerConfig{Max: size, Idle: time.Hour})
	meter := NewMeter(NewDecoder(nil), NewTable(size))
	for i := range 50 {
		var ps []capture.Packet
		for j := range size {
			ps = append(ps, at(int64(i), udp(a, b, uint16(i*size+j), uint16(j))))
		}
		meter.Add(ps)
		table, ledger := meter.Rotate(NewTable(size))
		var packets uint64
		tracker.Flush(table, int64(i), false, func(r *Record) { packets += r.Forward.Packets + r.Reverse.Packets })
		if packets != size || ledger.Metered != size {
			t.Fatalf("interval %d: %d packets in records, %d metered", i, packets, ledger.Metered)
		}
	}
	if tracker.convs.n > size {
		t.Errorf("%d conversations, at most %d are allowed", tracker.convs.n, size)
	}
}

// TestTrackerForgets what is idle, within a round of all cells in each idle timeout,
// and gives back what it took.
func TestTrackerForgets(t *testing.T) {
	const flows, last = 40_000, 1000
	tracker := NewTracker(TrackerConfig{Max: 10 * flows, Idle: 10})
	meter := NewMeter(NewDecoder(nil), NewTable(flows))
	for i := range flows {
		meter.Add([]capture.Packet{at(last, udp(a, b, uint16(i), uint16(i>>16)))})
	}
	table, _ := meter.Rotate(nil)
	ignore := func(*Record) {}
	tracker.Flush(table, last+1, false, ignore)
	live := func() int { return tracker.convs.n - len(tracker.convs.free) }
	if live() != flows {
		t.Fatalf("%d conversations of %d", live(), flows)
	}
	quiet := NewTable(10)
	for _, now := range []int64{last + 9, last, last - 9} {
		if tracker.Flush(quiet, now, false, ignore); live() != flows {
			t.Errorf("at %d, %d of %d conversations are remembered", now, live(), flows)
		}
	}
	// The clock has gone a tenth of the timeout further, then it jumps to and fro.
	for i, now := range []int64{last + 10, last - 10, last + 10} {
		if tracker.Flush(quiet, now, false, ignore); live() != flows-flows/10-i*sweepLeast {
			t.Errorf("at %d, %d of %d conversations are remembered", now, live(), flows)
		}
	}
	if tracker.Flush(quiet, last+30, false, ignore); live() != 0 {
		t.Errorf("%d of %d conversations are remembered", live(), flows)
	}
	if c := &tracker.convs; c.n >= compactLeast || held(c) > compactLeast/chunkCells || len(c.slots) > 4*compactLeast || cap(c.free) > compactLeast {
		t.Errorf("nothing is remembered in %d cells, %d chunks, %d slots, %d free", c.n, held(c), len(c.slots), cap(c.free))
	}
	if cap(tracker.joined) > compactLeast {
		t.Errorf("room for %d cells is kept for none", cap(tracker.joined))
	}
}

// TestNames: what text and columns show.
func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		EndLack.String(): "lack", EndReason(200).String(): "lack", EndNone.String(): "none",
		InitiatorSYN.String(): "syn", Initiator(200).String(): "syn",
		DirectionIn.String(): "in", DirectionOut.String(): "out", Direction(9).String(): "unknown",
		OK.String(): "ok", Verdict(200).String(): Excluded.String(),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	seen := map[string]bool{}
	for v := range numVerdicts {
		if v.String() == "" || seen[v.String()] {
			t.Errorf("verdict %d has no name of its own: %q", v, v)
		}
		seen[v.String()] = true
	}
}

// TestKey: what goes in comes out.
func TestKey(t *testing.T) {
	for _, c := range [][2]string{{"192.0.2.1", "198.51.100.255"}, {"2001:db8::1", "fe80::ffff"}, {"::", "::1"}} {
		src, dst := netip.MustParseAddr(c[0]), netip.MustParseAddr(c[1])
		k := NewKey(src, dst, 65535, 1, 4095, 255, DirectionOut)
		if k.Src() != src || k.Dst() != dst || k.Src16() != src.As16() || k.Dst16() != dst.As16() ||
			k.SrcPort() != 65535 || k.DstPort() != 1 || k.VLAN() != 4095 || k.Proto() != 255 || k.Direction() != DirectionOut {
			t.Errorf("%v to %v: %+v", src, dst, k)
		}
		if other := k; !k.equal(&other) {
			t.Error("a key differs from itself")
		}
		for _, other := range []Key{{}, NewKey(dst, src, 65535, 1, 4095, 255, DirectionOut), NewKey(src, dst, 65535, 1, 4095, 255, DirectionIn)} {
			if k.equal(&other) != (k == other) {
				t.Errorf("%+v and %+v: equal says %v", k, other, k.equal(&other))
			}
		}
	}
}

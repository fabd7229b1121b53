package flows

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"weir/capture"
)

// TestSumsClose: whatever is malformed, lost for want of room, forgotten or evicted,
// the records hold every metered packet, and the ledger every other one by its cause.
func TestSumsClose(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		size := 1 + r.IntN(40)
		cfg := TrackerConfig{
			Idle: time.Duration(r.IntN(3) * 150), Active: time.Duration(r.IntN(2) * 250),
			Max: r.IntN(60), Uniflow: r.IntN(3) == 0, // Max may be less than size
		}
		tracker, spare := NewTracker(cfg), NewTable(size)
		meter := NewMeter(NewDecoder(nil), NewTable(size))
		for i := range int64(10) {
			ps := somePackets(r, r.IntN(300), i*100, 100)
			var causes [numVerdicts]uint64
			var metered, octets uint64
			for j := range ps {
				switch p := &ps[j]; r.IntN(12) {
				case 0:
					p.Data = p.Data[:r.IntN(len(p.Data))]
				case 1:
					p.Data[r.IntN(8)] ^= byte(1 << r.IntN(8))
				case 2:
					p.LinkType = capture.LinkType(4711)
				case 3:
					clear(p.Data[2:6]) // lengths, left to the hardware
					p.GSOSize, p.WireLen = uint16(1000+r.IntN(500)), uint32(r.IntN(1<<18))
				}
				var h Headers
				if v := h.Decode(&ps[j]); v == OK {
					metered, octets = metered+uint64(h.Packets), octets+h.Octets
				} else {
					causes[v]++
				}
			}
			meter.Add(ps)
			full, l := meter.Rotate(spare)
			var got []Record
			tracker.Flush(full, (i+1)*100, i == 9, func(r *Record) { got = append(got, *r) })
			flows := full.Len()
			full.Reset()
			spare = full

			if l.Metered != metered || l.Octets != octets || l.Causes != causes || l.Packets != l.Metered+l.NotIP()+l.DecodeErrors() {
				t.Fatalf("seed %d, interval %d: ledger %+v, want %d packets, %d octets, causes %v", seed, i, l, metered, octets, causes)
			}
			if s := sum(got); s.Packets != metered || s.Octets != octets {
				t.Fatalf("seed %d, interval %d: records hold %+v, want %d packets, %d octets", seed, i, s, metered, octets)
			}
			lacks := slices.DeleteFunc(slices.Clone(got), func(r Record) bool { return r.EndReason != EndLack })
			if s := sum(lacks); s.Packets != l.Overflow || flows > size || l.Overflow > 0 && flows < size {
				t.Fatalf("seed %d, interval %d: %d packets lack room, the ledger says %d; %d flows of %d", seed, i, s.Packets, l.Overflow, flows, size)
			}
			for j := 1; j < len(lacks); j++ {
				if lacks[j-1].Key.Proto() == lacks[j].Key.Proto() && lacks[j-1].Key.Direction() == lacks[j].Key.Direction() {
					t.Fatalf("seed %d, interval %d: two records of one direction and protocol: %v", seed, i, lacks)
				}
			}
			if live, most := tracker.convs.n-len(tracker.convs.free), max(cfg.Max, size); live > most {
				t.Fatalf("seed %d, interval %d: %d conversations, at most %d are allowed", seed, i, live, most)
			}
		}
	}
}

// TestSeedDecidesNothing that is seen: the same packets give the same records in every
// process, evicted and forgotten flows included.
func TestSeedDecidesNothing(t *testing.T) {
	own := processSeed
	t.Cleanup(func() { processSeed = own })
	records := func(s seed) (out []Record) {
		processSeed = s
		r := rand.New(rand.NewPCG(9, 10))
		tracker, table := NewTracker(TrackerConfig{Max: 3 * compactLeast, Idle: 15}), NewTable(3*compactLeast)
		meter := NewMeter(NewDecoder(nil), table)
		for i := range int64(8) {
			n := 30_000 // bursts of new flows, and quiet in between
			if i%3 > 0 {
				n = 300
			}
			for range n {
				meter.Add([]capture.Packet{at(i*10+r.Int64N(10), udp(a, b, uint16(r.IntN(300)), uint16(r.IntN(300))))})
			}
			table, _ = meter.Rotate(NewTable(3 * compactLeast))
			tracker.Flush(table, (i+1)*10, false, func(r *Record) { out = append(out, *r) })
		}
		return out
	}
	x, y := records(seed{1, 2, 3, 4}), records(seed{5, 6, 7, 8})
	if len(x) < 1000 || !slices.Equal(x, y) {
		t.Errorf("%d and %d records, or not the same ones", len(x), len(y))
	}
}

package flows

import (
	"math/rand/v2"
	"testing"
)

// TestMerge holds that packets counted in several tables that are merged give what
// they give in one, whatever finds no room.
func TestMerge(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 7))
		size := 1 + r.IntN(60)
		parts := []*Table{NewTable(size), NewTable(1 + r.IntN(60)), NewTable(1 << 10)}
		whole, merged := NewTable(1<<20), NewTable(size)
		decoder := NewDecoder(nil)
		var metered, overflow uint64
		all := NewMeter(decoder, whole)
		for i, part := range parts {
			m := NewMeter(decoder, part)
			ps := somePackets(r, r.IntN(300), int64(i)*100, 100)
			m.Add(ps)
			all.Add(ps)
			_, l := m.Rotate(nil)
			metered += l.Metered
			overflow += l.Overflow + merged.Merge(part)
		}
		var got, want []Record
		lack := uint64(0)
		merged.Each(func(r *Record) {
			got = append(got, *r)
			if r.EndReason == EndLack {
				lack += r.Forward.Packets
			}
		})
		whole.Each(func(r *Record) { want = append(want, *r) })
		if s, w := sum(got), sum(want); s != w || s.Packets != metered || lack != overflow {
			t.Fatalf("seed %d: merged %+v with %d overflown, want %+v, %d", seed, s, lack, w, overflow)
		}
		if overflow == 0 {
			byKey := map[Key]Record{}
			for _, r := range got {
				byKey[r.Key] = r
			}
			for _, r := range want {
				if byKey[r.Key] != r {
					t.Fatalf("seed %d: merged %+v, want %+v", seed, byKey[r.Key], r)
				}
			}
		}
	}
}

// TestReserve holds that a table with room for its flows allocates nothing.
func TestReserve(t *testing.T) {
	ps := somePackets(rand.New(rand.NewPCG(1, 1)), 3000, 0, 100)
	m := NewMeter(NewDecoder(nil), NewTable(1<<20))
	m.Add(ps) // also what Add itself needs
	var tables []*Table
	for range 2 { // AllocsPerRun runs once more than it is told
		table := NewTable(1 << 20)
		table.Reserve(len(ps))
		tables = append(tables, table)
	}
	n := testing.AllocsPerRun(1, func() {
		m.Rotate(tables[0])
		tables = tables[1:]
		m.Add(ps)
	})
	if n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

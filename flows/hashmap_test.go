package flows

import (
	"math/rand/v2"
	"testing"
	"testing/quick"
)

// numbered returns the i-th of many different keys.
func numbered(i int) Key { return Key{srcLo: uint64(i), rest: uint64(i) << 32} }

// TestHashmapAgainstMap does the same at random to a hashmap and to Go's map.
func TestHashmapAgainstMap(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, max := range []int{1, 7, 1000, 5000} {
		m, want := newHashmap[uint64](max), map[Key]uint64{}
		for step := range 60_000 {
			k := numbered(r.IntN(max * 2))
			switch {
			case r.IntN(20_000) == 0:
				m.reset()
				clear(want)
			case r.IntN(3) > 0:
				c, made, ok := m.get(&k, processSeed.hash(&k))
				_, known := want[k]
				if wantOK := known || len(want) < max; ok != wantOK || ok && made == known {
					t.Fatalf("step %d: made %v, ok %v with %d of %d keys, known %v", step, made, ok, len(want), max, known)
				}
				if ok {
					if m.at(c).val != want[k] {
						t.Fatalf("step %d: value %d, want %d", step, m.at(c).val, want[k])
					}
					m.at(c).val++
					want[k]++
				}
			default:
				if _, known := want[k]; known {
					c, _, _ := m.get(&k, processSeed.hash(&k))
					m.remove(c)
					delete(want, k)
				}
			}
			if live := m.n - len(m.free); live != len(want) || m.n > max {
				t.Fatalf("step %d: %d cells of %d live, want %d", step, live, m.n, len(want))
			}
		}
		for k, v := range want {
			c, made, ok := m.get(&k, processSeed.hash(&k))
			if made || !ok || m.at(c).val != v {
				t.Fatalf("a key was lost")
			}
		}
	}
}

// TestHashmapCollisions gives many keys one home, at the end of the slots so that
// probes wrap around, and many one tag, so that only the keys differ.
func TestHashmapCollisions(t *testing.T) {
	m := newHashmap[int](100)
	const hash = 0xffffffff_00000000
	for i := range 100 {
		k := numbered(i)
		c, made, ok := m.get(&k, hash)
		if !made || !ok {
			t.Fatalf("key %d: made %v, ok %v", i, made, ok)
		}
		m.at(c).val = i
	}
	for i := range 100 {
		k := numbered(i)
		if c, made, ok := m.get(&k, hash); made || !ok || m.at(c).val != i {
			t.Fatalf("key %d is lost", i)
		}
	}
}

// TestHashmapShrinks: what a burst took is given back.
func TestHashmapShrinks(t *testing.T) {
	m := newHashmap[uint64](1 << 20)
	for i := range 200_000 {
		k := numbered(i)
		m.get(&k, processSeed.hash(&k))
	}
	for range 3 {
		m.reset()
		for i := range 10 {
			k := numbered(i)
			m.get(&k, processSeed.hash(&k))
		}
	}
	if len(m.chunks) > 4 || len(m.slots) > 4*minSlots {
		t.Errorf("after a burst the map keeps %d chunks and %d slots for ten keys", len(m.chunks), len(m.slots))
	}
}

// TestHashSpreads: keys that differ little, as addresses and ports in a scan do,
// fall on slots as evenly as random ones.
func TestHashSpreads(t *testing.T) {
	scans := map[string]func(i uint64) Key{
		"ports":     func(i uint64) Key { return Key{srcLo: mapped | 1, dstLo: mapped | 2, rest: i << 32} },
		"sources":   func(i uint64) Key { return Key{srcLo: mapped | i, dstLo: mapped | 2} },
		"both ends": func(i uint64) Key { return Key{srcLo: mapped | i, dstLo: mapped | i} },
		"prefixes":  func(i uint64) Key { return Key{srcHi: i << 16, dstHi: i << 16} },
	}
	const n, slots = 1 << 16, 1 << 17
	for name, key := range scans {
		var taken [slots]uint8
		most := uint8(0)
		for i := range uint64(n) {
			k := key(i)
			s := &taken[processSeed.hash(&k)>>(64-17)]
			*s++
			most = max(most, *s)
		}
		// The fullest of 2^17 slots with 2^16 random keys has 8 or so.
		if most > 16 {
			t.Errorf("%s: %d keys on one slot", name, most)
		}
	}
}

// TestHashIsSeeded: another seed, another order.
func TestHashIsSeeded(t *testing.T) {
	a, b := seed{1, 2, 3, 4}, seed{1, 2, 3, 5}
	same := 0
	if err := quick.Check(func(x, y uint64) bool {
		k := Key{srcLo: x, dstLo: y}
		if a.hash(&k) == b.hash(&k) {
			same++
		}
		return true
	}, nil); err != nil {
		t.Fatal(err)
	}
	if same > 0 {
		t.Errorf("%d of 100 keys hash alike under two seeds", same)
	}
	if processSeed == (seed{}) {
		t.Error("the process has no seed")
	}
}

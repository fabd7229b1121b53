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

// held returns how many chunks the garbage collector must keep for m.
func held[V any](m *hashmap[V]) (n int) {
	for _, c := range m.chunks[:cap(m.chunks)] {
		if c != nil {
			n++
		}
	}
	return n
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
	if held(&m) > 4 || len(m.slots) > 4*minSlots {
		t.Errorf("after a burst the map keeps %d chunks and %d slots for ten keys", held(&m), len(m.slots))
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

// TestHashTakesAll: no word of the seed and no bit of the key is without influence.
func TestHashTakesAll(t *testing.T) {
	k, s := Key{1 << 63, 2, 3, 4, 5}, seed{6, 7, 8, 9}
	was := s.hash(&k)
	for i := range s {
		other := s
		if other[i]++; other.hash(&k) == was {
			t.Errorf("word %d of the seed does not matter", i)
		}
	}
	for bit := range 64 {
		for i := range 5 {
			other := k
			words := [...]*uint64{&other.srcHi, &other.srcLo, &other.dstHi, &other.dstLo, &other.rest}
			*words[i] ^= 1 << bit
			if s.hash(&other) == was || other.equal(&k) || k.equal(&other) {
				t.Errorf("bit %d of word %d does not matter", bit, i)
			}
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

// keysWith returns the first n keys from numbered(from) on whose hash is wanted.
func keysWith(n, from int, wanted func(hash uint64) bool) (ks []Key) {
	for i := from; len(ks) < n; i++ {
		if k := numbered(i); wanted(processSeed.hash(&k)) {
			ks = append(ks, k)
		}
	}
	return ks
}

// check fails unless m holds exactly want, and every word can be found from its home.
func check(t *testing.T, m *hashmap[int], want map[Key]int) {
	t.Helper()
	words := 0
	for _, w := range m.slots {
		if w != 0 {
			words++
		}
	}
	if live := m.n - len(m.free); live != len(want) || words != len(want) || 2*words > len(m.slots) {
		t.Fatalf("%d cells live, %d words in %d slots, want %d", live, words, len(m.slots), len(want))
	}
	for k, v := range want {
		if c, made, ok := m.get(&k, processSeed.hash(&k)); made || !ok || m.at(c).val != v {
			t.Fatalf("key %d is lost", k.srcLo)
		}
	}
}

// TestHashmapRemoveCloses holes in a run of words that begins in the last slots and
// goes on in the first: whatever is removed, in any order, the others stay.
func TestHashmapRemoveCloses(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 50 {
		m, want := newHashmap[int](1000), map[Key]int{}
		// Homes in the last four and the first two of 256 slots, mixed.
		keys := keysWith(60, r.IntN(1<<30), func(h uint64) bool { return h>>56 >= 252 || h>>56 < 2 })
		for step := range 400 {
			k := keys[r.IntN(len(keys))]
			c, made, _ := m.get(&k, processSeed.hash(&k))
			if _, known := want[k]; made == known {
				t.Fatalf("step %d: made %v, known %v", step, made, known)
			}
			if r.IntN(2) == 0 {
				m.remove(c)
				delete(want, k)
			} else {
				m.at(c).val, want[k] = step, step
			}
			if len(m.slots) != minSlots {
				t.Fatalf("%d slots for at most 60 keys", len(m.slots))
			}
			check(t, &m, want)
		}
	}
}

// TestHashmapEqualTags: keys whose tags are equal are told apart by the key, and the
// right one of them is removed.
func TestHashmapEqualTags(t *testing.T) {
	byTag := map[uint32]Key{}
	for i, pairs := 0, 0; pairs < 3; i++ {
		k := numbered(i)
		tag := uint32(processSeed.hash(&k) >> 32)
		other, ok := byTag[tag]
		byTag[tag] = k
		if !ok {
			continue
		}
		pairs++
		for _, gone := range []Key{k, other} {
			m, want := newHashmap[int](10), map[Key]int{k: 1, other: 2}
			for k, v := range want {
				c, _, _ := m.get(&k, processSeed.hash(&k))
				m.at(c).val = v
			}
			check(t, &m, want)
			c, _, _ := m.get(&gone, processSeed.hash(&gone))
			m.remove(c)
			delete(want, gone)
			check(t, &m, want)
		}
	}
}

// TestHashmapProbes: no key of a scan is far from its home.
func TestHashmapProbes(t *testing.T) {
	scans := map[string]func(i uint64) Key{
		"ports":   func(i uint64) Key { return Key{srcLo: mapped | 1, dstLo: mapped | 2, rest: i << 32} },
		"hosts":   func(i uint64) Key { return Key{srcLo: mapped | 1, dstLo: mapped | i, rest: 443 << 32} },
		"spoofed": func(i uint64) Key { return Key{srcLo: mapped | i*0x9e3779b1&0xffffffff, dstLo: mapped | 2} },
		"subnets": func(i uint64) Key { return Key{srcHi: 0x20010db8<<32 | i<<16, srcLo: 1, dstLo: 1} },
	}
	for name, key := range scans {
		m := newHashmap[int](1 << 20)
		for i := range uint64(1 << 16) {
			k := key(i)
			m.get(&k, processSeed.hash(&k))
		}
		mask, far := uint64(len(m.slots)-1), uint64(0)
		for pos, w := range m.slots {
			if w != 0 {
				far = max(far, (uint64(pos)-w>>m.shift)&mask)
			}
		}
		// Half full at the most, random keys lie 30 or so from home at the worst.
		if far > 200 {
			t.Errorf("%s: a key is %d slots from its home", name, far)
		}
	}
}

// TestHashmapCompacts: after a burst the keys that stayed lie together in their old
// order, and the memory of the others is given back.
func TestHashmapCompacts(t *testing.T) {
	m, want := newHashmap[int](1<<20), map[Key]int{}
	const n = 100_000
	for i := range n {
		k := numbered(i)
		c, _, _ := m.get(&k, processSeed.hash(&k))
		m.at(c).val = i
	}
	for i := range n {
		if i == n/2 {
			if m.compact(); m.n != n {
				t.Error("a map is compacted that is half full")
			}
		}
		if k := numbered(i); i%1000 == 7 {
			want[k] = i
		} else {
			c, _, _ := m.get(&k, processSeed.hash(&k))
			m.remove(c)
		}
	}
	if m.compact(); m.n != n/1000 || len(m.free) != 0 || held(&m) != 1 || len(m.slots) != minSlots {
		t.Errorf("%d keys in %d cells, %d chunks, %d slots", len(want), m.n, held(&m), len(m.slots))
	}
	for i := range uint32(m.n) {
		if v := m.at(i).val; v != int(i)*1000+7 {
			t.Fatalf("cell %d holds key %d: the order is lost", i, v)
		}
	}
	check(t, &m, want)
	for i := range n { // and it grows again
		k := numbered(i)
		c, _, _ := m.get(&k, processSeed.hash(&k))
		m.at(c).val, want[k] = i, i
	}
	check(t, &m, want)
}

package flows

import (
	"math/bits"
	"math/rand/v2"
)

// hashmap maps keys to values of a pointer-free type. It is flat: cells lie in
// chunks in order of insertion and stay there (but see compact), and an
// open-addressed array of words leads to them. A word holds 32 bits of the hash
// and the cell's number, so that a probe reads a cell only if it is almost surely
// the right one, and so that the array grows without reading cells at all.
// Nothing in it is a pointer but the list of chunks, so the garbage collector
// passes over it.
//
// It belongs to one goroutine.
type hashmap[V any] struct {
	slots  []uint64 // hash's high half <<32 | cell number + 1; 0 is free
	shift  uint8    // a hash's home is hash >> shift
	chunks []*[chunkCells]cell[V]
	n      int // cells in use, removed ones included
	max    int // bound of n
	free   []uint32
}

// cell is one key and its value.
type cell[V any] struct {
	key Key
	val V
}

const (
	// chunkCells is a power of two, small enough that a map of a few flows stays
	// small, large enough that the list of chunks of a million flows stays in L2.
	chunkBits  = 8
	chunkCells = 1 << chunkBits

	minSlots = 256
)

func newHashmap[V any](max int) hashmap[V] {
	m := hashmap[V]{max: max}
	m.setSlots(minSlots)
	return m
}

// setSlots makes n empty slots, a power of two. They are written to at once: a
// page that is first read and then written faults twice, and the second time the
// kernel has to interrupt the other processors.
func (m *hashmap[V]) setSlots(n int) {
	m.slots = make([]uint64, n)
	clear(m.slots)
	m.shift = uint8(64 - bits.TrailingZeros(uint(n)))
}

// at returns cell i, which must be in use.
func (m *hashmap[V]) at(i uint32) *cell[V] {
	return &m.chunks[i>>chunkBits][i%chunkCells]
}

// full reports whether the next new key will find no room.
func (m *hashmap[V]) full() bool { return m.n >= m.max && len(m.free) == 0 }

// get returns the number of k's cell, making one with a zero value if there is
// none. hash must be processSeed.hash(k). It fails only if the map is full.
func (m *hashmap[V]) get(k *Key, hash uint64) (i uint32, made, ok bool) {
	tag := hash >> 32 << 32
	mask := uint64(len(m.slots) - 1)
	pos := hash >> m.shift
	for {
		w := m.slots[pos&mask]
		if w == 0 {
			break
		}
		if w>>32<<32 == tag {
			if i = uint32(w) - 1; m.at(i).key.equal(k) {
				return i, false, true
			}
		}
		pos++
	}
	if m.full() {
		return 0, false, false
	}
	i = m.newCell(k)
	m.slots[pos&mask] = tag | uint64(i+1)
	// Half full at the most: a probe then seldom leaves its cache line.
	if live := m.n - len(m.free); live > len(m.slots)/2 {
		m.grow()
	}
	return i, true, true
}

// likely returns for each of at most batchSize hashes the number of the cell that
// its home slot leads to, plus 1; 0 for none. Reading the slots together, and
// then the cells together, lets their cache misses overlap.
func (m *hashmap[V]) likely(hashes []uint64, cells *[batchSize]uint32) []uint32 {
	out := cells[:len(hashes)]
	mask := uint64(len(m.slots) - 1)
	for i, hash := range hashes {
		out[i] = uint32(m.slots[hash>>m.shift&mask])
	}
	return out
}

func (m *hashmap[V]) newCell(k *Key) (i uint32) {
	if last := len(m.free) - 1; last >= 0 {
		i = m.free[last]
		m.free = m.free[:last]
	} else {
		i = uint32(m.n)
		if m.n>>chunkBits == len(m.chunks) {
			m.chunks = append(m.chunks, new([chunkCells]cell[V]))
		}
		m.n++
	}
	c := m.at(i)
	*c = cell[V]{key: *k}
	return i
}

// grow doubles the slots. Homes are the hash's top bits, so that words keep
// their order and both arrays are walked from end to end.
func (m *hashmap[V]) grow() {
	old := m.slots
	m.setSlots(2 * len(old))
	mask := uint64(len(m.slots) - 1)
	for _, w := range old {
		if w == 0 {
			continue
		}
		pos := w >> m.shift
		for m.slots[pos&mask] != 0 {
			pos++
		}
		m.slots[pos&mask] = w
	}
}

// remove forgets cell i. Words behind it move up (Knuth, TAOCP 6.4, algorithm
// R), so that the map needs no tombstones.
func (m *hashmap[V]) remove(i uint32) {
	hash := processSeed.hash(&m.at(i).key)
	mask := uint64(len(m.slots) - 1)
	word := hash>>32<<32 | uint64(i+1)
	hole := hash >> m.shift & mask
	for m.slots[hole] != word {
		hole = (hole + 1) & mask
	}
	for pos := (hole + 1) & mask; m.slots[pos] != 0; pos = (pos + 1) & mask {
		// The word may fill the hole if its home is not between hole and pos.
		if home := m.slots[pos] >> m.shift & mask; (pos-home)&mask >= (pos-hole)&mask {
			m.slots[hole] = m.slots[pos]
			hole = pos
		}
	}
	m.slots[hole] = 0
	m.free = append(m.free, i)
}

// compactLeast is a number of cells too small to be worth giving back.
const compactLeast = 16 * chunkCells

// compact moves the cells in use together if they are few among those that were
// removed, and gives back the memory of the others. Cells then have other
// numbers, in the same order.
func (m *hashmap[V]) compact() {
	live := m.n - len(m.free)
	if m.n < compactLeast || live > m.n/4 {
		return
	}
	removed := make([]bool, m.n)
	for _, i := range m.free {
		removed[i] = true
	}
	slots := minSlots
	for slots/2 < live {
		slots *= 2
	}
	m.setSlots(slots)
	mask := uint64(slots - 1)
	to := uint32(0)
	for i := range removed {
		if removed[i] {
			continue
		}
		c := m.at(to)
		*c = *m.at(uint32(i))
		hash := processSeed.hash(&c.key)
		pos := hash >> m.shift
		for m.slots[pos&mask] != 0 {
			pos++
		}
		to++
		m.slots[pos&mask] = hash>>32<<32 | uint64(to)
	}
	chunks := (live + chunkCells - 1) / chunkCells
	clear(m.chunks[chunks:])
	m.chunks = m.chunks[:chunks]
	m.n, m.free = live, nil
}

// reserve makes room for n cells in a map that is empty.
func (m *hashmap[V]) reserve(n int) {
	slots := len(m.slots)
	for slots/2 < n {
		slots *= 2
	}
	if slots > len(m.slots) {
		m.setSlots(slots)
	}
	for len(m.chunks)<<chunkBits < n {
		m.chunks = append(m.chunks, new([chunkCells]cell[V]))
	}
}

// reset empties the map. It keeps room for as many cells as it held, so that a
// steady load allocates nothing, and gives back what a burst had taken.
func (m *hashmap[V]) reset() {
	chunks := (m.n + chunkCells - 1) / chunkCells
	slots := minSlots
	for slots/2 < m.n {
		slots *= 2
	}
	if keep := 2*chunks + 2; keep < len(m.chunks) {
		clear(m.chunks[keep:])
		m.chunks = m.chunks[:keep]
	}
	if slots < len(m.slots)/2 {
		m.setSlots(slots)
	} else {
		clear(m.slots)
	}
	m.n, m.free = 0, m.free[:0]
}

// seed is a secret that decides where keys go, so that nobody who chooses
// addresses and ports can aim at one slot.
type seed [4]uint64

// processSeed is drawn once per process. All maps share it, so that keys can be
// hashed before it is known which map they go to.
var processSeed = seed{rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64()}

// hash mixes a key with folded 64x64-bit multiplications, as wyhash does. Its
// benchmark is BenchmarkHash, beside xxhash and the runtime's AES hash.
func (s *seed) hash(k *Key) uint64 {
	a := fold(k.srcHi^s[0], k.srcLo^s[1])
	b := fold(k.dstHi^s[2], k.dstLo^s[3])
	return fold(a^k.rest^s[1], b^s[2])
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

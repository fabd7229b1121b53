package agent

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// histogram counts durations in buckets that double. Any goroutine may observe and
// look at any time.
type histogram struct {
	counts [buckets]atomic.Uint64
	sum    atomic.Int64 // nanoseconds
	max    atomic.Int64
}

// The first bucket ends at 1 us, the last but one at 8.4 s; the last has no end.
const (
	firstBucket = 10 // 2^10 ns
	buckets     = 25
)

func (h *histogram) observe(d time.Duration) {
	n := int64(max(d, 0))
	i := min(max(bits.Len64(uint64(n))-firstBucket, 0), buckets-1)
	h.counts[i].Add(1)
	h.sum.Add(n)
	for {
		m := h.max.Load()
		if n <= m || h.max.CompareAndSwap(m, n) {
			return
		}
	}
}

// Histogram is how often something took how long.
type Histogram struct {
	// Buckets are cumulative counts by upper bound in seconds, without the one that
	// has no bound.
	Buckets map[float64]uint64
	Count   uint64
	Sum     time.Duration
	Max     time.Duration
}

func (h *histogram) snapshot() Histogram {
	s := Histogram{Buckets: make(map[float64]uint64, buckets-1), Sum: time.Duration(h.sum.Load()), Max: time.Duration(h.max.Load())}
	for i := range h.counts {
		s.Count += h.counts[i].Load()
		if i < buckets-1 {
			s.Buckets[float64(uint64(1)<<(firstBucket+i))/1e9] = s.Count
		}
	}
	return s
}

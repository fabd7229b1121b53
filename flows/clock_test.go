package flows

import (
	"slices"
	"testing"
	"time"

	"weir/capture"
)

// cut returns the sizes of the intervals that a clock makes of packets at these
// times, handed over in batches of n, and their bounds.
func cut(length time.Duration, n int, times ...int64) (sizes []int, bounds [][2]int64) {
	c := NewClock(length)
	var ps []capture.Packet
	for _, t := range times {
		ps = append(ps, capture.Packet{Time: t})
	}
	size := 0
	for batch := range slices.Chunk(ps, n) {
		for len(batch) > 0 {
			took := c.Take(batch)
			size += took
			if batch = batch[took:]; len(batch) > 0 {
				sizes = append(sizes, size)
				start, end := c.Next()
				bounds = append(bounds, [2]int64{start, end})
				size = 0
			}
		}
	}
	start, end := c.Next()
	return append(sizes, size), append(bounds, [2]int64{start, end})
}

func TestClock(t *testing.T) {
	for _, c := range []struct {
		name   string
		length time.Duration
		times  []int64
		sizes  []int
		bounds [][2]int64
	}{
		{"multiples", 10, []int64{13, 19, 20, 29, 30}, []int{2, 2, 1}, [][2]int64{{10, 20}, {20, 30}, {30, 40}}},
		{"gap", 10, []int64{1, 95}, []int{1, 1}, [][2]int64{{0, 10}, {90, 100}}},
		{"a little back", 10, []int64{21, 19, 11, 22}, []int{4}, [][2]int64{{20, 30}}},
		{"an interval back", 10, []int64{21, 10, 11, 21}, []int{1, 2, 1}, [][2]int64{{20, 30}, {10, 20}, {20, 30}}},
		{"whole", 0, []int64{50, 7, 1e18, 9}, []int{4}, [][2]int64{{7, 1e18}}},
		{"ends of time", 10, []int64{0, capture.MaxTime, 0}, []int{1, 1, 1},
			[][2]int64{{0, 10}, {capture.MaxTime / 10 * 10, capture.MaxTime/10*10 + 10}, {0, 10}}},
		{"longest", 1<<63 - 1, []int64{0, capture.MaxTime, 5}, []int{1, 1, 1},
			[][2]int64{{0, maxInterval}, {capture.MaxTime, capture.MaxTime + maxInterval}, {0, maxInterval}}},
		{"nothing", 10, nil, []int{0}, [][2]int64{{0, 0}}},
	} {
		for _, batch := range []int{1, 2, 100} {
			sizes, bounds := cut(c.length, batch, c.times...)
			if !slices.Equal(sizes, c.sizes) || !slices.Equal(bounds, c.bounds) {
				t.Errorf("%s in batches of %d: %v %v, want %v %v", c.name, batch, sizes, bounds, c.sizes, c.bounds)
			}
		}
	}
}

package pcap

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"weir/capture"
)

// wantNanoseconds calculates with numbers of any size what the clock has to.
func wantNanoseconds(resolution byte, offset int64, ticks uint64) int64 {
	base := big.NewInt(10)
	if resolution&0x80 != 0 {
		base = big.NewInt(2)
	}
	unit := new(big.Int).Exp(base, big.NewInt(int64(resolution&0x7f)), nil)
	ns := new(big.Int).SetUint64(ticks)
	ns.Mul(ns, big.NewInt(1e9)).Div(ns, unit)
	ns.Add(ns, new(big.Int).Mul(big.NewInt(offset), big.NewInt(1e9)))
	switch {
	case ns.Sign() < 0:
		return 0
	case ns.Cmp(big.NewInt(capture.MaxTime)) > 0:
		return capture.MaxTime
	}
	return ns.Int64()
}

func TestClock(t *testing.T) {
	offsets := []int64{0, 1, -1, 1e9, -1e9, 1 << 33, -1 << 33, math.MaxInt64, math.MinInt64, math.MinInt64 + 1}
	ticks := []uint64{0, 1, 999, 1e9, 1700000000123456, 1700000000123456789, 1 << 62, 1<<62 + 1, 1<<62 - 1, math.MaxUint64, math.MaxUint64 - 1}
	for shift := range 64 {
		ticks = append(ticks, 1<<shift, rand.Uint64()>>shift)
	}
	for resolution := range 256 {
		for _, offset := range offsets {
			c := newClock(byte(resolution), offset)
			for _, n := range ticks {
				if got, want := c.nanoseconds(n), wantNanoseconds(byte(resolution), offset, n); got != want {
					t.Fatalf("resolution %#x, offset %d, ticks %d: got %d, want %d", resolution, offset, n, got, want)
				}
			}
			if c.limit > 0 { // on both sides of where the short way ends
				for n := c.limit - 2; n < c.limit+3; n++ {
					if got, want := c.nanoseconds(n), wantNanoseconds(byte(resolution), offset, n); got != want {
						t.Fatalf("resolution %#x, ticks %d: got %d, want %d", resolution, n, got, want)
					}
				}
			}
		}
	}
}

package pcap

import (
	"math/bits"

	"weir/capture"
)

// clock turns an interface's timestamps into nanoseconds since the Unix epoch.
type clock struct {
	// factor is the nanoseconds in a tick where that is a whole number and there is
	// no offset; timestamps below limit then need one multiplication. Else limit is 0.
	factor, limit uint64
	// A tick is 10^-exponent or, if binary, 2^-exponent seconds.
	exponent uint8
	binary   bool
	offset   int64 // seconds to add
}

// newClock returns the clock of an interface with these values of if_tsresol and
// if_tsoffset (draft-ietf-opsawg-pcapng section 4.2).
func newClock(resolution byte, offset int64) clock {
	c := clock{exponent: resolution & 0x7f, binary: resolution&0x80 != 0, offset: offset}
	if !c.binary && c.exponent <= 9 && offset == 0 {
		c.factor = pow10(9 - c.exponent)
		c.limit = uint64(capture.MaxTime) / c.factor
	}
	return c
}

// nanoseconds returns the time of a timestamp, within 0..capture.MaxTime. A fraction
// of a nanosecond is cut off.
func (c *clock) nanoseconds(ticks uint64) int64 {
	if ticks < c.limit {
		return int64(ticks * c.factor)
	}
	return c.exact(ticks)
}

// exact calculates in 128 bits, in which nothing overflows: a product of two 64-bit
// numbers is at most 2^128 - 2^65 + 1, and here one of them is at most 10^9.
func (c *clock) exact(ticks uint64) int64 {
	var hi, lo uint64
	switch {
	case c.binary:
		hi, lo = bits.Mul64(ticks, 1e9)
		if c.exponent >= 64 {
			hi, lo = 0, hi>>(c.exponent-64)
		} else {
			lo = lo>>c.exponent | hi<<(64-c.exponent) // a shift by 64 gives 0
			hi >>= c.exponent
		}
	case c.exponent <= 9:
		hi, lo = bits.Mul64(ticks, pow10(9-c.exponent))
	case c.exponent <= 9+19: // 10^19 is the largest power in 64 bits
		lo = ticks / pow10(c.exponent-9)
	}
	if c.offset < 0 {
		offHi, offLo := bits.Mul64(-uint64(c.offset), 1e9)
		var borrow uint64
		lo, borrow = bits.Sub64(lo, offLo, 0)
		if hi, borrow = bits.Sub64(hi, offHi, borrow); borrow != 0 {
			return 0
		}
	} else {
		offHi, offLo := bits.Mul64(uint64(c.offset), 1e9)
		var carry uint64
		lo, carry = bits.Add64(lo, offLo, 0)
		hi, _ = bits.Add64(hi, offHi, carry)
	}
	if hi != 0 || lo > uint64(capture.MaxTime) {
		return capture.MaxTime
	}
	return int64(lo)
}

// pow10 returns 10^n; n is at most 19.
func pow10(n uint8) uint64 {
	v := uint64(1)
	for range n {
		v *= 10
	}
	return v
}

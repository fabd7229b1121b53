package flows

import (
	"math"
	"time"

	"weir/capture"
)

// Clock cuts a stream of packets into intervals by the packets' own times. Its
// intervals begin at multiples of their length since the Unix epoch.
//
// Captures go backwards: several queues, several CPUs, several files. A packet
// that is earlier than the current interval is counted in it, unless it is
// earlier by a whole interval or more: then the clock was set, or another
// capture begins, and so does another interval.
type Clock struct {
	length     int64
	start, end int64 // of the current interval; end is 0 before the first packet
	min, max   int64 // of the packets in it
}

// maxInterval keeps the ends of all intervals within int64.
const maxInterval = capture.MaxTime / 2

// NewClock returns a clock for intervals of this length, at most 73 years; 0 makes
// one interval of the whole stream.
func NewClock(length time.Duration) Clock {
	return Clock{length: min(int64(length), maxInterval)}
}

// Take returns how many of the packets, from the first on, belong to the current
// interval; if not all do, Next must be called before Take is called again with
// the rest.
func (c *Clock) Take(packets []capture.Packet) int {
	if len(packets) == 0 {
		return 0
	}
	if c.end == 0 {
		c.begin(packets[0].Time)
	}
	floor, end, lo, hi := c.start-c.length, c.end, c.min, c.max
	n := len(packets)
	for i := range packets {
		t := packets[i].Time
		if t >= end || t <= floor {
			n = i
			break
		}
		lo, hi = min(lo, t), max(hi, t)
	}
	c.min, c.max = lo, hi
	return n
}

func (c *Clock) begin(t int64) {
	c.min, c.max = math.MaxInt64, 0
	if c.length <= 0 {
		c.start, c.length, c.end = -1, 0, math.MaxInt64 // takes all of 0..capture.MaxTime
		return
	}
	c.start = t - t%c.length
	c.end = c.start + c.length
}

// Next ends the current interval and returns its bounds, in nanoseconds since
// the Unix epoch. Where the whole stream is one interval, these are the times of
// its earliest and its latest packet.
func (c *Clock) Next() (start, end int64) {
	start, end = c.start, c.end
	if c.length <= 0 {
		start, end = c.min, c.max
	}
	c.end = 0
	return start, end
}

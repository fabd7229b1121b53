package exporter

import (
	"math/rand/v2"
	"time"
)

// The pauses of a [Backoff] that says nothing else.
const (
	DefaultFirstPause = 200 * time.Millisecond
	DefaultMaxPause   = 10 * time.Second
)

// Backoff gives pauses between attempts. They double from the first to the longest,
// and each is cut by chance to between half of it and all of it: agents that lost
// the same server at the same time do not all come back at the same time, and none
// comes back at once. The zero value is ready. It is not safe for concurrent use.
type Backoff struct {
	First time.Duration // 0 means DefaultFirstPause
	Max   time.Duration // 0 means DefaultMaxPause

	whole  time.Duration             // of the pause before; 0 at first
	chance func(n int64) (cut int64) // 0 to n-1; nil for a random one
}

// Next returns the next pause.
func (b *Backoff) Next() time.Duration {
	first, longest := b.First, b.Max
	if first <= 0 {
		first = DefaultFirstPause
	}
	if longest <= 0 {
		longest = DefaultMaxPause
	}
	if b.whole == 0 {
		b.whole = min(first, longest)
	} else {
		b.whole = min(2*b.whole, longest)
	}
	chance := b.chance
	if chance == nil {
		chance = rand.Int64N
	}
	return b.whole - time.Duration(chance(int64(b.whole/2)+1))
}

// Reset begins anew: the next pause is the first.
func (b *Backoff) Reset() { b.whole = 0 }

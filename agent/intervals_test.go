package agent

import (
	"math/rand/v2"
	"testing"
	"time"
)

// rotator is a clock that can be set, and a rotator that lives by it.
type rotator struct {
	t        *testing.T
	now      time.Time
	i        intervals
	ends     time.Time // of the interval that was cut last
	cut      int
	counted  time.Duration // since then
	longest  time.Duration // that something counted had to wait
	setBack  bool          // by more than an interval, since the last cut
	idle     bool
	warnings int
}

func newRotator(t *testing.T, now time.Time, length time.Duration) *rotator {
	return &rotator{t: t, now: now, i: newIntervals(now, length), ends: floor(now, length), idle: true}
}

// run lets time pass.
func (r *rotator) run(d time.Duration) {
	for d > 0 {
		wait := max(min(r.i.wake(r.now).Sub(r.now), d), 0)
		r.now, d, r.counted = r.now.Add(wait), d-wait, r.counted+wait
		if r.turn() == 0 && wait == 0 {
			r.t.Fatalf("no time passes at %v, interval %v to %v", r.now, r.i.start, r.i.end)
		}
	}
}

// turn is what rotate does when it wakes. It returns how many intervals it has cut.
func (r *rotator) turn() int {
	if !r.i.due(r.now) {
		return 0
	}
	if !r.idle {
		r.i.postpone(r.now)
		return 1
	}
	start, end, set := r.i.cut(r.now)
	if set {
		r.warnings++
	}
	r.hold(start, end)
	if end.UnixNano()%int64(r.i.length) != 0 {
		r.t.Errorf("an interval that ends %v", end)
	}
	if !r.i.start.Before(r.i.end) || r.i.start.UnixNano()%int64(r.i.length) != 0 || !r.now.Before(r.i.end) {
		r.t.Errorf("the next interval, at %v, is from %v to %v", r.now, r.i.start, r.i.end)
	}
	r.ends = r.i.start
	r.longest, r.counted, r.setBack = max(r.longest, r.counted), 0, false
	r.cut++
	return 1
}

func (r *rotator) hold(start, end time.Time) {
	if !start.Before(end) || !start.Equal(r.ends) || start.UnixNano()%int64(r.i.length) != 0 {
		r.t.Errorf("at %v an interval from %v to %v, after one until %v", r.now, start, end, r.ends)
	}
	if r.i.start.Before(end) && !r.setBack {
		r.t.Errorf("at %v the next interval begins %v, before the end %v of one", r.now, r.i.start, end)
	}
}

// set sets the clock.
func (r *rotator) set(by time.Duration) {
	r.now = r.now.Add(by)
	if r.now.Before(r.i.start.Add(-r.i.length)) {
		r.setBack = true
	}
}

func at(second float64) time.Time { return time.Unix(0, int64(second*1e9)) }

func TestIntervalsFollowTheClock(t *testing.T) {
	const length = 10 * time.Second
	for _, c := range []struct {
		about    string
		jump     time.Duration
		longest  time.Duration // that packets may have to wait for their interval
		warnings int
	}{
		{"none", 0, length, 0},
		{"a nanosecond back", -1, length + 1, 0},
		{"a second back", -time.Second, length + time.Second, 0},
		{"to the start", -10 * time.Second, 2 * length, 0},
		{"before the start", -11 * time.Second, 2*length + time.Second, 0},
		{"to an interval before the start", -20 * time.Second, 3 * length, 0},
		{"more than an interval before the start", -20*time.Second - 1, length, 1},
		{"an hour back", -time.Hour, length, 1},
		{"days back", -72 * time.Hour, length, 1},
		{"to the epoch", -1e9 * time.Second, length, 1},
		{"a second on", time.Second, length, 0},
		{"to an interval beyond the end", 10 * time.Second, length, 0},
		{"more than an interval beyond the end", 10*time.Second + 1, length, 1},
		{"hours on", 5 * time.Hour, length, 1},
		{"years on", 20 * 365 * 24 * time.Hour, length, 1},
	} {
		t.Run(c.about, func(t *testing.T) {
			r := newRotator(t, at(1_700_000_001.5), length)
			r.run(30*time.Second + 1500*time.Millisecond) // 3 s into an interval
			// The timer that runs wakes the rotator 7 s later, whatever the clock says.
			r.set(c.jump)
			r.now, r.counted = r.now.Add(7*time.Second), r.counted+7*time.Second
			r.turn()
			r.run(time.Minute)
			if r.longest > c.longest || r.warnings != c.warnings || r.cut < 7 {
				t.Errorf("%d intervals, packets waited %v, %d warnings", r.cut, r.longest, r.warnings)
			}
			if r.now.Sub(r.i.start) >= length || r.now.Before(r.i.start) {
				t.Errorf("at %v the interval is from %v", r.now, r.i.start)
			}
			start, end := r.i.last(r.now)
			r.i.start = end
			r.hold(start, end)
		})
	}
}

func TestIntervalsOnMultiples(t *testing.T) {
	for _, length := range []time.Duration{time.Second, 7 * time.Second, 10 * time.Second, time.Minute, time.Hour} {
		first := floor(at(1_700_000_000), length)
		i := newIntervals(first, length)
		if !i.start.Equal(first) || !i.end.Equal(first.Add(length)) || i.due(first) || i.due(i.end.Add(-1)) || !i.due(i.end) {
			t.Errorf("%v: from a multiple on: %+v", length, i)
		}
		if start, end := i.last(first); !start.Equal(first) || !end.After(start) {
			t.Errorf("%v: ended as it began: %v to %v", length, start, end)
		}
		if start, end, set := i.cut(first.Add(length)); !start.Equal(first) || !end.Equal(first.Add(length)) || set {
			t.Errorf("%v: cut on time: %v to %v, %v", length, start, end, set)
		}
		if start, end := i.last(i.start); !start.Equal(i.start) || !end.After(start) {
			t.Errorf("%v: ended on a multiple: %v to %v", length, start, end)
		}
		if start, end := i.last(i.start.Add(1)); !start.Equal(i.start) || !end.Equal(start.Add(1)) {
			t.Errorf("%v: ended after one: %v to %v", length, start, end)
		}
		if start, end := i.last(i.start.Add(-time.Hour)); !start.Equal(i.start) || !end.After(start) {
			t.Errorf("%v: ended before it: %v to %v", length, start, end)
		}
	}
}

// TestIntervalsWhileClocksAreSet sets clocks at random, with a sink that is at times away.
func TestIntervalsWhileClocksAreSet(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		length := []time.Duration{time.Second, 7 * time.Second, 10 * time.Second, 5 * time.Minute}[random.IntN(4)]
		r := newRotator(t, at(1.7e9+random.Float64()*100), length)
		for range 200 {
			switch random.IntN(4) {
			case 0:
				r.set(time.Duration((random.Float64() - 0.5) * float64(4*length)))
			case 1:
				r.set(time.Duration((random.Float64() - 0.5) * float64(48*time.Hour)))
			case 2:
				r.idle = !r.idle
			}
			if random.IntN(5) == 0 {
				r.now = floor(r.now, length) // on a multiple
			}
			r.run(time.Duration(random.Float64() * float64(3*length)))
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		r.idle = true
		r.run(4 * length)
		if r.now.Sub(r.i.start) >= length || r.now.Before(r.i.start) {
			t.Fatalf("seed %d: at %v the interval is from %v", seed, r.now, r.i.start)
		}
	}
}

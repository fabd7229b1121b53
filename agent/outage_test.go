package agent_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/agent"
	"weir/capture/afring"
	"weir/flows"
)

// contiguous holds that the intervals of an interface follow each other without gaps
// or overlaps, at multiples of the interval but for the end of the last one.
func contiguous(t *testing.T, sink *kept, name string, interval time.Duration) (longest time.Duration) {
	t.Helper()
	all := sink.on(name)
	for i, b := range all {
		if i > 0 && b.Start != all[i-1].End {
			t.Errorf("%s: an interval from %d, after one that ended %d", name, b.Start, all[i-1].End)
		}
		if b.Start%int64(interval) != 0 || i < len(all)-1 && b.End%int64(interval) != 0 || b.Start >= b.End {
			t.Errorf("%s: interval from %d to %d", name, b.Start, b.End)
		}
		for _, r := range b.Records {
			// What is in the block that is being filled comes with the next interval.
			if r.First < b.Start-int64(afring.DefaultRetireTimeout) || r.Last >= b.End && i < len(all)-1 {
				t.Errorf("%s: packets from %d to %d in an interval from %d to %d", name, r.First, r.Last, b.Start, b.End)
			}
		}
		longest = max(longest, time.Duration(b.End-b.Start))
	}
	return longest
}

// TestOutage has the sink stand still for 35 s: what is counted meanwhile comes in a
// longer interval, and nothing is lost.
func TestOutage(t *testing.T) {
	for _, outages := range [][]int{{0}, {7}, {10}, {20, 70}, {3, 39, 75}} { // when they begin, in seconds
		t.Run(fmt.Sprint(outages), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, sink := newHost(), &kept{}
				names := []string{"eth1", "eth2", "eth3"}
				for i := range names {
					h.add(i + 1)
				}
				a, stop := running(t, h, sink, nil)
				time.Sleep(time.Second / 2)
				behind := 0
				for second := range 140 {
					for _, begin := range outages {
						if second == begin {
							time.AfterFunc(35*time.Second, sink.block())
						}
						if second == begin+34 && !a.Status().Behind {
							t.Errorf("%d s: not behind", second)
						}
						if second == begin+35+10+1 && a.Status().Behind && len(outages) == 1 {
							t.Errorf("%d s: still behind", second)
						}
					}
					if a.Status().Behind {
						behind++
					}
					for i, name := range names {
						h.send(t, name, 1000*i+second%17)
					}
					time.Sleep(time.Second)
				}
				if s := a.Status(); s.Behind || behind == 0 {
					t.Errorf("behind at the end %v, for %d s", s.Behind, behind)
				}
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				sink.closes(t, h, a)
				for _, name := range names {
					if longest := contiguous(t, sink, name, 10*time.Second); longest < 20*time.Second || longest > 40*time.Second {
						t.Errorf("%s: the longest interval has %v", name, longest)
					}
				}
			})
		})
	}
}

// TestTablesAreBounded counts the tables that are in circulation, over many intervals
// and an outage.
func TestTablesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{}
		h.fanout = 3
		h.add(1)
		a, stop := running(t, h, sink, func(c *agent.Config) { c.MaxFlows = 8 })
		time.Sleep(time.Second / 2)
		seen := map[*flows.Table]int{} // which keeps them from being made anew
		ctx, cancel := context.WithCancel(t.Context())
		go a.Look(ctx, func(s agent.Second) { seen[s.Table]++ }, func(time.Duration) {})
		var release func()
		for second := range 600 {
			switch second {
			case 200:
				release = sink.block()
			case 400:
				release()
			}
			for i := range 10 {
				h.offer(t, "eth1", i%3, request(i))
			}
			time.Sleep(time.Second)
		}
		cancel()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		sink.closes(t, h, a)
		// One in each ring, one more for each while they are exchanged, the interval's,
		// and the tracker's.
		if len(seen) > 2*3+2 {
			t.Errorf("%d tables for 3 rings", len(seen))
		}
		if _, l := sink.packets(); l.Overflow == 0 {
			t.Error("the table was never full")
		}
	})
}

// TestGrace has the sink stand still for ever: Run ends nevertheless, says so, and
// still says what was counted.
func TestGrace(t *testing.T) {
	for _, seconds := range []int{0, 5, 35, 300} {
		t.Run(fmt.Sprint(seconds, "s"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, sink := newHost(), &kept{}
				sink.block()
				h.add(1)
				h.add(2)
				a, stop := running(t, h, sink, nil)
				time.Sleep(time.Second / 2)
				for range seconds {
					h.send(t, "eth1", 1)
					h.send(t, "eth2", 2)
					time.Sleep(time.Second)
				}
				began := time.Now()
				err := stop()
				if err == nil || !strings.Contains(err.Error(), "could be written within 5s") {
					t.Errorf("Run returned %v", err)
				}
				if took := time.Since(began); took < 5*time.Second || took > 5*time.Second+time.Millisecond {
					t.Errorf("after %v", took)
				}
				if !sink.closed {
					t.Error("the sink is not closed")
				}
				if s := a.Status(); s.Total.Packets != h.queued || s.Total.Metered != h.queued {
					t.Errorf("%d packets, status says %+v", h.queued, s.Total)
				}
			})
		})
	}
}

// TestGraceSuffices lets the sink go on just before the grace is over.
func TestGraceSuffices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{}
		release := sink.block()
		h.add(1)
		a, stop := running(t, h, sink, nil)
		time.Sleep(time.Second / 2)
		for range 65 {
			h.send(t, "eth1", 1)
			time.Sleep(time.Second)
		}
		time.AfterFunc(4*time.Second, release)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		sink.closes(t, h, a)
		contiguous(t, sink, "eth1", 10*time.Second)
		if a.Status().Behind {
			t.Error("behind, although all is written")
		}
	})
}

// TestSinkFails holds that Run ends with the sink's error, that nothing hangs, and that
// what was counted until then is in the totals.
func TestSinkFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{fail: errors.New("disk on fire")}
		time.AfterFunc(13*time.Second, sink.block()) // when it fails
		h.add(1)
		a, stop := running(t, h, sink, nil)
		time.Sleep(time.Second / 2)
		for range 25 {
			h.offer(t, "eth1", 0, request(1))
			time.Sleep(time.Second)
		}
		if h.queued != 13 {
			t.Errorf("rings took %d packets, in 25 s", h.queued)
		}
		if err := stop(); !errors.Is(err, sink.fail) {
			t.Errorf("Run returned %v", err)
		}
		if s := a.Status(); s.Total.Packets != h.queued {
			t.Errorf("status %+v after %d packets", s.Total, h.queued)
		}
	})
}

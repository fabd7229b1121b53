package agent_test

import (
	"context"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/agent"
	"weir/flows"
)

// seconds adds up what somebody who looks is shown.
type seconds struct {
	mu      sync.Mutex
	packets map[string]uint64 // by interface
	each    []uint64          // of all interfaces, by second
	took    []time.Duration
	now     uint64
}

func (s *seconds) show(one agent.Second) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.packets == nil {
		s.packets = map[string]uint64{}
	}
	one.Table.Each(func(r *flows.Record) {
		s.packets[one.Interface] += r.Forward.Packets
		s.now += r.Forward.Packets
	})
}

func (s *seconds) shown(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.each, s.took, s.now = append(s.each, s.now), append(s.took, took), 0
}

// look has somebody look until the function that it returns is called.
func look(t *testing.T, a *agent.Agent, s *seconds) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); a.Look(ctx, s.show, s.shown) }()
	synctest.Wait()
	return func() { cancel(); <-done }
}

// TestLook holds that each second is shown, of each interface, and that seconds add up.
func TestLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{}
		h.add(1)
		h.add(2)
		a, stop := running(t, h, sink, nil)
		time.Sleep(3500 * time.Millisecond)
		h.send(t, "eth1", 1) // before anybody looks
		time.Sleep(time.Second / 4)
		var all seconds
		end := look(t, a, &all)
		for range 37 {
			for i := range 10 {
				h.send(t, "eth1", i)
				h.send(t, "eth2", i)
			}
			time.Sleep(time.Second)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		end()
		sink.closes(t, h, a)
		if all.packets["eth1"] != 371 || all.packets["eth2"] != 370 {
			t.Errorf("shown %v", all.packets)
		}
		// At once, each second, at the end of each interval, and the rest at the end.
		if all.each[0] != 1 || all.took[0] != 3750*time.Millisecond || len(all.each) < 38 || len(all.each) > 38+5 {
			t.Errorf("shown %v in %v", all.each, all.took)
		}
		var sum time.Duration
		for i, took := range all.took {
			sum += took
			if i > 0 && (took > time.Second || took < 0) {
				t.Errorf("a second took %v", took)
			}
		}
		if began := a.Status().Since; sum > time.Since(began) || sum < time.Since(began)-time.Millisecond {
			t.Errorf("all together took %v", sum)
		}
	})
}

// TestLookersComeAndGo holds that each is shown what comes from when it began until it
// ended, whoever else looks, and nothing after Look has returned.
func TestLookersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{}
		h.add(1)
		a, stop := running(t, h, sink, nil)
		time.Sleep(time.Second / 2)
		second := func(n int) {
			for range n {
				h.send(t, "eth1", 1)
				time.Sleep(time.Second)
			}
		}
		var first, other, again seconds
		endFirst := look(t, a, &first)
		second(7)
		time.Sleep(time.Second / 3)
		endOther := look(t, a, &other)
		second(6)
		time.Sleep(time.Second)
		endFirst()
		seen := first.packets["eth1"]
		second(6)
		time.Sleep(time.Second)
		endOther()
		shown := len(other.each)
		second(12) // nobody looks
		time.Sleep(time.Second)
		endAgain := look(t, a, &again)
		second(3)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		endAgain()
		if first.packets["eth1"] != seen || seen != 13 || len(other.each) != shown {
			t.Errorf("the first was shown %d and then %d packets, the other %d and %d seconds", seen, first.packets["eth1"], shown, len(other.each))
		}
		if n := other.packets["eth1"]; n < 12 || n > 13 { // 7 were shown before, the last may be on its way
			t.Errorf("the second was shown %d packets", n)
		}
		// What nobody looked at is shown as far as it is of this interval.
		if n := again.packets["eth1"]; n < 3 || n > 3+10 {
			t.Errorf("the last was shown %d packets", n)
		}
		sink.closes(t, h, a)
		contiguous(t, sink, "eth1", 10*time.Second)
	})
}

// TestLookChangesNothing compares the records with those of an agent at which nobody looks.
func TestLookChangesNothing(t *testing.T) {
	type interval struct {
		start, end int64
		record     flows.Record
	}
	records := func(lookers, rings int) map[interval]int {
		found := map[interval]int{}
		synctest.Test(t, func(t *testing.T) {
			h, sink := newHost(), &kept{}
			h.fanout = rings
			h.add(1)
			a, stop := running(t, h, sink, func(c *agent.Config) { c.Tracker.Idle = 15 * time.Second; c.Tracker.Active = 30 * time.Second })
			time.Sleep(time.Second / 2)
			var ends []func()
			for range lookers {
				ends = append(ends, look(t, a, &seconds{}))
				time.Sleep(time.Second / 8)
			}
			time.Sleep(time.Second/2 - time.Duration(lookers)*time.Second/8)
			for second := range 75 {
				for flow := range 40 {
					if (second*7+flow)%(flow+1) == 0 {
						h.offer(t, "eth1", (second+flow)%rings, request(flow))
					}
					if (second*5+flow)%(flow/2+1) == 0 {
						h.offer(t, "eth1", flow%rings, reply(flow))
					}
				}
				time.Sleep(time.Second)
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			for _, end := range ends {
				end()
			}
			sink.closes(t, h, a)
			for _, b := range sink.on("eth1") {
				for _, r := range b.Records {
					found[interval{b.Start, b.End, r}]++
				}
			}
		})
		return found
	}
	for _, rings := range []int{1, 3} {
		alone := records(0, rings)
		if len(alone) < 100 {
			t.Fatalf("%d records", len(alone))
		}
		for lookers := 1; lookers <= 2; lookers++ {
			watched := records(lookers, rings)
			if !maps.Equal(alone, watched) {
				t.Errorf("%d rings, %d who look: %d records, not the %d without", rings, lookers, len(watched), len(alone))
			}
		}
	}
}

// TestLookDuringOutage holds that seconds are shown while the sink is away.
func TestLookDuringOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{}
		release := sink.block()
		h.add(1)
		a, stop := running(t, h, sink, nil)
		time.Sleep(time.Second / 2)
		var all seconds
		end := look(t, a, &all)
		for range 65 {
			h.send(t, "eth1", 1)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if n := all.packets["eth1"]; n < 64 || len(all.each) < 65 {
			t.Errorf("shown %d packets in %d seconds", n, len(all.each))
		}
		end()
		release()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		sink.closes(t, h, a)
	})
}

// TestLookAtNothing looks where no interface is, and when the agent is over.
func TestLookAtNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{}
		a, stop := running(t, h, sink, nil)
		var all seconds
		end := look(t, a, &all)
		time.Sleep(10*time.Second + time.Second/2)
		synctest.Wait()
		if len(all.each) < 10 {
			t.Errorf("shown %d seconds", len(all.each))
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		end()
		look(t, a, &all)()
		if len(all.packets) != 0 {
			t.Errorf("shown %v", all.packets)
		}
	})
}

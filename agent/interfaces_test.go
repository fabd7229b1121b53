package agent_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"weir/agent"
	"weir/capture/link"
	"weir/flows"
)

var errBusy = errors.New("no buffer space available")

// trouble returns why an interface is not captured on, by what Status says.
func trouble(t *testing.T, a *agent.Agent, name string) error {
	t.Helper()
	var found []agent.InterfaceStatus
	for _, i := range a.Status().Interfaces {
		if i.Name == name {
			found = append(found, i)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s in the status: %+v", name, found)
	}
	return found[0].Err
}

// pauses returns how long it was from one to the next.
func pauses(tries []time.Time) (all []time.Duration) {
	for i := 1; i < len(tries); i++ {
		all = append(all, tries[i].Sub(tries[i-1]).Round(10*time.Millisecond))
	}
	return all
}

func TestOpenFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink, log := newHost(), &kept{}, &logged{}
		h.refuse("eth1", errBusy)
		h.add(1)
		h.add(2)
		a, stop := running(t, h, sink, log.set)
		time.Sleep(time.Second / 2)
		for range 140 {
			h.send(t, "eth2", 1)
			time.Sleep(time.Second)
		}
		want := []time.Duration{1, 2, 4, 8, 16, 32, 60, 60}
		for i := range want {
			want[i] *= 500 * time.Millisecond
		}
		if got := pauses(h.tries("eth1")); !slices.Equal(got[:len(want)], want) || len(got) > len(want)+2 {
			t.Errorf("tried after %v", got)
		}
		if err := trouble(t, a, "eth1"); err != errBusy {
			t.Errorf("status says %v", err)
		}
		if n := log.count("cannot capture", "eth1", errBusy.Error()); n != 1 {
			t.Errorf("said %d times", n)
		}

		h.refuse("eth1", errors.New("another reason"))
		time.Sleep(2 * time.Minute)
		if n := log.count("cannot capture", "eth1", "another reason"); n != 1 {
			t.Errorf("another reason was said %d times", n)
		}
		if err := trouble(t, a, "eth1"); err.Error() != "another reason" {
			t.Errorf("status says %v", err)
		}

		h.refuse("eth1", nil)
		time.Sleep(30 * time.Second)
		if err := trouble(t, a, "eth1"); err != nil || h.openings("eth1") != 1 {
			t.Errorf("%v, opened %d times", err, h.openings("eth1"))
		}
		h.send(t, "eth1", 1)
		if h.openings("eth2") != 1 {
			t.Errorf("the other interface was opened %d times", h.openings("eth2"))
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		sink.closes(t, h, a)
		contiguous(t, sink, "eth2", 10*time.Second)
	})
}

// TestOpenTriesAtNews holds that a change of an interface ends the pause.
func TestOpenTriesAtNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{}
		h.refuse("eth1", errBusy)
		l := h.add(1)
		a, stop := running(t, h, sink, nil)
		time.Sleep(17 * time.Second) // the next attempt would be at 31.5 s
		h.refuse("eth1", nil)
		l.MTU = 9000
		h.events <- link.Event{Kind: link.Changed, Link: l}
		time.Sleep(time.Second / 10)
		if err := trouble(t, a, "eth1"); err != nil || h.openings("eth1") != 1 {
			t.Errorf("%v, opened %d times", err, h.openings("eth1"))
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestTroubleIsForgotten holds that nobody tries to open what is gone or not wanted.
func TestTroubleIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{}
		for i := range 3 {
			h.add(i + 1)
			h.refuse(fmt.Sprintf("eth%d", i+1), errBusy)
		}
		a, stop := running(t, h, sink, nil)
		time.Sleep(20 * time.Second)
		tried := []int{len(h.tries("eth1")), len(h.tries("eth2"))}
		h.remove(link.Link{Index: 1, Name: "eth1"})
		h.events <- link.Event{Kind: link.Changed, Link: link.Link{Index: 2, Name: "eth2", Hardware: 1}} // down
		time.Sleep(2 * time.Minute)
		if s := a.Status(); len(s.Interfaces) != 1 || s.Interfaces[0].Name != "eth3" {
			t.Errorf("status %+v", s.Interfaces)
		}
		if got := []int{len(h.tries("eth1")), len(h.tries("eth2"))}; !slices.Equal(got, tried) {
			t.Errorf("tried %v times, and then %v", tried, got)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRingEnds ends a ring in each way, and holds that the interface is captured on
// again and no packet is lost that it took.
func TestRingEnds(t *testing.T) {
	for _, c := range []struct {
		about string
		end   func(*fragile)
		said  string
	}{
		{"end", func(f *fragile) { f.End() }, "capture ended: EOF"},
		{"broken", func(f *fragile) { f.breaks() }, "ring is broken"},
		{"gone", func(f *fragile) { f.LinkGone() }, "interface is gone"}, // and the news of a new one was the same
		{"closed", func(f *fragile) { f.source.Close() }, "capture closed"},
	} {
		t.Run(c.about, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, sink, log := newHost(), &kept{}, &logged{}
				h.add(1)
				h.add(2)
				a, stop := running(t, h, sink, log.set)
				time.Sleep(time.Second / 2)
				for second := range 25 {
					if second == 12 {
						c.end(h.group("eth1")[0])
						time.Sleep(time.Second) // it is opened again after a pause
					}
					h.send(t, "eth1", 1)
					h.send(t, "eth2", 1)
					time.Sleep(time.Second)
				}
				if err := trouble(t, a, "eth1"); err != nil || h.openings("eth1") != 2 || h.openings("eth2") != 1 {
					t.Errorf("%v, opened %d and %d times", err, h.openings("eth1"), h.openings("eth2"))
				}
				if n := log.count("eth1", c.said); n != 1 {
					t.Errorf("said %d times", n)
				}
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				sink.closes(t, h, a)
				forced := 0
				for _, b := range sink.on("eth1") {
					for _, r := range b.Records {
						if r.EndReason == flows.EndForced {
							forced++
						}
					}
				}
				if forced != 2 {
					t.Errorf("%d records ended by force", forced)
				}
			})
		})
	}
}

// TestRingBreaksAgain has every ring of an interface break as soon as it is opened: the
// pauses grow, and it is said once.
func TestRingBreaksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink, log := newHost(), &kept{}, &logged{}
		h.add(1)
		h.add(2)
		a, stop := running(t, h, sink, log.set)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for ctx.Err() == nil {
				if g := h.group("eth1"); g != nil {
					g[0].breaks()
				}
				time.Sleep(time.Millisecond)
			}
		}()
		time.Sleep(2 * time.Minute)
		got := pauses(h.tries("eth1"))
		if len(got) < 5 || len(got) > 12 || !slices.IsSorted(got) {
			t.Errorf("opened after %v", got)
		}
		if n := log.count("cannot capture", "eth1"); n != 1 {
			t.Errorf("said %d times", n)
		}
		cancel()
		time.Sleep(time.Minute)
		if err := trouble(t, a, "eth1"); err != nil {
			t.Error(err)
		}
		// After a while that it held it is news again, and tried soon.
		time.Sleep(time.Minute)
		before := len(h.tries("eth1"))
		h.group("eth1")[0].breaks()
		time.Sleep(time.Second)
		if n := log.count("cannot capture", "eth1"); n != 2 || len(h.tries("eth1")) != before+1 {
			t.Errorf("said %d times, opened %d times", n, len(h.tries("eth1"))-before)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		sink.closes(t, h, a)
	})
}

// TestRingBreaksUnheard has a ring break while an interval ends and another interface
// takes long to open: its failure is said nevertheless.
func TestRingBreaksUnheard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink, log := newHost(), &kept{}, &logged{}
		h.add(1)
		a, stop := running(t, h, sink, log.set)
		time.Sleep(time.Second / 2)
		h.send(t, "eth1", 1)
		h.delay("eth2", 15*time.Second)
		h.add(2)
		time.Sleep(time.Second)
		h.group("eth1")[0].breaks()
		time.Sleep(14*time.Second + 250*time.Millisecond) // eth2 is open, and eth1 is to be
		if n := log.count("cannot capture", "eth1", "ring is broken"); n != 1 {
			t.Errorf("said %d times", n)
		}
		if err := trouble(t, a, "eth1"); err == nil {
			t.Error("there is no pause")
		}
		time.Sleep(time.Second)
		if err := trouble(t, a, "eth1"); err != nil || h.openings("eth1") != 2 {
			t.Errorf("%v, opened %d times", err, h.openings("eth1"))
		}
		h.send(t, "eth1", 1)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		sink.closes(t, h, a)
	})
}

// TestGone deletes interfaces, in either order of ring and news, and makes new ones of
// the same name or index.
func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink, log := newHost(), &kept{}, &logged{}
		l := h.add(1)
		h.add(2)
		a, stop := running(t, h, sink, log.set)
		send := func(name string) {
			time.Sleep(time.Second / 2)
			h.send(t, name, 1)
			h.send(t, "eth2", 1)
		}
		send("eth1")
		h.remove(l)
		time.Sleep(time.Second)
		if s := a.Status(); len(s.Interfaces) != 1 {
			t.Errorf("deleted, but %+v", s.Interfaces)
		}
		if n := log.count("interface is gone", "eth1"); n != 1 || log.count("level=WARN") != 0 {
			t.Errorf("said %d times", n)
		}

		// The same name, another index.
		again := l
		again.Index = 3
		h.events <- link.Event{Kind: link.Added, Link: again}
		send("eth1")
		if h.openings("eth1") != 2 {
			t.Errorf("opened %d times", h.openings("eth1"))
		}

		// The news comes before the ring's end.
		h.events <- link.Event{Kind: link.Removed, Link: again}
		time.Sleep(time.Second)
		h.send(t, "eth1", 1)
		h.group("eth1")[0].LinkGone()
		time.Sleep(time.Second)
		if s := a.Status(); len(s.Interfaces) != 1 || h.openings("eth1") != 2 {
			t.Errorf("deleted, but %+v, opened %d times", s.Interfaces, h.openings("eth1"))
		}

		// The ring's end comes before the news: opening it fails.
		h.events <- link.Event{Kind: link.Added, Link: again}
		send("eth1")
		h.refuse("eth1", link.ErrNotFound)
		h.group("eth1")[0].LinkGone()
		time.Sleep(time.Second)
		if err := trouble(t, a, "eth1"); err != link.ErrNotFound {
			t.Errorf("status says %v", err)
		}
		h.events <- link.Event{Kind: link.Removed, Link: again}
		h.refuse("eth1", nil)
		time.Sleep(time.Minute)
		if s := a.Status(); len(s.Interfaces) != 1 || h.openings("eth1") != 3 {
			t.Errorf("deleted, but %+v, opened %d times", s.Interfaces, h.openings("eth1"))
		}

		// Replaced by another of the same index.
		h.events <- link.Event{Kind: link.Added, Link: again}
		send("eth1")
		h.remove(again)
		again.Name = "wlan0"
		h.events <- link.Event{Kind: link.Added, Link: again}
		time.Sleep(time.Second)
		send("wlan0")
		if err := trouble(t, a, "wlan0"); err != nil || h.openings("wlan0") != 1 || len(a.Status().Interfaces) != 2 {
			t.Errorf("%v, opened %d times, %+v", err, h.openings("wlan0"), a.Status().Interfaces)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		sink.closes(t, h, a)
		contiguous(t, sink, "eth2", 10*time.Second)
		if n := len(sink.on("eth1")); n != 4 || len(sink.on("wlan0")) != 1 {
			t.Errorf("%d intervals of eth1, %d of wlan0", n, len(sink.on("wlan0")))
		}
		for _, name := range []string{"eth1", "wlan0"} {
			for _, b := range sink.on(name) {
				if len(b.Records) != 1 || b.Records[0].EndReason != flows.EndForced {
					t.Errorf("%s: %+v", name, b.Records)
				}
			}
		}
	})
}

func TestRename(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{}
		l := h.add(1)
		a, stop := running(t, h, sink, nil)
		time.Sleep(time.Second / 2)
		h.send(t, "eth1", 1)
		time.Sleep(10 * time.Second)
		l.Name = "lan"
		h.events <- link.Event{Kind: link.Changed, Link: l}
		time.Sleep(time.Second / 2)
		h.send(t, "eth1", 1)
		if err := trouble(t, a, "lan"); err != nil || h.openings("lan") != 0 {
			t.Errorf("%v, opened %d times", err, h.openings("lan"))
		}
		time.Sleep(10 * time.Second)
		h.group("eth1")[0].breaks()
		time.Sleep(time.Second / 4)
		if err := trouble(t, a, "lan"); err == nil {
			t.Error("it broke, and nobody says so")
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		sink.closes(t, h, a)
		before, after := sink.on("eth1"), sink.on("lan")
		if len(before) != 1 || len(after) != 2 || before[0].Ledger.Packets != 1 || after[0].Ledger.Packets != 1 {
			t.Fatalf("%d intervals before, %d after", len(before), len(after))
		}
		if x, y := before[0].Records[0], after[0].Records[0]; x.Start != y.Start || x.Key != y.Key {
			t.Errorf("one flow became two: %+v %+v", x, y)
		}
	})
}

// TestRenamedOut renames an interface into and out of the selection.
func TestRenamedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{}
		l := h.add(1)
		a, stop := running(t, h, sink, func(c *agent.Config) { c.Interfaces = h.selected(agent.Selection{Include: []string{"eth1"}}, "") })
		time.Sleep(time.Second / 2)
		h.send(t, "eth1", 1)
		l.Name = "lan"
		h.events <- link.Event{Kind: link.Changed, Link: l}
		time.Sleep(time.Second)
		if s := a.Status(); len(s.Interfaces) != 0 {
			t.Errorf("renamed away, but %+v", s.Interfaces)
		}
		l.Name = "eth1"
		h.events <- link.Event{Kind: link.Changed, Link: l}
		time.Sleep(time.Second)
		h.send(t, "eth1", 1)
		if err := trouble(t, a, "eth1"); err != nil || h.openings("eth1") != 2 {
			t.Errorf("%v, opened %d times", err, h.openings("eth1"))
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		sink.closes(t, h, a)
	})
}

// TestFlapping has interfaces come and go many times, with packets until the last moment.
func TestFlapping(t *testing.T) {
	for _, pause := range []time.Duration{time.Millisecond, 30 * time.Millisecond, 700 * time.Millisecond} {
		t.Run(pause.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, sink := newHost(), &kept{}
				h.add(1)
				a, stop := running(t, h, sink, nil)
				time.Sleep(time.Second / 2)
				for range 100 {
					l := h.add(2)
					time.Sleep(pause)
					for i := range 5 {
						h.send(t, "eth1", i)
						if h.group("eth2") != nil {
							h.offer(t, "eth2", 0, request(i)) // into the old one, at times
						}
					}
					h.remove(l)
					time.Sleep(pause)
				}
				time.Sleep(time.Second)
				if s := a.Status(); len(s.Interfaces) != 1 || s.Interfaces[0].Name != "eth1" {
					t.Errorf("status %+v", s.Interfaces)
				}
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				sink.closes(t, h, a)
				contiguous(t, sink, "eth1", 10*time.Second)
			})
		})
	}
}

// TestDownAndUp sets an interface down and up: its ring stays, and misses nothing. One
// that is down at first is waited for.
func TestDownAndUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{}
		l := h.add(1)
		a, stop := running(t, h, sink, nil)
		later := link.Link{Index: 2, Name: "eth2", Hardware: 1}
		h.events <- link.Event{Kind: link.Added, Link: later}
		for range 5 {
			time.Sleep(time.Second)
			h.send(t, "eth1", 1)
			l.Up = false
			h.events <- link.Event{Kind: link.Changed, Link: l}
			time.Sleep(time.Second)
			if s := a.Status(); len(s.Interfaces) != 1 || s.Interfaces[0].Err != nil {
				t.Errorf("down, and %+v", s.Interfaces)
			}
			l.Up = true
			h.events <- link.Event{Kind: link.Changed, Link: l}
			h.send(t, "eth1", 2) // at once
		}
		later.Up = true
		h.events <- link.Event{Kind: link.Changed, Link: later}
		time.Sleep(time.Second)
		h.send(t, "eth2", 1)
		if h.openings("eth1") != 1 || h.openings("eth2") != 1 {
			t.Errorf("opened %d and %d times", h.openings("eth1"), h.openings("eth2"))
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		sink.closes(t, h, a)
	})
}

// TestWatchFails has the watch end and begin again: what became of interfaces meanwhile
// is learned.
func TestWatchFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink, log := newHost(), &kept{}, &logged{}
		var events []chan link.Event // one for each watch
		for range 4 {
			events = append(events, make(chan link.Event, 10))
		}
		n := 0
		watch := func(ctx context.Context, fn func(link.Event)) error {
			mine := events[min(n, len(events)-1)]
			n++
			for {
				select {
				case e, ok := <-mine:
					if !ok {
						return errors.New("no memory")
					}
					fn(e)
				case <-ctx.Done():
					return nil
				}
			}
		}
		eth := func(i int) link.Link {
			return link.Link{Index: i, Name: fmt.Sprintf("eth%d", i), Hardware: 1, Up: true}
		}
		for i := range 3 {
			events[0] <- link.Event{Kind: link.Added, Link: eth(i + 1)}
		}
		a, stop := running(t, h, sink, func(c *agent.Config) { log.set(c); c.Watch = watch })
		time.Sleep(time.Second)
		close(events[0])
		close(events[1]) // it fails again, before it has told anything
		close(events[2])
		h.refuse("eth1", link.ErrNotFound)
		h.group("eth1")[0].LinkGone()
		time.Sleep(time.Second)
		if err := trouble(t, a, "eth1"); err != link.ErrNotFound { // nobody has said that it is gone
			t.Errorf("status says %v", err)
		}
		h.send(t, "eth2", 1)
		h.send(t, "eth3", 1)
		for _, i := range []int{2, 3, 4} {
			events[3] <- link.Event{Kind: link.Added, Link: eth(i)}
		}
		time.Sleep(10 * time.Second)
		h.send(t, "eth2", 1)
		h.send(t, "eth4", 1)
		if s := a.Status(); len(s.Interfaces) != 3 || s.Interfaces[0].Name != "eth2" || h.openings("eth2") != 1 || h.openings("eth3") != 1 {
			t.Errorf("status %+v", s.Interfaces)
		}
		if log.count("interfaces cannot be watched", "no memory") != 3 {
			t.Error("not said")
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		sink.closes(t, h, a)
	})
}

// TestMissing holds that an interface that is waited for is said once, and captured on
// when it comes.
func TestMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink, log := newHost(), &kept{}, &logged{}
		a, stop := running(t, h, sink, func(c *agent.Config) {
			log.set(c)
			c.Interfaces = h.selected(agent.Selection{Include: []string{"eth7", "eth8"}}, "")
		})
		h.add(1)
		time.Sleep(time.Minute)
		h.add(7)
		time.Sleep(time.Second)
		h.send(t, "eth7", 1)
		if s := a.Status(); len(s.Interfaces) != 1 {
			t.Errorf("status %+v", s.Interfaces)
		}
		if log.count("waiting for it", "[eth7 eth8]") != 1 || log.count("waiting for it", "[eth8]") != 1 || log.count("waiting for it") != 2 {
			t.Errorf("said %v", log.lines)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		sink.closes(t, h, a)
	})
}

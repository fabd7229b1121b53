package agent_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/agent"
	"weir/capture/link"
	"weir/capture/mock"
	"weir/flows"
)

func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{}
		for i := range 3 {
			h.add(i + 1)
		}
		a, stop := running(t, h, sink, func(c *agent.Config) { c.Interfaces = h.selected(agent.Selection{}, "a") })
		second := func(names ...string) {
			t.Helper()
			time.Sleep(time.Second)
			for _, name := range names {
				h.send(t, name, 1)
			}
		}
		opened := func(when string, want ...int) {
			t.Helper()
			time.Sleep(time.Second / 2)
			for i, n := range want {
				if got := h.openings(fmt.Sprintf("eth%d", i+1)); got != n {
					t.Errorf("%s: eth%d was opened %d times, not %d", when, i+1, got, n)
				}
			}
		}
		second("eth1", "eth2", "eth3")
		for range 5 {
			a.Reload(h.selected(agent.Selection{}, "a"))
			second("eth1", "eth2", "eth3")
		}
		opened("nothing has changed", 1, 1, 1)

		a.Reload(h.selected(agent.Selection{}, "b"))
		opened("other settings", 2, 2, 2)
		second("eth1", "eth2", "eth3")

		a.Reload(h.selected(agent.Selection{Exclude: []string{"eth3"}}, "b"))
		opened("fewer", 2, 2, 2)
		if s := a.Status(); len(s.Interfaces) != 2 {
			t.Errorf("status %+v", s.Interfaces)
		}
		second("eth1", "eth2")
		time.Sleep(20 * time.Second)
		// The records of what is not captured on any more have come with their interval.
		all := sink.on("eth3")
		last := all[len(all)-1]
		if len(last.Records) != 1 || last.Records[0].EndReason != flows.EndForced || last.End != last.Start+int64(10*time.Second) {
			t.Errorf("the last of eth3: %+v", last)
		}

		// Out and in again before the rings have ended.
		a.Reload(h.selected(agent.Selection{Exclude: []string{"eth2"}}, "b"))
		time.Sleep(10 * time.Millisecond)
		if v := h.offer(t, "eth2", 0, request(1)); v != mock.Filtered {
			t.Errorf("packet into a ring that ends: %d", v)
		}
		a.Reload(h.selected(agent.Selection{}, "b"))
		opened("out and in", 2, 3, 3)
		second("eth1", "eth2", "eth3")

		// Settings that change to and fro.
		a.Reload(h.selected(agent.Selection{}, "c"))
		a.Reload(h.selected(agent.Selection{}, "b"))
		opened("to and fro at once", 2, 3, 3)
		for _, settings := range []string{"c", "d", "b"} {
			a.Reload(h.selected(agent.Selection{}, settings))
			time.Sleep(10 * time.Millisecond)
		}
		opened("to and fro", 3, 4, 4)
		second("eth1", "eth2", "eth3")
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		sink.closes(t, h, a)
	})
}

// TestReloadInTrouble reloads while an interface cannot be opened, while one waits to be
// opened again, and while one is on its way out.
func TestReloadInTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink, log := newHost(), &kept{}, &logged{}
		h.refuse("eth1", errBusy)
		h.add(1)
		l := h.add(2)
		a, stop := running(t, h, sink, log.set)
		time.Sleep(20 * time.Second)
		tried := len(h.tries("eth1"))
		a.Reload(h.interfaces())
		time.Sleep(100 * time.Millisecond)
		if n := len(h.tries("eth1")); n != tried+1 {
			t.Errorf("a reload tries %d times", n-tried)
		}
		if err := trouble(t, a, "eth1"); err != errBusy {
			t.Errorf("status says %v", err)
		}

		h.group("eth2")[0].breaks()
		time.Sleep(100 * time.Millisecond)
		a.Reload(h.interfaces())
		time.Sleep(100 * time.Millisecond)
		if err := trouble(t, a, "eth2"); err != nil || h.openings("eth2") != 2 {
			t.Errorf("%v, opened %d times", err, h.openings("eth2"))
		}

		a.Reload(h.selected(agent.Selection{Exclude: []string{"eth1"}}, ""))
		h.remove(l)
		time.Sleep(time.Second)
		if s := a.Status(); len(s.Interfaces) != 0 {
			t.Errorf("status %+v", s.Interfaces)
		}
		tried = len(h.tries("eth1"))
		time.Sleep(time.Minute)
		if n := len(h.tries("eth1")); n != tried {
			t.Errorf("tried %d times what is excluded", n-tried)
		}
		h.refuse("eth1", nil)
		h.events <- link.Event{Kind: link.Added, Link: l}
		a.Reload(h.interfaces())
		time.Sleep(100 * time.Millisecond)
		h.send(t, "eth1", 1)
		h.send(t, "eth2", 1)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		sink.closes(t, h, a)
	})
}

// TestReloadWhileItEnds calls all that may be called from any goroutine, until after the end.
func TestReloadWhileItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{}
		for i := range 3 {
			h.add(i + 1)
		}
		a, stop := running(t, h, sink, nil)
		time.Sleep(time.Second / 2)
		var all sync.WaitGroup
		var seen seconds
		for i := range 4 {
			all.Go(func() {
				for n := range 3000 {
					switch i {
					case 0:
						a.Reload(h.selected(agent.Selection{}, fmt.Sprint(n/50)))
					case 1:
						a.Status()
						a.Alive()
					case 2:
						if n%100 == 0 {
							look(t, a, &seen)()
						}
					case 3:
						h.offer(t, fmt.Sprintf("eth%d", n%3+1), 0, request(n%50))
					}
					time.Sleep(5 * time.Millisecond)
				}
			})
		}
		time.Sleep(13 * time.Second)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		all.Wait()
		sink.closes(t, h, a)
	})
}

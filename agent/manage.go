package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"weir/capture"
	"weir/capture/link"
	"weir/flows"
)

// trouble is an interface that should be captured on and cannot be.
type trouble struct {
	name  string
	err   error
	since time.Time
	again time.Time // when to try
	pause time.Duration
}

const (
	// settle is how long to wait for more news of interfaces before anything is done:
	// a bridge may come after its members.
	settle = 5 * time.Millisecond

	firstPause = 500 * time.Millisecond
	maxPause   = 30 * time.Second
)

// manage opens and ends ports as interfaces come and go, until ctx is done; then it
// ends all of them and returns when they have.
func (a *Agent) manage(ctx context.Context) error {
	events := make(chan link.Event)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		a.watch(ctx, events)
	}()
	defer func() { <-watching }()
	act := time.NewTimer(time.Hour)
	var opened sync.Once
	defer act.Stop()
	for {
		select {
		case e := <-events:
			a.learn(e)
			act.Reset(settle)
		case <-a.reload:
			act.Reset(0)
		case p := <-a.failed:
			a.leave(p)
			act.Reset(0)
		case <-act.C:
			a.forgetStale()
			act.Reset(a.adjust())
			if a.told { // there is always lo
				opened.Do(func() { close(a.opened) })
			}
		case <-ctx.Done():
			a.endAll()
			return nil
		}
	}
}

// watch hands on what becomes of interfaces. Where the kernel cannot be asked it says
// so and tries again: what is being captured goes on.
func (a *Agent) watch(ctx context.Context, events chan<- link.Event) {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		err := a.cfg.Watch(ctx, func(e link.Event) {
			select {
			case events <- e:
			case <-ctx.Done():
			}
		})
		if ctx.Err() != nil {
			return
		}
		a.cfg.Log.Error("interfaces cannot be watched; trying again", "error", err, "in", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		select {
		case events <- link.Event{Kind: watchesAnew}:
		case <-ctx.Done():
			return
		}
	}
}

// watchesAnew is the kind of an event that says that all interfaces there are will be
// told of again: those that are not are gone.
const watchesAnew link.EventKind = 0

// forgetStale lets go of the interfaces that a watch which began anew has not told of.
func (a *Agent) forgetStale() {
	if !a.told {
		return // it has failed once more, or has not come to it
	}
	for _, l := range a.stale {
		a.learn(link.Event{Kind: link.Removed, Link: l})
	}
}

func (a *Agent) learn(e link.Event) {
	if e.Kind == watchesAnew {
		a.stale, a.told = maps.Clone(a.known), false
		return
	}
	a.told = true
	delete(a.stale, e.Link.Index)
	if e.Kind == link.Removed {
		delete(a.known, e.Link.Index)
		a.mu.Lock()
		delete(a.troubles, e.Link.Index)
		a.mu.Unlock()
		return
	}
	before, had := a.known[e.Link.Index]
	a.known[e.Link.Index] = e.Link
	a.mu.Lock()
	if t := a.troubles[e.Link.Index]; t != nil {
		t.again = time.Time{} // it may be possible now
	}
	p := a.ports[e.Link.Index]
	a.mu.Unlock()
	if p != nil && had && before.Name != e.Link.Name {
		p.name.Store(&e.Link.Name)
		a.cfg.Log.Info("interface was renamed", "from", before.Name, "to", e.Link.Name)
	}
}

// Reload has the agent capture on other interfaces, or in another way. Packets of
// interfaces whose settings stay the same do not notice.
func (a *Agent) Reload(i Interfaces) {
	a.mu.Lock()
	a.interfaces = i
	clear(a.troubles)
	a.mu.Unlock()
	select {
	case a.reload <- struct{}{}:
	default:
	}
}

// adjust opens what should be captured on and ends what should not. It returns when
// to do so again.
func (a *Agent) adjust() time.Duration {
	a.mu.Lock()
	how := a.interfaces
	a.mu.Unlock()
	var links []link.Link
	a.mu.Lock()
	for _, i := range slices.Sorted(maps.Keys(a.known)) {
		l := a.known[i]
		// A ring outlives its interface's being down, and would miss the first packets
		// after that if it were opened again.
		l.Up = l.Up || a.ports[i] != nil
		links = append(links, l)
	}
	a.mu.Unlock()
	if missing := how.Missing(links); !slices.Equal(missing, a.missing) {
		a.missing = missing
		if len(missing) > 0 {
			a.cfg.Log.Warn("no interface of that name yet; waiting for it", "interfaces", missing)
		}
	}
	wanted := map[int]link.Link{}
	for _, l := range how.Select(links) {
		wanted[l.Index] = l
	}
	a.mu.Lock()
	ports := maps.Clone(a.ports)
	for i := range a.troubles {
		if _, ok := wanted[i]; !ok {
			delete(a.troubles, i)
		}
	}
	a.mu.Unlock()
	var ending, opened []*port
	for i, p := range ports {
		l, ok := wanted[i]
		if (!ok || how.Settings(l) != p.settings) && !p.ending {
			if _, there := a.known[i]; there {
				ending = append(ending, p)
			} // else its rings find out, and read all there was before
		}
	}
	a.countTo(ending)
	for _, p := range ending {
		p.end()
	}
	next := time.Hour
	for _, l := range links {
		if _, ok := wanted[l.Index]; !ok || ports[l.Index] != nil {
			continue
		}
		p, wait := a.open(how, l)
		if p != nil {
			opened = append(opened, p)
		}
		next = min(next, wait)
	}
	a.countFrom(opened)
	return next
}

// open begins to capture on an interface. It returns the port, nil if it cannot be
// opened, and when to try again.
func (a *Agent) open(how Interfaces, l link.Link) (*port, time.Duration) {
	a.mu.Lock()
	t := a.troubles[l.Index]
	a.mu.Unlock()
	if t != nil {
		if wait := time.Until(t.again); wait > 0 {
			return nil, wait
		}
	}
	sources, err := how.Open(l)
	if err != nil {
		return nil, a.trouble(l, t, err)
	}
	p := &port{since: time.Now(), before: t, link: l, sources: sources, tracker: flows.NewTracker(a.cfg.Tracker),
		tables: make(chan *flows.Table, 2*len(sources)+2), settings: how.Settings(l)}
	p.name.Store(&l.Name)
	p.ledger.Store(new(flows.Ledger))
	for _, src := range sources {
		p.rings = append(p.rings, newRing(src, flows.NewMeter(a.decoder, flows.NewTable(a.cfg.MaxFlows)), &a.stalls))
	}
	rings := slices.Clone(p.rings) // the rotator takes those away that end
	p.end = func() {
		p.ending = true
		for _, r := range rings {
			r.end()
		}
	}
	a.mu.Lock()
	a.ports[l.Index] = p
	delete(a.troubles, l.Index)
	a.mu.Unlock()
	a.running.Add(len(rings))
	for _, r := range rings {
		go func() {
			defer a.running.Done()
			r.run()
			p.fail(r.err)
			select {
			case a.failed <- p:
			case <-a.ending:
			}
		}()
	}
	a.cfg.Log.Info("capturing", "interface", l.Name, "rings", len(rings))
	return p, time.Hour
}

// trouble notes why an interface cannot be captured on; it says so when the reason is
// a new one.
func (a *Agent) trouble(l link.Link, t *trouble, err error) time.Duration {
	now := time.Now()
	pause := firstPause
	if t != nil {
		pause = min(2*t.pause, maxPause)
	}
	anew := t == nil || t.err == nil || t.err.Error() != err.Error()
	next := &trouble{name: l.Name, err: err, pause: pause, again: now.Add(pause), since: now}
	if !anew {
		next.since = t.since
	}
	a.mu.Lock()
	a.troubles[l.Index] = next
	a.mu.Unlock()
	if anew {
		a.cfg.Log.Warn("cannot capture; trying again", "interface", l.Name, "error", err)
	}
	return pause
}

// leave takes a port out of those that capture, after one of its rings has ended: its
// last interval is still to come, and it may be opened again meanwhile.
func (a *Agent) leave(p *port) {
	if p.left {
		return
	}
	p.left = true
	a.mu.Lock()
	if a.ports[p.link.Index] == p { // else the rotator has let go of it already
		delete(a.ports, p.link.Index)
		a.leaving = append(a.leaving, p)
	}
	again := a.ports[p.link.Index] != nil
	a.mu.Unlock()
	name, err := *p.name.Load(), p.failure()
	switch {
	case errors.Is(err, capture.ErrLinkGone):
		p.countNoMore()
	case p.nicEnd.Load() == nil:
		a.countTo([]*port{p})
	}
	p.end() // the others of a fanout group
	switch {
	case err == nil:
		a.cfg.Log.Info("no longer capturing", "interface", name)
	case errors.Is(err, capture.ErrLinkGone):
		a.cfg.Log.Info("interface is gone", "interface", name)
	case again:
		a.cfg.Log.Warn("capture ended, and goes on", "interface", name, "error", err)
	default:
		l, t := p.link, p.before
		l.Name = name
		if time.Since(p.since) >= maxPause {
			t = nil // it held for a while
		}
		a.trouble(l, t, fmt.Errorf("capture ended: %w", err))
	}
}

// endAll ends all ports and waits until their rings have ended.
func (a *Agent) endAll() {
	close(a.ending)
	a.mu.Lock()
	ports := slices.Concat(a.leaving, slices.Collect(maps.Values(a.ports)))
	a.mu.Unlock()
	a.countTo(ports)
	for _, p := range ports {
		p.end()
	}
	a.running.Wait()
}

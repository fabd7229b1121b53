package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"weir/flows"
)

// Second is what one interface has counted within a second or so. It is borrowed
// until the function that is called with it returns.
type Second struct {
	Interface string
	Table     *flows.Table
}

// watchers are those who look at the tables of each second. While there are none it
// costs nothing, and when there are it costs the packets nothing either: tables are
// exchanged more often, and looked at off the packet path.
type watchers struct {
	mu   sync.Mutex
	all  []*watcher
	wake chan struct{} // tells the rotator that there is one
}

type watcher struct {
	show  func(Second)
	shown func(took time.Duration)
}

// Look calls show with what each interface has counted, about once a second, and
// shown after the last of them with how long that took to come together, until ctx is
// done. Both are called from a goroutine of the agent's, which they hold up: not the
// packets, but everybody else.
func (a *Agent) Look(ctx context.Context, show func(Second), shown func(took time.Duration)) {
	w := &a.watchers
	me := &watcher{show, shown}
	w.mu.Lock()
	w.all = append(w.all, me)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	<-ctx.Done()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = slices.DeleteFunc(w.all, func(o *watcher) bool { return o == me })
}

func (w *watchers) any() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.all) > 0
}

// next returns when tables are to be exchanged: at the end of the interval, or a second
// after the last time if somebody looks.
func (w *watchers) next(last, end time.Time) time.Time {
	if second := last.Add(time.Second); w.any() && second.Before(end) {
		return second
	}
	return end
}

func (w *watchers) show(p *port, t *flows.Table) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.all {
		o.show(Second{Interface: *p.name.Load(), Table: t})
	}
}

func (w *watchers) shown(took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.all {
		o.shown(took)
	}
}

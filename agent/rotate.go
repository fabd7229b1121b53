package agent

import (
	"context"
	"maps"
	"slices"
	"time"

	"weir/flows"
)

// span is one interval of all interfaces on its way to the tracker.
type span struct {
	start, end int64 // nanoseconds since the Unix epoch
	tables     []counted
}

// counted is what one interface has counted in an interval.
type counted struct {
	port *port
	filled
	final bool // nothing comes after
}

// rotate cuts intervals at the multiples of their length, by the host's clock, until
// all interfaces have ended. While somebody watches it looks at what was counted each
// second, and adds the seconds up.
func (a *Agent) rotate(ctx context.Context) error {
	start := floor(time.Now(), a.cfg.Interval)
	end := start.Add(a.cfg.Interval)
	second := time.Now()
	a.turned.Store(second.UnixNano())
	for {
		wait := time.NewTimer(time.Until(a.watchers.next(second, end)))
		final := false
		select {
		case <-wait.C:
		case <-a.watchers.changed():
		case <-a.drained:
			final = true
		case <-ctx.Done():
			wait.Stop()
			return context.Cause(ctx)
		}
		wait.Stop()
		now := time.Now()
		a.turned.Store(now.UnixNano())
		due := final || !now.Before(end)
		if due && !final {
			select {
			case <-a.idle:
				a.behind.Store(false)
			default:
				// The tracker waits for the sink: this interval becomes a longer one.
				a.behind.Store(true)
				due, end = false, floor(now, a.cfg.Interval).Add(a.cfg.Interval)
			}
		}
		watched := a.watchers.any()
		if due || watched {
			a.collect(watched, now.Sub(second))
			second = now
		}
		if !due {
			continue
		}
		if final {
			select {
			case <-a.idle:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			end = now
		} else if off := now.Sub(end); off > a.cfg.Interval || now.Before(start) {
			// The clock was set. What was counted belongs to the time before.
			end = floor(now, a.cfg.Interval)
			a.cfg.Log.Warn("the clock was set", "interval", start.UTC(), "now", now.UTC())
		}
		if !end.After(start) {
			start = end.Add(-a.cfg.Interval)
		}
		a.spans <- a.span(start, end, final) // has room: the tracker was idle
		if final {
			return nil
		}
		start, end = end, floor(now, a.cfg.Interval).Add(a.cfg.Interval)
	}
}

// floor returns the latest multiple of d since the Unix epoch that is not after t,
// without the monotonic clock: intervals follow the clock that people see.
func floor(t time.Time, d time.Duration) time.Time {
	n := t.UnixNano()
	return time.Unix(0, n-n%int64(d))
}

// collect takes the tables of all rings and adds them to the part of the interval that
// is there. Rings are asked all at once, so that they are cut within microseconds.
func (a *Agent) collect(watched bool, took time.Duration) {
	began := time.Now()
	ports := a.all()
	for _, p := range ports {
		for _, r := range p.rings {
			r.ask(p.table(a.cfg.MaxFlows))
		}
	}
	for _, p := range ports {
		kept := p.rings[:0]
		var sum filled
		for _, r := range p.rings {
			f, spare, ended := r.answer()
			if ended {
				p.recycle(spare)
			} else {
				kept = append(kept, r)
			}
			p.add(&sum, f)
		}
		clear(p.rings[len(kept):])
		p.rings = kept
		if sum.table == nil {
			continue
		}
		if watched {
			a.watchers.show(p, sum.table)
		}
		p.add(&p.part, sum)
	}
	if watched {
		a.watchers.shown(took)
	}
	a.cuts.observe(time.Since(began))
}

// add adds a table to a sum, which takes it over if it is the first.
func (p *port) add(sum *filled, f filled) {
	if sum.table == nil {
		*sum = f
		return
	}
	sum.ledger.Add(&f.ledger)
	sum.ledger.Overflow += sum.table.Merge(f.table)
	p.recycle(f.table)
}

// span makes an interval of what was collected.
func (a *Agent) span(start, end time.Time, final bool) *span {
	s := &span{start: start.UnixNano(), end: end.UnixNano()}
	for _, p := range a.all() {
		if p.part.table == nil {
			continue
		}
		c := counted{port: p, filled: p.part, final: final || len(p.rings) == 0}
		p.part = filled{}
		stats := p.Stats()
		c.ledger.Drops = since(stats.Drops, p.stats.Drops)
		c.ledger.Freezes = since(stats.Freezes, p.stats.Freezes)
		if c.final {
			// What was on its way when the ring was closed is lost, too.
			c.ledger.Drops += stats.Received - min(stats.Received, stats.Drops+stats.Packets)
		}
		p.stats = stats
		p.size.Store(int64(c.table.Len()))
		total := *p.ledger.Load()
		total.Add(&c.ledger)
		p.ledger.Store(&total)
		if c.final {
			a.forget(p)
		}
		s.tables = append(s.tables, c)
	}
	return s
}

func since(now, before uint64) uint64 { return now - min(now, before) }

// all returns the ports that have something to tell: first those that are leaving, then
// the others in the order of their indexes.
func (a *Agent) all() []*port {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := slices.Clone(a.leaving)
	for _, i := range slices.Sorted(maps.Keys(a.ports)) {
		all = append(all, a.ports[i])
	}
	return all
}

// forget lets go of a port that has told all.
func (a *Agent) forget(p *port) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leaving = slices.DeleteFunc(a.leaving, func(q *port) bool { return p == q })
	if a.ports[p.link.Index] == p {
		delete(a.ports, p.link.Index)
	}
	total := p.totals()
	a.gone.Add(&total)
}

// track makes records of intervals.
func (a *Agent) track(ctx context.Context) error {
	for s := range a.spans {
		began := time.Now()
		for _, c := range s.tables {
			head := flows.Batch{Host: a.cfg.Host, Interface: *c.port.name.Load(), Start: s.start, End: s.end}
			ledger := c.ledger
			err := a.export.Interval(ctx, a.out, head, &ledger, func(emit func(*flows.Record)) {
				c.port.tracker.Flush(c.table, s.end, c.final, func(r *flows.Record) {
					if a.cfg.Exclude != nil && a.cfg.Exclude(r) {
						ledger.Exclude(r)
						return
					}
					emit(r)
				})
			})
			a.exported.Add(ledger.Records)
			c.port.records.Add(ledger.Records)
			if c.final { // and forgotten
				a.mu.Lock()
				a.gone.Records += ledger.Records
				a.mu.Unlock()
			}
			a.begun.Add(c.port.tracker.Started() - c.port.begun)
			c.port.begun = c.port.tracker.Started()
			if err != nil {
				return err
			}
			c.port.recycle(c.table)
		}
		if err := a.export.Flush(ctx, a.out); err != nil {
			return err
		}
		a.flushes.observe(time.Since(began))
		a.idle <- struct{}{}
	}
	return nil
}

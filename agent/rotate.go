package agent

import (
	"context"
	"maps"
	"slices"
	"time"

	"weir/capture/link"
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
	second := time.Now()
	intervals := newIntervals(second, a.cfg.Interval)
	a.turn()
	for {
		wait := time.NewTimer(time.Until(a.watchers.next(second, intervals.wake(time.Now()))))
		final := false
		select {
		case <-wait.C:
		case <-a.watchers.wake:
		case <-a.drained:
			final = true
		case <-ctx.Done():
			wait.Stop()
			return a.abandon(ctx, &intervals)
		}
		wait.Stop()
		now := time.Now()
		a.turn()
		due := final || intervals.due(now)
		if due && !final {
			select {
			case <-a.idle:
				a.behind.Store(false)
			default:
				// The tracker waits for the sink: this interval becomes a longer one.
				a.behind.Store(true)
				due = false
				intervals.postpone(now)
			}
		}
		watched := a.watchers.any()
		var counters map[int]link.Counters
		if due && !final {
			counters = a.counters()
		}
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
				a.behind.Store(false)
			case <-ctx.Done():
				return a.abandon(ctx, &intervals)
			}
			start, end := intervals.last(now)
			a.spans <- a.span(start, end, true, nil) // has room: the tracker was idle
			return nil
		}
		start, end, set := intervals.cut(now)
		if set {
			a.cfg.Log.Warn("the clock was set", "interval", start.UTC(), "now", now.UTC())
		}
		a.spans <- a.span(start, end, false, counters)
	}
}

// abandon counts what nobody takes any more.
func (a *Agent) abandon(ctx context.Context, i *intervals) error {
	<-a.drained
	a.collect(false, 0)
	start, end := i.last(time.Now())
	a.span(start, end, true, nil)
	return context.Cause(ctx)
}

// intervals tells when intervals begin and end: at the multiples of their length, by a
// clock that may be set. They follow each other without gaps, and none is empty or runs
// backwards; only where the clock was set back by more than an interval do they come
// again, or there would be none until it is where it was.
type intervals struct {
	length     time.Duration
	start, end time.Time // of the one that is being counted
}

func newIntervals(now time.Time, length time.Duration) intervals {
	start := floor(now, length)
	return intervals{length, start, start.Add(length)}
}

// wake returns when to ask whether the interval is due.
func (i *intervals) wake(now time.Time) time.Time {
	if now.Before(i.start) {
		i.end = i.start.Add(i.length) // the clock was set back
		return now.Add(i.length)      // and perhaps by much
	}
	if end := floor(now, i.length).Add(i.length); end.Before(i.end) {
		i.end = end // likewise, after the interval was postponed
	}
	return i.end
}

func (i *intervals) due(now time.Time) bool { return !now.Before(i.end) || i.setBack(now) }

func (i *intervals) setBack(now time.Time) bool { return now.Before(i.start.Add(-i.length)) }

// postpone has the interval, which is due, end at a later multiple.
func (i *intervals) postpone(now time.Time) {
	if !now.Before(i.end) {
		i.end = floor(now, i.length).Add(i.length)
	}
}

// cut returns the interval, which is due, and begins the next one. set says that the
// clock was set: what was counted belongs to the time before.
func (i *intervals) cut(now time.Time) (start, end time.Time, set bool) {
	start, end = i.start, i.end
	switch {
	case i.setBack(now):
		i.start, set = floor(now, i.length), true
	case now.Sub(end) > i.length:
		end, set = floor(now, i.length), true
		i.start = end
	default:
		i.start = end
	}
	i.end = floor(now, i.length).Add(i.length)
	return start, end, set
}

// last returns the interval that ends now.
func (i *intervals) last(now time.Time) (start, end time.Time) {
	if now.After(i.start) {
		return i.start, now
	}
	return i.start, i.end // the clock was set back
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
	var spares []*flows.Table
	for _, p := range ports {
		for range p.rings {
			spares = append(spares, p.table(a.cfg.MaxFlows))
		}
	}
	i := 0
	for _, p := range ports {
		for _, r := range p.rings {
			r.ask(spares[i])
			i++
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
		if p.rings = kept; len(kept) == 0 {
			p.free() // while it waits for a sink that is away
		}
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

// span makes an interval of what was collected, and of what the interfaces have counted
// themselves.
func (a *Agent) span(start, end time.Time, final bool, counters map[int]link.Counters) *span {
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
		c.ledger.NIC = p.countUpTo(counters)
		if c.final {
			// What was on its way when the ring was closed is lost, too.
			c.ledger.Drops += stats.Received - min(stats.Received, stats.Drops+stats.Packets)
		}
		p.stats = stats
		a.complain(p, &c)
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

// quietFor is how long nothing more is said of what an interface loses.
const quietFor = time.Minute

// complain says what was lost on an interface, at most once a minute.
func (a *Agent) complain(p *port, c *counted) {
	p.lost.Drops += c.ledger.Drops
	p.lost.Overflow += c.ledger.Overflow
	if now := time.Now(); p.lost != (flows.Ledger{}) && (c.final || now.Sub(p.said) >= quietFor) {
		name := *p.name.Load()
		if n := p.lost.Drops; n > 0 {
			a.cfg.Log.Warn("packets were dropped by the kernel: the ring was full; a larger capture.buffer or more capture.rings may help", "interface", name, "packets", n)
		}
		if n := p.lost.Overflow; n > 0 {
			a.cfg.Log.Warn("packets lost their detail: the table was full; flows.max is its bound", "interface", name, "packets", n)
		}
		p.said, p.lost = now, flows.Ledger{}
	}
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
			c.port.excluded.Add(c.ledger.Metered - ledger.Metered)
			c.port.excludedOctets.Add(c.ledger.Octets - ledger.Octets)
			if c.final { // and forgotten
				a.mu.Lock()
				a.gone.Records += ledger.Records
				a.gone.Metered -= c.ledger.Metered - ledger.Metered
				a.gone.Octets -= c.ledger.Octets - ledger.Octets
				a.gone.Causes[flows.Excluded] += ledger.Causes[flows.Excluded]
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

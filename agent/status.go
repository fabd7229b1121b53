package agent

import (
	"cmp"
	"slices"
	"time"

	"weir/capture"
	"weir/flows"
)

// Status is how an agent is.
type Status struct {
	Since      time.Time
	Interfaces []InterfaceStatus // in the order of their names
	Total      flows.Ledger      // of all interfaces, up to the last interval; those that are gone included
	Flows      uint64            // begun so far
	Exported   uint64            // records handed to the sink
	Behind     bool              // the sink takes longer than an interval

	Rotations Histogram // how long packets of a ring had to wait for one
	Cuts      Histogram // taking the tables of all rings
	Flushes   Histogram // making records of an interval and handing them to the sink
}

// InterfaceStatus is how one interface is.
type InterfaceStatus struct {
	Name  string
	Index int
	Rings int
	Err   error // why it is not being captured on; nil if it is
	Since time.Time
	// Stats are now, Ledger is up to the last interval.
	Stats  capture.Stats
	Ledger flows.Ledger
	Flows  int // in the last interval
	Most   int // that there is room for
}

// Alive reports whether the agent turns its tables over: false says that it hangs, or
// that Run has not begun or is over.
func (a *Agent) Alive() bool {
	last := time.Duration(a.turned.Load())
	return last != 0 && time.Since(a.began)-last < 3*a.cfg.Interval+time.Minute
}

// turn notes that the rotator is at work, by a clock that nobody sets.
func (a *Agent) turn() { a.turned.Store(max(int64(time.Since(a.began)), 1)) }

// Status returns how the agent is.
func (a *Agent) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := Status{Since: a.began, Flows: a.begun.Load(), Exported: a.exported.Load(), Behind: a.behind.Load(),
		Rotations: a.stalls.snapshot(), Cuts: a.cuts.snapshot(), Flushes: a.flushes.snapshot(), Total: a.gone}
	for _, p := range a.ports {
		i := InterfaceStatus{Name: *p.name.Load(), Index: p.link.Index, Rings: len(p.sources), Since: p.since, Stats: p.Stats(),
			Ledger: p.totals(), Flows: int(p.size.Load()), Most: a.cfg.MaxFlows}
		s.Total.Add(&i.Ledger)
		s.Interfaces = append(s.Interfaces, i)
	}
	for _, p := range a.leaving {
		total := p.totals()
		s.Total.Add(&total)
	}
	for index, t := range a.troubles {
		s.Interfaces = append(s.Interfaces, InterfaceStatus{Name: t.name, Index: index, Err: t.err, Since: t.since})
	}
	slices.SortFunc(s.Interfaces, func(x, y InterfaceStatus) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.Index, y.Index))
	})
	return s
}

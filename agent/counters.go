package agent

import (
	"time"

	"weir/capture"
	"weir/capture/link"
	"weir/flows"
)

// What an interface counts itself stands in the ledger beside what was metered: whoever
// compares them learns of packets that the ring never saw. The packets pay nothing, as
// the counters are read once an interval, of all interfaces together.
//
// They are read just before the rings are asked for their tables. A ring hands packets
// over some milliseconds late, in whole blocks, so that its cut is the earlier one all
// the same: a packet about to be handed over counts in this interval for the interface
// and in the next one for the meter. At the two ends nothing is to be seen as missing
// that is not: an interface's counters count from just after its rings were opened to
// just before they refuse packets.

// counters returns the counters of all interfaces, nil if they cannot be read; then it
// says so, at most once a minute.
func (a *Agent) counters() map[int]link.Counters {
	if a.cfg.Counters == nil {
		return nil
	}
	all, err := a.cfg.Counters()
	if err == nil {
		return all
	}
	now := time.Now()
	a.mu.Lock()
	quiet := !a.uncounted.IsZero() && now.Sub(a.uncounted) < quietFor
	if !quiet {
		a.uncounted = now
	}
	a.mu.Unlock()
	if !quiet {
		a.cfg.Log.Warn("the interfaces' own counters cannot be read: they are missing from the ledger", "error", err)
	}
	return nil
}

// countFrom notes where the counters of ports begin that were just opened.
func (a *Agent) countFrom(ports []*port) {
	if len(ports) == 0 {
		return
	}
	all := a.counters()
	for _, p := range ports {
		if c, ok := all[p.link.Index]; ok {
			p.nic.CompareAndSwap(nil, &c) // else the rotator was here first
		}
	}
}

// countTo notes where the counters of ports end that are about to be closed.
func (a *Agent) countTo(ports []*port) {
	if len(ports) == 0 {
		return
	}
	all := a.counters()
	for _, p := range ports {
		if c, ok := all[p.link.Index]; ok {
			p.nicEnd.CompareAndSwap(nil, &c)
		}
	}
}

// countNoMore says of a port whose interface is gone that nobody knows what it has
// counted since the last cut: the counters of that index may be another one's.
func (p *port) countNoMore() { p.nicEnd.Store(new(link.Counters)) }

// countUpTo returns what the interface has counted since the last cut, given all
// counters as they are now: nothing where that is not known.
func (p *port) countUpTo(all map[int]link.Counters) (n flows.NIC) {
	now, ok := all[p.link.Index]
	if end := p.nicEnd.Load(); end != nil {
		now, ok = *end, true
	}
	if !ok {
		p.nic.Store(nil) // or the next interval would have this one's, too
		return n
	}
	before := p.nic.Swap(&now)
	if before == nil || goesBack(before, &now) {
		return n
	}
	n = flows.NIC{
		PacketsIn: now.RxPackets - before.RxPackets, OctetsIn: now.RxBytes - before.RxBytes,
		DropsIn: now.RxDropped - before.RxDropped + now.RxMissed - before.RxMissed,
	}
	if t, _, err := p.link.LinkType(); err != nil || t != capture.LinkLoopback { // see flows.NIC
		n.PacketsOut, n.OctetsOut = now.TxPackets-before.TxPackets, now.TxBytes-before.TxBytes
		n.DropsOut = now.TxDropped - before.TxDropped
	}
	return n
}

// goesBack reports whether a counter is less than it was: a driver has begun anew, or it
// is another interface.
func goesBack(before, now *link.Counters) bool {
	return now.RxPackets < before.RxPackets || now.TxPackets < before.TxPackets || now.RxBytes < before.RxBytes || now.TxBytes < before.TxBytes ||
		now.RxDropped < before.RxDropped || now.TxDropped < before.TxDropped || now.RxMissed < before.RxMissed
}

package main

import (
	"cmp"
	"math"
)

// judge makes lines of rows, which come sorted by host, interface, interval and run. It
// holds one interval, and one more until its successor is known.
type judge struct {
	a       *audit
	hosts   map[string]hostSpan
	missing map[string][]missingFlushes

	interval *auditInterval // rows of it are coming
	before   *auditInterval // the one before, not yet judged
	last     auditRow       // of the ledger
	line     *auditLine     // to which the next interval may be added

	// How far the interface was captured on, in milliseconds since the epoch, and by
	// which run on which boot; 0 if that is not known.
	covered, run int64
	boot         string
	length       int64 // of its last interval, milliseconds
	ahead        int64 // how many packets more the interface had counted, all told, before the interval before
}

func newJudge(a *audit, hosts map[string]hostSpan, missing map[string][]missingFlushes) *judge {
	return &judge{a: a, hosts: hosts, missing: missing}
}

// auditInterval is one interface in one interval.
type auditInterval struct {
	host, iface string
	from, to    int64 // milliseconds since the epoch
	run         int64 // the last one that wrote to it
	ledgers     int   // rows of ledger
	counts      auditCounts
	ahead       int64  // packets that the interface has counted and the capture has not, or less than none
	reasons     uint64 // why records were lost: a bit for each of clickhouse.LostReasons
	gaps        []*auditLine
}

// auditCounts are the sums of a line.
type auditCounts struct {
	packets, metered, notIP, excluded, errors uint64
	drops, overflow                           uint64
	records, lost                             uint64
	nicPackets, nicDropsIn, nicDropsOut       uint64
	rows, rowPackets                          uint64 // in flows
	accounted                                 uint64 // of packets

	// What is wrong, in the unit of the finding.
	unseen, fewer, doubled, copies, differ, open uint64
}

func (c *auditCounts) add(d *auditCounts) {
	for _, s := range []struct{ to, n *uint64 }{
		{&c.packets, &d.packets}, {&c.metered, &d.metered}, {&c.notIP, &d.notIP}, {&c.excluded, &d.excluded}, {&c.errors, &d.errors},
		{&c.drops, &d.drops}, {&c.overflow, &d.overflow}, {&c.records, &d.records}, {&c.lost, &d.lost},
		{&c.nicPackets, &d.nicPackets}, {&c.nicDropsIn, &d.nicDropsIn}, {&c.nicDropsOut, &d.nicDropsOut}, {&c.rows, &d.rows}, {&c.rowPackets, &d.rowPackets},
		{&c.accounted, &d.accounted}, {&c.unseen, &d.unseen}, {&c.fewer, &d.fewer}, {&c.doubled, &d.doubled}, {&c.copies, &d.copies},
		{&c.differ, &d.differ}, {&c.open, &d.open},
	} {
		*s.to += *s.n
	}
}

// row takes a row, which is borrowed.
func (j *judge) row(r *auditRow) {
	if i := j.interval; i == nil || i.host != r.host || i.iface != r.iface || i.from != 1000*r.at {
		j.endInterval()
		if i == nil || i.host != r.host || i.iface != r.iface {
			j.endInterface()
			if i != nil && i.host != r.host {
				j.endHost(i.host)
			}
		}
		j.interval = &auditInterval{host: r.host, iface: r.iface, from: 1000 * r.at, to: 1000 * r.at}
		j.last = auditRow{}
	}
	i := j.interval
	if !r.ledger {
		i.counts.rows += r.rows
		i.counts.rowPackets += r.rowPackets
		return
	}
	i.ledgers++
	if *r == j.last && r.records > 0 { // and two of an idle interface may be the same by chance
		i.counts.copies++
		return
	}
	j.last = *r
	j.cover(i, r)
	c := &i.counts
	c.add(&auditCounts{packets: r.packets, metered: r.metered, notIP: r.notIP, excluded: r.excluded, errors: r.errors, drops: r.drops, overflow: r.overflow,
		records: r.records, lost: min(r.lost, r.records), nicPackets: r.nicPackets, nicDropsIn: r.nicDropsIn, nicDropsOut: r.nicDropsOut})
	if accounted := r.metered + r.notIP + r.excluded + r.errors; accounted != r.packets {
		c.open += max(accounted, r.packets) - min(accounted, r.packets)
	}
	if r.lost > 0 {
		i.reasons |= 1 << min(r.reason, 63)
	}
	if r.nicPackets > 0 {
		i.ahead += clampInt(r.nicPackets) - clampInt(r.packets) - clampInt(r.drops)
	}
	i.run = r.run
	i.to = max(i.to, 1000*r.at+r.milliseconds())
}

// milliseconds is the length of a row's interval, of 139 years at the most: a server may
// say anything.
func (r *auditRow) milliseconds() int64 { return int64(min(r.length, 1<<42)) }

// clampInt keeps what a server says from wrapping around in sums of some of it.
func clampInt(n uint64) int64 { return int64(min(n, math.MaxInt64/8)) }

// cover notes the time in which a row's interface was captured on, and a gap before it.
func (j *judge) cover(i *auditInterval, r *auditRow) {
	from, to := 1000*r.at, 1000*r.at+r.milliseconds()
	if r.run != j.run && r.run > from && r.run < to {
		from = r.run // the agent began within the interval
	}
	const pause = 1000 // the ledger has whole seconds
	if j.covered > 0 && j.run > 0 && r.run > 0 && from-j.covered >= pause {
		i.gaps = append(i.gaps, &auditLine{host: r.host, iface: r.iface, from: j.covered, to: from, found: foundGap, gap: j.why(r, from)})
	}
	j.covered, j.run, j.boot, j.length = max(j.covered, to), r.run, r.boot, to-1000*r.at
}

// why says why there is a gap before a row.
func (j *judge) why(r *auditRow, from int64) string {
	for _, m := range j.missing[r.host] {
		if 1000*m.from < from && 1000*m.to > j.covered-j.length {
			return "batches missing"
		}
	}
	switch {
	case r.run == j.run, from-r.run > 2*r.milliseconds(): // it ran, and not on this interface
		return "interface not captured"
	case r.boot != j.boot && r.boot != "" && j.boot != "":
		return "host rebooted"
	}
	return "agent not running"
}

// endInterval is called when all rows of an interval are there.
func (j *judge) endInterval() {
	i := j.interval
	if i == nil {
		return
	}
	if i.ledgers == 0 {
		// It was captured on, whatever has become of the ledger's row.
		const usual = 10_000 // flags of weir run
		i.to = i.from + cmp.Or(j.length, j.hosts[i.host].length, usual)
		if j.covered > 0 {
			j.covered = max(j.covered, i.to)
		}
		i.run = j.run
	}
	j.settle(i)
	j.endBefore()
	j.before = i
}

// late is how long packets may take from the interface's counter to the meter: until the
// kernel hands their block over, and the rings are asked.
const late = 60 // milliseconds

// settle finds out how many packets the interface has counted in the interval before,
// and the capture has never seen. What is merely late is ahead now and comes later: so
// what counts is by how much the interface is ahead, all told, after that interval and
// after the next one still, more than before both. Next is nil where none follows.
func (j *judge) settle(next *auditInterval) {
	b := j.before
	if b == nil {
		return
	}
	persists, nic := b.ahead+min(j.ahead, 0), b.counts.nicPackets // where the meter was first, the interface catches up
	if next != nil && next.run == b.run {
		persists += min(next.ahead, 0)
		nic = max(nic, next.counts.nicPackets)
		j.ahead = max(j.ahead+b.ahead, min(b.ahead, 0)) // an interface that counts super-packets falls behind for ever
	} else {
		j.ahead = 0
	}
	slack := max(j.a.tolerance, late/float64(max(b.to-b.from, late)))
	if persists > 0 && float64(persists) > slack*float64(nic) {
		b.counts.unseen = uint64(persists)
	}
}

// endBefore judges the interval before this one, which was settled.
func (j *judge) endBefore() {
	i := j.before
	if i == nil {
		return
	}
	j.before = nil
	for _, g := range i.gaps {
		j.line = nil
		j.a.add(g)
	}
	found := i.judge(j.a)
	j.a.sum.interval(i)
	if l := j.line; l != nil && !j.a.all && l.found == found && l.reasons == i.reasons {
		l.to = max(l.to, i.to)
		l.intervals++
		l.counts.add(&i.counts)
		return
	}
	j.line = &auditLine{host: i.host, iface: i.iface, from: i.from, to: i.to, intervals: 1, found: found, reasons: i.reasons, counts: i.counts}
	j.a.add(j.line)
}

// judge returns what is to be said of an interval.
func (i *auditInterval) judge(a *audit) (found auditFinding) {
	c := &i.counts
	set := func(f auditFinding, n uint64) {
		if n > 0 {
			found |= f
		}
	}
	missing := uint64(0) // packets whose records are
	expected := c.records - c.lost
	switch {
	case i.ledgers == 0:
		c.fewer, found = c.rows, found|foundNoLedger
	case c.rows < expected:
		c.fewer = expected - c.rows
		missing = c.metered - min(c.metered, c.rowPackets)
		found |= foundMissing
		set(foundLost, c.lost)
	case c.rows > c.records:
		c.doubled = c.rows - c.records
		found |= foundDoubled
	case c.lost > 0:
		c.lost = c.records - c.rows // some of them may have arrived all the same
		missing = c.metered - min(c.metered, c.rowPackets)
		set(foundLost, c.lost)
	case c.rowPackets != c.metered:
		c.differ = max(c.rowPackets, c.metered) - min(c.rowPackets, c.metered)
		missing = c.metered - min(c.metered, c.rowPackets)
		found |= foundDiffer
	}
	const ofTables = foundNoLedger | foundMissing | foundDoubled | foundDiffer
	set(foundUnseen, c.unseen)
	young := a.now.UnixMilli()-i.to < 2*max(i.to-i.from, 1000)
	switch {
	case young && found&(ofTables|foundUnseen) != 0:
		found, missing, c.unseen = found&^(ofTables|foundUnseen)|foundOnItsWay, 0, 0
	case found&(foundMissing|foundDiffer) != 0 && i.from < a.kept:
		found, missing = found&^(foundMissing|foundDiffer)|foundAgedOut, 0
	}
	set(foundDropped, c.drops)
	set(foundCopies, c.copies)
	set(foundOpen, c.open)
	set(foundOverflow, c.overflow)
	c.accounted = c.packets - min(c.packets, missing+c.open)
	return found
}

// endInterface is called when all intervals of an interface are there.
func (j *judge) endInterface() {
	if b := j.before; b != nil && b.to <= j.a.span.to.UnixMilli() { // else what follows is beyond the range
		j.settle(nil)
	}
	j.endBefore()
	j.ahead = 0
	j.line, j.covered, j.run, j.boot, j.length = nil, 0, 0, "", 0
}

// endHost adds what is said of a host as a whole.
func (j *judge) endHost(host string) {
	for _, m := range j.missing[host] {
		found := foundFlushes
		if j.a.now.UnixMilli()-1000*m.to < 2*max(j.hosts[host].length, 1000) {
			found = foundOnItsWay
		}
		j.a.add(&auditLine{host: host, from: 1000 * m.from, to: 1000 * m.to, found: found, flushes: m})
	}
	h := j.hosts[host]
	end := min(j.a.now.UnixMilli(), j.a.span.to.UnixMilli()+1000)
	if h.live && end-h.end > 3*max(h.length, 1000) {
		j.a.add(&auditLine{host: host, from: h.end, to: end, found: foundGap, gap: "nothing since"})
	}
}

// end is called when all rows are there.
func (j *judge) end() {
	i := j.interval
	j.endInterval()
	j.endInterface()
	if i != nil {
		j.endHost(i.host)
	}
}

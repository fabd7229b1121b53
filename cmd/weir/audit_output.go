package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"weir/exporter/clickhouse"
	"weir/exporter/table"
)

// auditFinding is what is to be said of an interval, a set of bits; none says that all of it
// is there.
type auditFinding uint32

const (
	foundGap auditFinding = 1 << iota
	foundFlushes
	foundNoLedger
	foundMissing
	foundLost
	foundDoubled
	foundCopies
	foundDiffer
	foundOpen
	foundDropped
	foundUnseen
	foundOverflow
	foundOnItsWay
	foundAgedOut
)

// harmless are the findings after which nothing is missing: of what overflowed, all
// totals are exact.
const harmless = foundOverflow | foundOnItsWay | foundAgedOut

// auditLine is a line of the answer: successive intervals of one interface with the same
// findings, or something between intervals.
type auditLine struct {
	host, iface string // iface is "" for what concerns the whole host
	from, to    int64  // milliseconds since the epoch
	intervals   uint64
	found       auditFinding
	reasons     uint64
	counts      auditCounts
	gap         string         // why
	flushes     missingFlushes // their numbers
}

// verdict says all that was found.
func (l *auditLine) verdict() string {
	if l.found == 0 {
		return "complete"
	}
	c := &l.counts
	var said []string
	say := func(f auditFinding, format string, args ...any) {
		if l.found&f != 0 {
			said = append(said, fmt.Sprintf(format, args...))
		}
	}
	length := string(table.AppendDuration(nil, time.Duration(l.to-l.from)*time.Millisecond))
	flushes := strconv.FormatUint(l.flushes.first, 10)
	if l.flushes.last > l.flushes.first {
		flushes += "-" + strconv.FormatUint(l.flushes.last, 10)
	}
	say(foundGap, "gap: %s, %s", l.gap, length)
	say(foundFlushes, "batches missing: sequence %s", flushes)
	say(foundNoLedger, "no ledger: %d records", c.fewer)
	if l.found&foundNoLedger == 0 {
		say(foundMissing, "records missing: %d", c.fewer)
	}
	say(foundLost, "records lost: %d (%s)", c.lost, l.why())
	say(foundDoubled, "duplicates: %d", c.doubled)
	say(foundCopies, "ledger rows doubled: %d", c.copies)
	say(foundDiffer, "records differ: %d packets", c.differ)
	say(foundOpen, "sums open: %d packets", c.open)
	say(foundDropped, "dropped: %d packets (%s)", c.drops, percent(c.drops, c.packets+c.drops))
	say(foundUnseen, "unseen: the NIC counted %d more (%s)", c.unseen, percent(c.unseen, c.nicPackets))
	say(foundOverflow, "overflow: %d packets without detail", c.overflow)
	say(foundOnItsWay, "on its way")
	say(foundAgedOut, "aged out")
	return strings.Join(said, "; ")
}

// why names the reasons for which records were lost.
func (l *auditLine) why() string {
	var names []string
	for i, name := range clickhouse.LostReasons {
		if l.reasons&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// percent is a part of a whole, which is not 0% or 100% unless it is nothing or all.
func percent(part, whole uint64) string {
	f := 100 * ratio(part, whole)
	switch {
	case whole == 0:
		return "100%"
	case part > 0 && f < 0.01:
		return "<0.01%"
	case part < whole && f > 99.99:
		return "99.99%"
	}
	return strconv.FormatFloat(math.Round(100*f)/100, 'f', -1, 64) + "%"
}

// auditSum is what the last line says.
type auditSum struct {
	hosts, interfaces, intervals uint64
	host, iface                  string // that were counted last
	seen, accounted              uint64 // packets; of those that are known to have passed
	packets                      uint64
	missing                      int // lines that tell of something missing
}

// interval adds an interval that was judged.
func (s *auditSum) interval(i *auditInterval) {
	if s.intervals == 0 || s.host != i.host {
		s.hosts++
	}
	if s.intervals == 0 || s.host != i.host || s.iface != i.iface {
		s.interfaces++
	}
	s.host, s.iface = i.host, i.iface
	s.intervals++
	s.packets += i.counts.packets
	s.accounted += i.counts.accounted
	s.seen += i.counts.packets + i.counts.drops + i.counts.unseen
}

// add adds a line, which may still grow.
func (a *audit) add(l *auditLine) {
	if l.found&^harmless != 0 {
		a.sum.missing++
	}
	if len(a.lines) == a.limit {
		a.hidden++
		return
	}
	a.lines = append(a.lines, l)
}

var auditColumns = []answerColumn{
	{name: "host", title: "host", kind: table.Text, shown: true},
	{name: "iface", title: "interface", kind: table.Text, shown: true},
	{name: "from", title: "from", kind: table.Text, shown: true},
	{name: "to", title: "to", kind: table.Text, shown: true},
	{name: "intervals", title: "intervals", kind: table.Number, shown: true},
	{name: "packets", title: "seen", kind: table.Number, shown: true},
	{name: "metered", title: "metered", kind: table.Number, shown: true},
	{name: "not_ip", title: "not IP", kind: table.Number, shown: true},
	{name: "excluded"},
	{name: "decode_errors", title: "errors", kind: table.Number, shown: true},
	{name: "drops", title: "dropped", kind: table.Number, shown: true},
	{name: "overflow", title: "overflow", kind: table.Number, shown: true},
	{name: "records", title: "records", kind: table.Number, shown: true},
	{name: "lost"},
	{name: "rows", title: "exported", kind: table.Number, shown: true},
	{name: "row_packets"},
	{name: "nic_packets", title: "NIC", kind: table.Number, shown: true},
	{name: "nic_drops_in"},
	{name: "nic_drops_out"},
	{name: "unseen"},
	{name: "missing"},
	{name: "verdict", title: "verdict", kind: table.Text, shown: true},
}

func (l *auditLine) cells() []cell {
	const day, clock = "2006-01-02", " 15:04:05"
	from, to := time.UnixMilli(l.from).UTC(), time.UnixMilli(l.to).UTC()
	till := strings.TrimSpace(to.Format(clock))
	if from.Format(day) != to.Format(day) {
		till = to.Format(day + clock)
	}
	iface := l.iface
	if iface == "" {
		iface = "-" // of all
	}
	c := &l.counts
	number := func(n uint64) cell {
		if l.intervals == 0 {
			return cell{n, nil}
		}
		return cell{n, n}
	}
	nic := number(c.nicPackets)
	if c.nicPackets == 0 {
		nic.shown = nil // of a replay, or it could not be read; or there was nothing, in or out
	}
	missing := uint64(0)
	if l.found&^harmless != 0 {
		missing = 1
	}
	return []cell{
		{l.host, l.host}, {l.iface, iface}, {from, from.Format(day + clock)}, {to, till}, number(l.intervals),
		number(c.packets), number(c.metered), number(c.notIP), number(c.excluded), number(c.errors), number(c.drops), number(c.overflow),
		number(c.records), number(c.lost), number(c.rows), number(c.rowPackets), nic, number(c.nicDropsIn), number(c.nicDropsOut),
		number(c.unseen), number(missing), {l.verdict(), l.verdict()},
	}
}

// print writes all lines, and what they amount to: on standard error where standard
// output is for programs.
func (a *audit) print() error {
	var cells [][]cell
	for _, l := range a.lines {
		cells = append(cells, l.cells())
	}
	a.screen.Width = math.MaxInt32 // a verdict is not cut: rather the terminal wraps
	if err := a.write(auditColumns, cells); err != nil {
		return err
	}
	out := a.out
	if a.output != "table" {
		out = a.errOut
	}
	if a.hidden > 0 {
		fmt.Fprintf(a.errOut, "%d lines more: see --limit, or ask for less\n", a.hidden)
	}
	s := &a.sum
	_, err := fmt.Fprintf(out, "%s, %s, %s: %d packets seen, %s accounted for; %s of something missing or doubled\n",
		plural(s.hosts, "host"), plural(s.interfaces, "interface"), plural(s.intervals, "interval"), s.packets, percent(s.accounted, s.seen), tell(s.missing))
	return err
}

func plural(n uint64, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func tell(lines int) string {
	switch lines {
	case 0:
		return "no line tells"
	case 1:
		return "1 line tells"
	}
	return fmt.Sprintf("%d lines tell", lines)
}

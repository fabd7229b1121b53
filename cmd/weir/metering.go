package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"weir/capture"
	"weir/capture/pcap"
	"weir/exporter"
	"weir/flows"
)

// metering is the way of the packets of one or more sources that end:
//
//	read (decode) -> count (tables) -> track (records) -> export
//
// each in a goroutine of its own, joined by channels that keep the order.
// Intervals are cut by the packets' own clock, so that the same packets give the
// same records in the same order however the goroutines run.
type metering struct {
	host     string
	interval time.Duration
	local    []netip.Prefix
	max      int // flows a table holds
	tracker  flows.TrackerConfig
	shift    func(first int64) int64 // how far to move time, given the first packet's; nil for not at all
	damaged  func(error)             // told of a source that is damaged; the next one follows

	ports  []*port
	byName map[string]*port
	clock  flows.Clock
	moved  bool
	by     int64

	decoder *flows.Decoder
	free    chan *flows.Decoded
	decoded chan step
	tables  chan *flows.Table // empty ones, to be used again
	spans   chan *span
	out     chan *flows.Batch
	export  *exporter.Exporter

	total    flows.Ledger
	exported bool // all records are where they were to go
}

// port is one interface: its meter belongs to the counting goroutine, its tracker
// to the tracking one.
type port struct {
	name    string
	meter   *flows.Meter
	tracker *flows.Tracker
	used    bool // packets came in this interval
}

// step is what the reading goroutine tells the counting one: to count packets of
// a port, or that an interval ends.
type step struct {
	port    *port
	packets *flows.Decoded
	end     *span
}

// span is one interval of all ports on its way to the tracker.
type span struct {
	start, end int64
	final      bool
	tables     []filled
}

type filled struct {
	port   *port
	table  *flows.Table
	ledger flows.Ledger
}

// maxPorts bounds the interfaces of a replay: each takes memory of its own, and
// files may name as many as they like.
const maxPorts = 1024

// stepsAhead is how far reading may run ahead of counting, in batches of decoded
// packets of 9 KiB: enough that neither waits for the other all the time, few
// enough to stay in L2.
const stepsAhead = 64

// sources yields one source after the other, and the name of interfaces that have
// none; a nil source is the end. Once ctx is done, a source that waits for
// somebody should fail.
type sources func(ctx context.Context) (capture.Source, string, error)

// one yields a single source.
func one(src capture.Source, name string) sources {
	return func(context.Context) (next capture.Source, _ string, _ error) {
		next, src = src, nil
		return next, name, nil
	}
}

// errInterrupted is why the input ended before its end.
var errInterrupted = errors.New("interrupted")

// run meters all sources and exports the records to sink. Where the input ends with
// an error, or because ctx is done, what was read until then is exported before
// the error is returned.
func (m *metering) run(ctx context.Context, next sources, sink exporter.Sink) error {
	m.byName = map[string]*port{}
	m.clock = flows.NewClock(m.interval)
	m.decoder = flows.NewDecoder(m.local)
	m.free = make(chan *flows.Decoded, stepsAhead)
	for range cap(m.free) {
		m.free <- new(flows.Decoded)
	}
	m.decoded = make(chan step, stepsAhead)
	m.tables = make(chan *flows.Table, 2*maxPorts)
	m.spans = make(chan *span, 1)
	m.out = make(chan *flows.Batch, 4)
	m.export = exporter.New(sink, cap(m.out))

	group, work := errgroup.WithContext(context.WithoutCancel(ctx))
	input, stop := context.WithCancel(ctx)
	defer stop()
	context.AfterFunc(work, stop)
	var inputErr error
	group.Go(func() error {
		defer close(m.decoded)
		inputErr = m.read(work, input, next)
		if work.Err() != nil {
			return context.Cause(work)
		}
		if ctx.Err() != nil {
			inputErr = errInterrupted
		}
		return m.endInterval(work, true)
	})
	group.Go(func() error {
		defer close(m.spans)
		return m.count(work)
	})
	group.Go(func() error {
		defer close(m.out)
		return m.track(work)
	})
	group.Go(func() error { return m.export.Run(work, m.out) })
	if err := group.Wait(); err != nil {
		return err
	}
	m.exported = true
	return inputErr
}

// read meters all packets of all sources. Once input is done it reads no more, but
// what it has read still goes its way, which only ctx can cut.
func (m *metering) read(ctx, input context.Context, next sources) error {
	for {
		src, name, err := next(input)
		if err == nil && src == nil {
			return nil
		}
		if err == nil {
			err = m.readSource(ctx, input, src, name)
			if cerr := src.Close(); err == nil {
				err = cerr
			}
		}
		if d := new(pcap.DamagedError); errors.As(err, &d) && m.damaged != nil {
			m.damaged(err)
		} else if err != nil {
			return err
		}
	}
}

func (m *metering) readSource(ctx, input context.Context, src capture.Source, name string) error {
	var ports []*port // by the source's number of the interface
	for {
		if input.Err() != nil {
			return context.Cause(input)
		}
		packets, err := src.NextBatch()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
		m.rebase(packets)
		for len(packets) > 0 {
			n := m.clock.Take(packets)
			if n == 0 {
				if err := m.endInterval(ctx, false); err != nil {
					return err
				}
				continue
			}
			if ports, err = m.decode(ctx, packets[:n], src, name, ports); err != nil {
				return err
			}
			packets = packets[n:]
		}
	}
}

// rebase moves packets in time.
func (m *metering) rebase(packets []capture.Packet) {
	if m.shift == nil || len(packets) == 0 {
		return
	}
	if !m.moved {
		m.moved, m.by = true, m.shift(packets[0].Time)
	}
	for i := range packets {
		packets[i].Time = min(max(packets[i].Time+m.by, 0), capture.MaxTime)
	}
}

// decode decodes packets of one interval and has them counted, in runs as long as
// the interface stays the same.
func (m *metering) decode(ctx context.Context, packets []capture.Packet, src capture.Source, name string, ports []*port) ([]*port, error) {
	for len(packets) > 0 {
		n, number := 1, packets[0].Interface
		for n < len(packets) && packets[n].Interface == number {
			n++
		}
		for int(number) >= len(ports) {
			ports = append(ports, nil)
		}
		if ports[number] == nil {
			p, err := m.port(src, name, number)
			if err != nil {
				return ports, err
			}
			ports[number] = p
		}
		for run := packets[:n]; len(run) > 0; {
			select {
			case d := <-m.free:
				run = m.decoder.Decode(d, run)
				if err := m.send(ctx, step{port: ports[number], packets: d}); err != nil {
					return ports, err
				}
			case <-ctx.Done():
				return ports, context.Cause(ctx)
			}
		}
		packets = packets[n:]
	}
	return ports, nil
}

// endInterval sends the end of the current interval after its packets.
func (m *metering) endInterval(ctx context.Context, final bool) error {
	s := &span{final: final}
	s.start, s.end = m.clock.Next()
	return m.send(ctx, step{end: s})
}

func (m *metering) send(ctx context.Context, s step) error {
	select {
	case m.decoded <- s:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// count counts the decoded packets. At the end of an interval each meter goes on
// with an empty table, and the full ones go to the tracker.
func (m *metering) count(ctx context.Context) error {
	var used []*port // in this interval, in order of their first packets
	for s := range m.decoded {
		if s.end == nil {
			if !s.port.used {
				s.port.used = true
				used = append(used, s.port)
			}
			s.port.meter.Count(s.packets)
			m.free <- s.packets // has room for all there are
			continue
		}
		for _, p := range used {
			p.used = false
			f := filled{port: p}
			f.table, f.ledger = p.meter.Rotate(m.table())
			m.total.Add(&f.ledger)
			s.end.tables = append(s.end.tables, f)
		}
		used = used[:0]
		select {
		case m.spans <- s.end:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// port returns the port of a source's interface. Interfaces of one name are one,
// in one file or in several: a rotated capture continues its flows.
func (m *metering) port(src capture.Source, name string, number uint32) (*port, error) {
	all := src.Interfaces()
	if int(number) < len(all) && all[number].Name != "" {
		name = all[number].Name
	} else if len(all) > 1 {
		name = fmt.Sprintf("%s#%d", name, number)
	}
	if p := m.byName[name]; p != nil {
		return p, nil
	}
	if len(m.ports) == maxPorts {
		return nil, fmt.Errorf("more than %d interfaces with packets: replay fewer files at a time", maxPorts)
	}
	p := &port{
		name:    name,
		meter:   flows.NewMeter(m.decoder, m.table()),
		tracker: flows.NewTracker(m.tracker),
	}
	m.ports = append(m.ports, p)
	m.byName[name] = p
	return p, nil
}

// table returns an empty table.
func (m *metering) table() *flows.Table {
	select {
	case t := <-m.tables:
		return t
	default:
		return flows.NewTable(m.max)
	}
}

// track turns intervals into batches of records.
func (m *metering) track(ctx context.Context) error {
	for s := range m.spans {
		for _, f := range s.tables {
			if err := m.trackTable(ctx, s, f); err != nil {
				return err
			}
			f.table.Reset()
			select {
			case m.tables <- f.table:
			default: // enough of them
			}
		}
	}
	return nil
}

func (m *metering) trackTable(ctx context.Context, s *span, f filled) error {
	head := flows.Batch{Host: m.host, Interface: f.port.name, Start: s.start, End: s.end}
	return m.export.Interval(ctx, m.out, head, &f.ledger, func(emit func(*flows.Record)) {
		f.port.tracker.Flush(f.table, s.end, s.final, emit)
	})
}

// summary is the line that ends a replay. Scripts depend on its form.
func (m *metering) summary(took time.Duration) string {
	var started uint64
	for _, p := range m.ports {
		started += p.tracker.Started()
	}
	return summary(&m.total, started, took)
}

// summary is the line that ends a replay or a run.
func summary(l *flows.Ledger, begun uint64, took time.Duration) string {
	return fmt.Sprintf("packets=%d not_ip=%d decode_errors=%d drops=%d flows=%d bytes=%d seconds=%.3f",
		l.Packets, l.NotIP(), l.DecodeErrors(), l.Drops, begun, l.Octets, took.Seconds())
}

package table

import (
	"context"
	"io"
	"time"

	"weir/exporter"
	"weir/flows"
)

// Sink is an [exporter.Sink] that writes records as lines for people, one after
// the other, in columns whose widths are known beforehand. Lines fit 120 columns
// where the addresses are IPv4; the addresses stand last because IPv6 ones may
// take more.
type Sink struct {
	uniflow bool
	ascii   bool
	day     int64 // of the last heading, days since the epoch; -1 = none yet
	iface   string
	host    string
	header  bool
	line    line
	cell    []byte
}

// NewSink returns a sink that writes to w. Uniflow leaves out the reverse
// counters. The sink does not close w.
func NewSink(w io.Writer, uniflow bool, screen Screen) *Sink {
	return &Sink{uniflow: uniflow, ascii: screen.ASCII, day: -1, line: line{Gather: exporter.NewGather(w, "table")}}
}

// Widths of the columns. Together, with a space between any two, they leave
// wSource for the destination within 120. What is wider than its column takes
// from the space in the next ones.
const (
	wTime     = 12
	wDuration = 6
	wDir      = 3
	wProto    = 5
	wPackets  = 5
	wBytes    = 6
	wFlags    = 6
	wEnd      = 6
	wSource   = 21
)

const nanosPerDay = int64(24 * time.Hour)

// Write writes the batch's records. It allocates nothing per record.
func (s *Sink) Write(_ context.Context, b *flows.Batch) error {
	if len(b.Records) > 0 && (!s.header || b.Host != s.host || b.Interface != s.iface) {
		s.host, s.iface, s.day = b.Host, b.Interface, -1
	}
	for i := range b.Records {
		r := &b.Records[i]
		if day := max(r.First, 0) / nanosPerDay; day != s.day {
			s.day = day
			s.heading()
		}
		s.record(r)
		if s.line.Full() {
			if err := s.line.Flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Flush writes out what is gathered.
func (s *Sink) Flush(context.Context) error { return s.line.Flush() }

// Close writes out what is left.
func (s *Sink) Close(context.Context) error { return s.line.Flush() }

// heading names what is the same for the lines that follow, and the first time
// the columns too.
func (s *Sink) heading() {
	if s.header {
		s.line.Buf = append(s.line.Buf, '\n')
	}
	s.line.Buf = time.Unix(0, s.day*nanosPerDay).UTC().AppendFormat(s.line.Buf, "2006-01-02 UTC")
	if s.host != "" {
		s.line.Buf = append(append(s.line.Buf, "  host "...), exporter.Escape(s.host, s.ascii)...)
	}
	if s.iface != "" {
		s.line.Buf = append(append(s.line.Buf, "  interface "...), exporter.Escape(s.iface, s.ascii)...)
	}
	s.line.Buf = append(s.line.Buf, '\n')
	if s.header {
		return
	}
	s.header = true
	left(&s.line, "first", wTime)
	right(&s.line, "lasts", wDuration)
	left(&s.line, "dir", wDir)
	left(&s.line, "proto", wProto)
	right(&s.line, "pkts", wPackets)
	right(&s.line, "bytes", wBytes)
	left(&s.line, "flags", wFlags)
	if !s.uniflow {
		right(&s.line, "back", wPackets)
		right(&s.line, "bytes", wBytes)
		left(&s.line, "flags", wFlags)
	}
	left(&s.line, "end", wEnd)
	left(&s.line, "source", wSource)
	end(&s.line, "destination")
}

func (s *Sink) record(r *flows.Record) {
	s.cell = exporter.AppendTime(s.cell[:0], r.First)
	left(&s.line, s.cell[len("2006-01-02T"):][:wTime], wTime)
	s.cell = AppendDuration(s.cell[:0], time.Duration(r.Last-r.First))
	right(&s.line, s.cell, wDuration)
	left(&s.line, directions[min(r.Key.Direction(), flows.DirectionOut)], wDir)
	left(&s.line, Proto(r.Key.Proto()), wProto)
	s.counters(&r.Forward)
	if !s.uniflow {
		s.counters(&r.Reverse)
	}
	reason := ""
	if r.EndReason != flows.EndNone {
		reason = r.EndReason.String()
	}
	left(&s.line, reason, wEnd)
	s.cell = AppendEndpoint(s.cell[:0], r.Key.Src16(), r.Key.SrcPort(), r.Key.Proto())
	left(&s.line, s.cell, wSource)
	s.cell = AppendEndpoint(s.cell[:0], r.Key.Dst16(), r.Key.DstPort(), r.Key.Proto())
	end(&s.line, s.cell)
}

var directions = [...]string{"?", "in", "out"}

func (s *Sink) counters(c *flows.Counters) {
	s.cell = AppendCount(s.cell[:0], c.Packets)
	right(&s.line, s.cell, wPackets)
	s.cell = AppendBytes(s.cell[:0], c.Octets)
	right(&s.line, s.cell, wBytes)
	s.cell = AppendTCPFlags(s.cell[:0], c.TCPFlags)
	left(&s.line, s.cell, wFlags)
}

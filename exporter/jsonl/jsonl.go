// Package jsonl writes records as JSON, one object a line.
//
// The names are those of [exporter.Columns], which are the columns of the
// ClickHouse table. Times are strings in RFC 3339 (UTC, nine digits), addresses
// and enums are strings, all else is a number. The same records give the same
// bytes.
package jsonl

import (
	"context"
	"io"

	"weir/exporter"
	"weir/flows"
)

// Sink is an [exporter.Sink] that writes JSON lines.
type Sink struct {
	out    exporter.Gather
	shared []field // the same for all records of a batch
	own    []field
	prefix []byte // the shared fields of the batch at hand
}

// field is a column with its name as it stands in the object, comma and colon included.
type field struct {
	exporter.Column
	label  string
	quoted bool
}

// New returns a sink that writes to w. Uniflow leaves out what only paired
// records have. The sink does not close w.
func New(w io.Writer, uniflow bool) *Sink {
	s := &Sink{out: exporter.NewGather(w, "JSON lines")}
	for i, c := range exporter.Select(exporter.Shown, uniflow) {
		f := field{Column: c, label: `,"` + c.Name + `":`, quoted: c.Kind != exporter.Uint && c.Kind != exporter.Int}
		if i == 0 {
			f.label = "{" + f.label[1:]
		}
		if c.Shared {
			s.shared = append(s.shared, f)
		} else {
			s.own = append(s.own, f)
		}
	}
	return s
}

// Write writes the batch's records. It allocates nothing per record.
func (s *Sink) Write(_ context.Context, b *flows.Batch) error {
	s.prefix = appendFields(s.prefix[:0], s.shared, b, nil)
	for i := range b.Records {
		s.out.Buf = append(s.out.Buf, s.prefix...)
		s.out.Buf = appendFields(s.out.Buf, s.own, b, &b.Records[i])
		s.out.Buf = append(s.out.Buf, '}', '\n')
		if s.out.Full() {
			if err := s.out.Flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Flush writes out what is gathered.
func (s *Sink) Flush(context.Context) error { return s.out.Flush() }

// Close writes out what is left.
func (s *Sink) Close(context.Context) error { return s.out.Flush() }

func appendFields(dst []byte, fields []field, b *flows.Batch, r *flows.Record) []byte {
	for i := range fields {
		f := &fields[i]
		dst = append(dst, f.label...)
		switch {
		case f.Kind == exporter.Text:
			dst = AppendString(dst, f.Text(b))
		case f.quoted:
			dst = append(dst, '"')
			dst = f.AppendText(dst, b, r)
			dst = append(dst, '"')
		default:
			dst = f.AppendText(dst, b, r)
		}
	}
	return dst
}

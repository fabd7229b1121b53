package table

import (
	"context"
	"io"

	"weir/exporter"
	"weir/flows"
)

// CSV is an [exporter.Sink] that writes comma-separated values as RFC 4180 has
// them, but with bare line feeds: a header with the names of [exporter.Columns],
// then one line a record.
type CSV struct {
	columns []exporter.Column
	out     exporter.Gather
}

// NewCSV returns a sink that writes to w, the header included even if there is
// no record. Uniflow leaves out what only paired records have. The sink does not
// close w.
func NewCSV(w io.Writer, uniflow bool) *CSV {
	s := &CSV{columns: exporter.Select(exporter.Shown, uniflow), out: exporter.NewGather(w, "CSV")}
	for i := range s.columns {
		if i > 0 {
			s.out.Buf = append(s.out.Buf, ',')
		}
		s.out.Buf = append(s.out.Buf, s.columns[i].Name...)
	}
	s.out.Buf = append(s.out.Buf, '\n')
	return s
}

// Write writes the batch's records. It allocates nothing per record.
func (s *CSV) Write(_ context.Context, b *flows.Batch) error {
	for i := range b.Records {
		r := &b.Records[i]
		for j := range s.columns {
			if j > 0 {
				s.out.Buf = append(s.out.Buf, ',')
			}
			if c := &s.columns[j]; c.Kind == exporter.Text {
				s.out.Buf = AppendCSV(s.out.Buf, c.Text(b))
			} else {
				s.out.Buf = c.AppendText(s.out.Buf, b, r)
			}
		}
		s.out.Buf = append(s.out.Buf, '\n')
		if s.out.Full() {
			if err := s.out.Flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Flush writes out what is gathered.
func (s *CSV) Flush(context.Context) error { return s.out.Flush() }

// Close writes out what is left.
func (s *CSV) Close(context.Context) error { return s.out.Flush() }

// AppendCSV appends s as one CSV field, in quotes where it needs them.
func AppendCSV(dst []byte, s string) []byte {
	quote := len(s) > 0 && (s[0] == ' ' || s[len(s)-1] == ' ')
	for i := 0; i < len(s) && !quote; i++ {
		c := s[i]
		quote = c == ',' || c == '"' || c < 0x20 || c >= 0x7f
	}
	if !quote {
		return append(dst, s...)
	}
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' {
			dst = append(dst, '"')
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"')
}

package table

import (
	"context"
	"fmt"
	"io"

	"weir/exporter"
	"weir/flows"
)

// flushSize is how many bytes are gathered before they are written out.
const flushSize = 64 << 10

// CSV is an [exporter.Sink] that writes comma-separated values as RFC 4180 has
// them, but with bare line feeds: a header with the names of [exporter.Columns],
// then one line a record.
type CSV struct {
	w       io.Writer
	columns []exporter.Column
	buf     []byte
}

// NewCSV returns a sink that writes to w, the header included even if there is
// no record. Uniflow leaves out what only paired records have. The sink does not
// close w.
func NewCSV(w io.Writer, uniflow bool) *CSV {
	s := &CSV{w: w, columns: exporter.Select(exporter.Shown, uniflow), buf: make([]byte, 0, flushSize+4096)}
	for i := range s.columns {
		if i > 0 {
			s.buf = append(s.buf, ',')
		}
		s.buf = append(s.buf, s.columns[i].Name...)
	}
	s.buf = append(s.buf, '\n')
	return s
}

// Write writes the batch's records. It allocates nothing per record.
func (s *CSV) Write(_ context.Context, b *flows.Batch) error {
	for i := range b.Records {
		r := &b.Records[i]
		for j := range s.columns {
			if j > 0 {
				s.buf = append(s.buf, ',')
			}
			if c := &s.columns[j]; c.Kind == exporter.Text {
				s.buf = AppendCSV(s.buf, c.Text(b))
			} else {
				s.buf = c.AppendText(s.buf, b, r)
			}
		}
		s.buf = append(s.buf, '\n')
		if len(s.buf) >= flushSize {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close writes out what is left.
func (s *CSV) Close(context.Context) error { return s.flush() }

func (s *CSV) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	_, err := s.w.Write(s.buf)
	s.buf = s.buf[:0]
	if err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}

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

package exporter

import (
	"fmt"
	"io"
)

// gathered is how many bytes of text a sink gathers before it writes them out.
const gathered = 64 << 10

// Gather is where a text sink appends its lines to: a buffer that goes to a writer
// when it is full.
type Gather struct {
	Buf  []byte
	w    io.Writer
	form string // what is written, for errors
}

// NewGather returns a buffer in front of w; form names the text in errors.
func NewGather(w io.Writer, form string) Gather {
	return Gather{Buf: make([]byte, 0, gathered+4096), w: w, form: form}
}

// Full reports whether it is time to flush.
func (g *Gather) Full() bool { return len(g.Buf) >= gathered }

// Flush writes out what was gathered. What cannot be written is dropped.
func (g *Gather) Flush() error {
	if len(g.Buf) == 0 {
		return nil
	}
	_, err := g.w.Write(g.Buf)
	g.Buf = g.Buf[:0]
	if err != nil {
		return fmt.Errorf("write %s: %w", g.form, err)
	}
	return nil
}

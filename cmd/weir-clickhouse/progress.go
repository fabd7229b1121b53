//go:build linux && amd64

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// progress tells a person how far a long step is: by a bar that is redrawn on a
// terminal, by a line at its start and its end elsewhere.
type progress struct {
	w     io.Writer
	drawn bool
}

func newProgress(w io.Writer, plain bool) *progress {
	f, ok := w.(*os.File)
	return &progress{w: w, drawn: !plain && ok && term.IsTerminal(int(f.Fd()))}
}

func (p *progress) say(line string) { fmt.Fprintln(p.w, line) }

func (p *progress) start(title string, total int64) *bar {
	b := &bar{p: p, title: title, total: total, began: time.Now()}
	if p.drawn {
		b.draw()
	} else {
		p.say(fmt.Sprintf("%s (%d MB)", title, megabytes(total)))
	}
	return b
}

// bar is one step of total bytes. It is not safe for concurrent use.
type bar struct {
	p            *progress
	title        string
	total, done  int64
	began, drawn time.Time
}

// Write counts the bytes written to it, so that a bar can watch a copy.
func (b *bar) Write(data []byte) (int, error) {
	b.set(b.done + int64(len(data)))
	return len(data), nil
}

func (b *bar) set(done int64) {
	b.done = min(done, b.total)
	if b.p.drawn && time.Since(b.drawn) > 100*time.Millisecond {
		b.draw()
	}
}

// finish ends the step, with success if err is nil.
func (b *bar) finish(err error) {
	took := time.Since(b.began).Seconds()
	switch {
	case err == nil && b.p.drawn:
		b.done = b.total
		b.draw()
		b.p.say(fmt.Sprintf(" %.1f s", took))
	case err == nil:
		b.p.say(fmt.Sprintf("%s: done in %.1f s", b.title, took))
	case b.p.drawn:
		b.p.say("")
	}
}

func (b *bar) draw() {
	const width = 30
	b.drawn = time.Now()
	filled := int(b.done * width / b.total)
	fmt.Fprintf(b.p.w, "\r%-22s [%s%s] %3d %% of %d MB", b.title,
		strings.Repeat("#", filled), strings.Repeat(".", width-filled), b.done*100/b.total, megabytes(b.total))
}

// megabytes rounds to the nearest.
func megabytes(n int64) int64 { return (n + 500_000) / 1_000_000 }

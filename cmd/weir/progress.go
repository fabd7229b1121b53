package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how far a replay or a recording is, on a terminal.
type progress struct {
	w    io.Writer
	on   bool
	stop chan struct{}
	wait sync.WaitGroup
}

// newProgress returns a progress bar on w, silent if w is no terminal.
func newProgress(w io.Writer, off bool) *progress {
	f, ok := w.(*os.File)
	return &progress{w: w, on: !off && ok && term.IsTerminal(int(f.Fd()))}
}

// measured is what a progress bar can follow; Size is 0 where it is not known.
// Both are safe to call from other goroutines.
type measured interface {
	Offset() int64
	Size() int64
}

// file begins the bar of a file.
func (p *progress) file(path string, m measured) {
	p.done()
	if !p.on {
		return
	}
	size := m.Size()
	if size <= 0 {
		size = -1 // a spinner with a count
	}
	p.show(size, fmt.Sprintf("replay %s", filepath.Base(path)), true, m.Offset)
}

// packets begins the bar of a recording, of count packets if that is not 0. now is
// called from another goroutine.
func (p *progress) packets(what string, count uint64, now func() uint64) {
	if !p.on {
		return
	}
	size := int64(count)
	if size <= 0 {
		size = -1
	}
	p.show(size, what, false, func() int64 { return int64(now()) })
}

func (p *progress) show(size int64, what string, bytes bool, now func() int64) {
	bar := progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(p.w),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(bytes),
		progressbar.OptionShowCount(),
		progressbar.OptionSetWidth(30),
		progressbar.OptionSetRenderBlankState(false),
	)
	bar.StartWithoutRender() // or it takes its first update for its start
	p.stop = make(chan struct{})
	p.wait.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				// An error means that the terminal is gone; the work goes on.
				_ = bar.Set64(now())
			case <-p.stop:
				_ = bar.Exit()
				_ = bar.Clear()
				return
			}
		}
	})
}

// done ends the bar and leaves the terminal as it was.
func (p *progress) done() {
	if p.stop != nil {
		close(p.stop)
		p.wait.Wait()
		p.stop = nil
	}
}

package socket

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"weir/capture"
)

// Port is what a source is connected to: what its packets come from and can be
// waited for. In production that is a [Socket]. Whoever brings another one, as
// capture/mock does, has its packets read by the very code that reads the kernel's.
type Port interface {
	// Wait returns nil once ready says so, os.ErrDeadlineExceeded when the deadline
	// has passed or Wake was called, capture.ErrLinkGone when nothing will come any
	// more than what is under way, and io.EOF when nothing will come at all.
	Wait(ready func() bool, deadline time.Time) error
	// Wake makes Wait return. It is called from any goroutine.
	Wake()
	// Counts returns totals since the port was opened, also after Close. It is
	// called from any goroutine.
	Counts() Counts
	// Refuse lets no more packets in. Those that are in stay. It is called from any
	// goroutine.
	Refuse() error
	// Close ends the coming of packets.
	Close() error
}

// idleTick is how long a source waits before it returns an empty batch.
const idleTick = time.Second

// countEvery is after how many packets a port's counts are read: well before the
// kernel's 32 bits overflow, and too seldom to cost anything.
const countEvery = 1 << 24

// Gate is where sources wait for a port, are interrupted, and end. Shut is called
// from any goroutine, the others by the reader, or while the reader is kept out.
type Gate struct {
	port     Port
	name     string
	ready    func() bool
	drainFor time.Duration
	busyPoll time.Duration

	closing   atomic.Bool
	unblocked atomic.Bool
	delivered atomic.Uint64
	counted   uint64    // packets delivered when the counts were last read
	gone      time.Time // when to stop waiting, after the interface was deleted
	err       error     // what Pass returns from now on
}

// NewGate returns a gate. arrived says whether there are packets. drainFor is how
// long those under way can take to arrive when the interface is deleted. The name
// of the interface stands in errors.
func NewGate(p Port, name string, arrived func() bool, drainFor, busyPoll time.Duration) *Gate {
	g := &Gate{port: p, name: name, drainFor: drainFor, busyPoll: busyPoll}
	g.ready = func() bool { return g.closing.Load() || g.unblocked.Load() || arrived() }
	return g
}

// Pass returns nil if the reader may go on, else why not.
func (g *Gate) Pass() error {
	if g.err != nil {
		return g.err
	}
	if g.closing.Load() {
		return g.Fail(capture.ErrClosed)
	}
	if g.unblocked.Load() && g.unblocked.Swap(false) {
		return fmt.Errorf("capture on %s: %w", g.name, capture.ErrUnblocked)
	}
	return nil
}

// Wait waits until packets have arrived or Pass has something to say. It reports
// whether the time for an empty batch has come.
func (g *Gate) Wait() (empty bool, err error) {
	now := time.Now()
	if g.busyPoll > 0 && g.spin(now) {
		return false, nil
	}
	deadline := now.Add(idleTick)
	if !g.gone.IsZero() {
		if !now.Before(g.gone) {
			return false, g.Fail(capture.ErrLinkGone)
		}
		deadline = g.gone
	}
	switch err := g.port.Wait(g.ready, deadline); {
	case err == nil:
		return false, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return g.gone.IsZero() && !g.ready(), nil
	case errors.Is(err, capture.ErrLinkGone):
		if g.gone.IsZero() { // it may be said again
			g.gone = time.Now().Add(g.drainFor)
		}
		return false, nil
	case err == io.EOF:
		g.err = io.EOF
		return false, g.err
	default:
		return false, g.Fail(err)
	}
}

// spin looks for packets until the time for that is over. It reports whether there
// is something to do.
func (g *Gate) spin(start time.Time) bool {
	for time.Since(start) < g.busyPoll {
		for range 64 { // a look takes a nanosecond, asking for the time 40
			if g.ready() {
				return true
			}
		}
		runtime.Gosched()
	}
	return false
}

// Fail makes err the end of the source, unless it has ended before.
func (g *Gate) Fail(err error) error {
	if g.err == nil {
		g.err = fmt.Errorf("capture on %s: %w", g.name, err)
	}
	return g.err
}

// Deliver counts packets on their way to the reader.
func (g *Gate) Deliver(n int) {
	if total := g.delivered.Add(uint64(n)); total-g.counted >= countEvery {
		g.counted = total
		g.port.Counts()
	}
}

// interrupt makes Pass return capture.ErrUnblocked once.
func (g *Gate) interrupt() {
	g.unblocked.Store(true)
	g.port.Wake()
}

// Shut makes Pass return capture.ErrClosed.
func (g *Gate) Shut() {
	g.closing.Store(true)
	g.port.Wake()
}

// Package agent is what weir run runs: the way of packets from the interfaces of a
// host into a sink, for as long as the host is up.
//
//	rings -> meters (one goroutine each)     count packets into tables
//	rotator                                  swaps the tables at the end of an interval
//	tracker                                  makes records of them, interface by interface
//	exporter                                 carries records to the sink
//
// Packets never wait. A ring's goroutine hands its table over in the time it takes to
// exchange two pointers. Where the sink takes nothing, a spool that is full for one, the
// tracker waits, and the interval that is being counted becomes a longer one: memory stays
// bounded, and no packet is lost for it.
//
// What it is connected to - interfaces, rings, the sink - are functions and
// interfaces in [Config], so that tests run the very same wiring.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"weir/capture"
	"weir/capture/link"
	"weir/exporter"
	"weir/flows"
)

// Config says what an agent does. Fields without another word must be set.
type Config struct {
	Host     string        // name in the records
	Interval time.Duration // records are cut at its multiples since the Unix epoch, 1 s or more
	MaxFlows int           // flows of one ring, and of one interface, in one interval
	Tracker  flows.TrackerConfig

	// Watch calls back with all interfaces and then with every change until ctx is
	// done; link.Watch is one.
	Watch      func(ctx context.Context, fn func(link.Event)) error
	Interfaces Interfaces
	// Counters returns what all interfaces have counted, by their indexes; it is called
	// once an interval, and when interfaces are opened and closed. link.AllCounters is
	// one, nil leaves the ledger without them.
	Counters func() (map[int]link.Counters, error)

	// Exclude says of a record that it is not to be exported, nil of none. Its packets
	// are in the ledger as excluded.
	Exclude func(r *flows.Record) bool

	Sink exporter.Sink
	Log  *slog.Logger
	// Grace is how long Run may take to write out what is there once its context is
	// done. What cannot be written by then is lost: it stays in the totals of Status,
	// and Run's error says so.
	Grace time.Duration
}

// Interfaces says what to capture on, and how.
type Interfaces struct {
	// Select returns those of the interfaces to capture on.
	Select func(links []link.Link) []link.Link
	// Missing returns the names that Select waits for.
	Missing func(links []link.Link) []string
	// Settings returns what Open makes of an interface, in a form that can be
	// compared: where it changes with a reload, the interface is opened anew.
	Settings func(l link.Link) string
	// Open opens the rings of an interface. The agent closes them.
	Open func(l link.Link) ([]capture.Source, error)
}

// Agent captures on interfaces and exports records. Its methods but for Run may be
// called from any goroutine while Run runs.
type Agent struct {
	cfg     Config
	decoder *flows.Decoder
	began   time.Time

	export *exporter.Exporter
	out    chan *flows.Batch
	spans  chan *span
	idle   chan struct{} // holds a token while the tracker has nothing to do

	mu         sync.Mutex
	interfaces Interfaces
	ports      map[int]*port // by index of the interface
	leaving    []*port       // their rings end or have ended, their last interval is to come
	troubles   map[int]*trouble
	gone       flows.Ledger // of the ports that are forgotten
	uncounted  time.Time    // when it was said last that the interfaces' counters cannot be read

	known   map[int]link.Link // the manager's
	stale   map[int]link.Link // the manager's: those that the watch has not told of since it began anew
	told    bool              // the manager's: it has told of any
	missing []string          // the manager's: names that it has said to wait for
	reload  chan struct{}
	failed  chan *port     // a ring of it has ended
	opened  chan struct{}  // closed when what is there at the start has been opened
	ending  chan struct{}  // closed when no port is opened any more
	drained chan struct{}  // closed when all ports have ended for good
	running sync.WaitGroup // goroutines of rings

	watchers watchers
	stalls   histogram // of packets, by rotation
	cuts     histogram // of all rings
	flushes  histogram
	exported atomic.Uint64 // records handed to the sink
	begun    atomic.Uint64 // flows
	turned   atomic.Int64  // when the rotator was last at work, nanoseconds since began, at least 1
	behind   atomic.Bool   // the tracker was not done in time
}

// New returns an agent.
func New(cfg Config) (*Agent, error) {
	if cfg.Interval < time.Second {
		return nil, fmt.Errorf("interval %v is less than 1s", cfg.Interval)
	}
	if cfg.MaxFlows < 1 {
		return nil, fmt.Errorf("%d flows are no bound for a table", cfg.MaxFlows)
	}
	a := &Agent{
		cfg: cfg, decoder: flows.NewDecoder(nil), began: time.Now(),
		export: exporter.New(cfg.Sink, 4), out: make(chan *flows.Batch, 4),
		spans: make(chan *span, 1), idle: make(chan struct{}, 1),
		interfaces: cfg.Interfaces, ports: map[int]*port{}, troubles: map[int]*trouble{}, known: map[int]link.Link{},
		reload: make(chan struct{}, 1), failed: make(chan *port), opened: make(chan struct{}), ending: make(chan struct{}), drained: make(chan struct{}),
	}
	a.watchers.wake = make(chan struct{}, 1)
	a.idle <- struct{}{}
	return a, nil
}

// Run captures until ctx is done, then reads what has arrived, writes out what there
// is, and returns. It is called once. It returns an error if the sink has failed for
// good, or if it could not write all within the grace.
func (a *Agent) Run(ctx context.Context) error {
	work, giveUp := context.WithCancelCause(context.WithoutCancel(ctx))
	defer giveUp(nil)
	group, work := errgroup.WithContext(work)
	input, stop := context.WithCancel(ctx)
	defer stop()
	context.AfterFunc(work, stop)
	context.AfterFunc(input, func() {
		t := time.AfterFunc(a.cfg.Grace, func() { giveUp(fmt.Errorf("not all records could be written within %v", a.cfg.Grace)) })
		context.AfterFunc(work, func() { t.Stop() })
	})
	group.Go(func() error {
		defer close(a.drained)
		return a.manage(input)
	})
	group.Go(func() error {
		defer close(a.spans)
		return a.rotate(work)
	})
	group.Go(func() error {
		defer close(a.out)
		return a.track(work)
	})
	group.Go(func() error { return a.export.Run(work, a.out) })
	err := group.Wait()
	a.turned.Store(0)
	if cause := context.Cause(work); err != nil && errors.Is(err, context.Canceled) && cause != nil {
		err = cause
	}
	return err
}

// Opened is closed when the agent has tried to open all interfaces that were there when
// it began.
func (a *Agent) Opened() <-chan struct{} { return a.opened }

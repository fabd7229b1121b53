package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/agent"
	"weir/capture"
	"weir/capture/afring"
	"weir/capture/link"
	"weir/capture/mock"
	"weir/flows"
)

// host is a host whose interfaces are mocks.
type host struct {
	mu     sync.Mutex
	rings  map[string]*mock.Ring
	events chan link.Event
	fail   map[string]error
	opened map[string]int
}

func newHost() *host {
	return &host{rings: map[string]*mock.Ring{}, events: make(chan link.Event, 1000), fail: map[string]error{}, opened: map[string]int{}}
}

func (h *host) add(index int) link.Link {
	l := link.Link{Index: index, Name: fmt.Sprintf("eth%d", index), Hardware: 1, Up: true, Running: true}
	h.events <- link.Event{Kind: link.Added, Link: l}
	return l
}

func (h *host) watch(ctx context.Context, fn func(link.Event)) error {
	for {
		select {
		case e := <-h.events:
			fn(e)
		case <-ctx.Done():
			return nil
		}
	}
}

func (h *host) open(l link.Link) ([]capture.Source, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.fail[l.Name]; err != nil {
		return nil, err
	}
	m, err := mock.NewRing(l.Name, capture.LinkEthernet, afring.Config{BlockSize: 128 << 10, Blocks: 8})
	if err != nil {
		return nil, err
	}
	h.rings[l.Name] = m
	h.opened[l.Name]++
	return []capture.Source{m.Source()}, nil
}

func (h *host) interfaces() agent.Interfaces {
	return agent.Interfaces{
		Select:   agent.Selection{}.Pick,
		Missing:  agent.Selection{}.Missing,
		Settings: func(link.Link) string { return "" },
		Open:     h.open,
	}
}

// send sends a packet of a flow into an interface.
func (h *host) send(t *testing.T, name string, flow int) {
	t.Helper()
	h.mu.Lock()
	m := h.rings[name]
	h.mu.Unlock()
	if m == nil {
		t.Fatalf("nobody captures on %s", name)
	}
	p := mock.Ethernet().IPv4(netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("10.99.0.2")).UDP(uint16(40000+flow), 53).Payload([]byte("hello")).Packet()
	p.Time = time.Now().UnixNano()
	if v := m.Add(&p); v != mock.Queued {
		t.Fatalf("packet into %s: %d", name, v)
	}
}

// kept is a sink that keeps all.
type kept struct {
	mu      sync.Mutex
	batches []flows.Batch
	flushes int
	closed  bool
	hold    chan struct{} // if not nil, Write waits for it
}

func (k *kept) Write(ctx context.Context, b *flows.Batch) error {
	if k.hold != nil {
		select {
		case <-k.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	c := *b
	c.Records = append([]flows.Record(nil), b.Records...)
	if b.Ledger != nil {
		l := *b.Ledger
		c.Ledger = &l
	}
	k.batches = append(k.batches, c)
	return nil
}

func (k *kept) Flush(context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.flushes++
	return nil
}

func (k *kept) Close(context.Context) error { k.closed = true; return nil }

func (k *kept) packets() (n uint64, ledger flows.Ledger) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range k.batches {
		for _, r := range b.Records {
			n += r.Forward.Packets + r.Reverse.Packets
		}
		if b.Ledger != nil {
			ledger.Add(b.Ledger)
		}
	}
	return n, ledger
}

// running runs an agent on a host until the function that it returns is called.
func running(t *testing.T, h *host, sink *kept, change func(*agent.Config)) (a *agent.Agent, stop func() error) {
	t.Helper()
	cfg := agent.Config{
		Host: "test", Interval: 10 * time.Second, MaxFlows: 1 << 16,
		Tracker: flows.TrackerConfig{Idle: time.Minute, Active: time.Hour, Max: 1 << 16},
		Watch:   h.watch, Interfaces: h.interfaces(), Sink: sink, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Grace: 5 * time.Second,
	}
	if change != nil {
		change(&cfg)
	}
	a, err := agent.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- a.Run(ctx) }()
	return a, func() error { cancel(); return <-result }
}

// TestIntervals holds that records come at the multiples of the interval, and that
// their sums are those of the packets.
func TestIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{}
		for i := range 3 {
			h.add(i + 1)
		}
		a, stop := running(t, h, sink, nil)
		time.Sleep(time.Second)
		const seconds = 35
		for range seconds {
			for i := range 3 {
				h.send(t, fmt.Sprintf("eth%d", i+1), i)
			}
			time.Sleep(time.Second)
		}
		if s := a.Status(); len(s.Interfaces) != 3 || s.Interfaces[1].Name != "eth2" || s.Interfaces[1].Stats.Packets != seconds || s.Interfaces[1].Err != nil {
			t.Errorf("status %+v", s)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		n, l := sink.packets()
		if n != 3*seconds || l.Packets != 3*seconds || l.Metered != 3*seconds || !sink.closed || sink.flushes < 4 {
			t.Errorf("%d packets in records, ledger %+v, %d flushes", n, l, sink.flushes)
		}
		for i, b := range sink.batches {
			last := i >= len(sink.batches)-3
			if b.Start%int64(10*time.Second) != 0 || !last && b.End-b.Start != int64(10*time.Second) {
				t.Errorf("interval from %v to %v", time.Unix(0, b.Start).UTC(), time.Unix(0, b.End).UTC())
			}
			for _, r := range b.Records {
				if r.First < b.Start || r.Last > b.End {
					t.Errorf("record of %v in an interval from %v", time.Unix(0, r.First).UTC(), time.Unix(0, b.Start).UTC())
				}
				if last != (r.EndReason == flows.EndForced) {
					t.Errorf("record %d ends %v", i, r.EndReason)
				}
			}
		}
		if s := a.Status(); s.Flows != 3 || s.Total.Packets != 3*seconds {
			t.Errorf("status at the end %+v", s)
		}
	})
}

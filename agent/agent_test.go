package agent_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	mu       sync.Mutex
	rings    map[string][]*fragile // by name, as they were opened last
	events   chan link.Event
	fail     map[string]error
	opened   map[string]int
	attempts map[string][]time.Time // to open
	slow     map[string]time.Duration
	fanout   int
	pause    time.Duration // of those who read rings
	config   afring.Config
	queued   uint64 // packets that a ring took
	dropped  uint64
}

// fragile is a ring that can break, and be read too slowly.
type fragile struct {
	*mock.Ring
	source
}

type source struct {
	*afring.Ring
	broken *atomic.Bool
	pause  time.Duration // before each batch
}

func (s source) NextBatch() ([]capture.Packet, error) {
	time.Sleep(s.pause)
	packets, err := s.Ring.NextBatch()
	if errors.Is(err, capture.ErrUnblocked) && s.broken.Load() {
		return nil, fmt.Errorf("capture: %w", capture.ErrBroken)
	}
	return packets, err
}

// breaks has the ring break.
func (f *fragile) breaks() {
	f.broken.Store(true)
	f.source.Unblock()
}

func newHost() *host {
	return &host{rings: map[string][]*fragile{}, events: make(chan link.Event, 1000), fail: map[string]error{}, opened: map[string]int{},
		attempts: map[string][]time.Time{}, slow: map[string]time.Duration{}, fanout: 1, config: afring.Config{BlockSize: 128 << 10, Blocks: 8}}
}

func (h *host) add(index int) link.Link {
	l := link.Link{Index: index, Name: fmt.Sprintf("eth%d", index), Hardware: 1, Up: true, Running: true}
	h.events <- link.Event{Kind: link.Added, Link: l}
	return l
}

// remove deletes an interface as the kernel does: its rings end, and then a watch
// hears of it.
func (h *host) remove(l link.Link) {
	for _, r := range h.group(l.Name) {
		r.LinkGone()
	}
	h.events <- link.Event{Kind: link.Removed, Link: l}
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

func (h *host) open(l link.Link) (all []capture.Source, err error) {
	h.mu.Lock()
	h.attempts[l.Name] = append(h.attempts[l.Name], time.Now())
	slow := h.slow[l.Name]
	h.mu.Unlock()
	time.Sleep(slow)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.fail[l.Name]; err != nil {
		return nil, err
	}
	var group []*fragile
	for range h.fanout {
		m, err := mock.NewRing(l.Name, capture.LinkEthernet, h.config)
		if err != nil {
			return nil, err
		}
		f := &fragile{m, source{m.Source(), new(atomic.Bool), h.pause}}
		group, all = append(group, f), append(all, f.source)
	}
	h.rings[l.Name] = group
	h.opened[l.Name]++
	return all, nil
}

// refuse has Open fail from now on, or succeed if err is nil.
func (h *host) refuse(name string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail[name] = err
}

// delay has Open take its time.
func (h *host) delay(name string, d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.slow[name] = d
}

// group returns the rings of an interface as they were opened last.
func (h *host) group(name string) []*fragile {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rings[name]
}

func (h *host) openings(name string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.opened[name]
}

func (h *host) tries(name string) []time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.attempts[name])
}

func (h *host) interfaces() agent.Interfaces { return h.selected(agent.Selection{}, "") }

func (h *host) selected(s agent.Selection, settings string) agent.Interfaces {
	return agent.Interfaces{
		Select:   s.Pick,
		Missing:  s.Missing,
		Settings: func(link.Link) string { return settings },
		Open:     h.open,
	}
}

var client, server = netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("10.99.0.2")

// send sends a packet of a flow into an interface.
func (h *host) send(t *testing.T, name string, flow int) {
	t.Helper()
	if v := h.offer(t, name, 0, request(flow)); v != mock.Queued {
		t.Fatalf("packet into %s: %d", name, v)
	}
}

// offer gives a packet to one of the rings of an interface, and counts what becomes of
// it.
func (h *host) offer(t *testing.T, name string, ring int, p capture.Packet) mock.Verdict {
	t.Helper()
	group := h.group(name)
	if group == nil {
		t.Fatalf("nobody captures on %s", name)
	}
	p.Time = time.Now().UnixNano()
	v := group[ring].Add(&p)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch v {
	case mock.Queued:
		h.queued++
	case mock.Dropped:
		h.dropped++
	}
	return v
}

// request is a packet of a flow, reply one of the other direction.
func request(flow int) capture.Packet {
	p := mock.Ethernet().IPv4(client, server).UDP(uint16(40000+flow), 53).Payload([]byte("hello")).Packet()
	p.Type = capture.PacketOutgoing
	return p
}

func reply(flow int) capture.Packet {
	p := mock.Ethernet().IPv4(server, client).UDP(53, uint16(40000+flow)).Payload([]byte("hello yourself")).Packet()
	p.Type = capture.PacketHost
	return p
}

// kept is a sink that keeps all.
type kept struct {
	mu      sync.Mutex
	batches []flows.Batch
	flushes int
	closed  bool
	hold    chan struct{} // if not nil, Write waits for it
	fail    error         // what Write returns
}

// block has Write wait until the function that it returns is called.
func (k *kept) block() (release func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	hold := make(chan struct{})
	k.hold = hold
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.hold = nil
		close(hold)
	}
}

func (k *kept) Write(ctx context.Context, b *flows.Batch) error {
	k.mu.Lock()
	hold := k.hold
	k.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return k.fail
	}
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

// on returns the batches of one interface with a ledger, in order: one for each of its
// intervals, if those have less than 4096 records.
func (k *kept) on(name string) (all []flows.Batch) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range k.batches {
		if b.Interface == name && b.Ledger != nil {
			all = append(all, b)
		}
	}
	return all
}

// closes holds that the records are those of all packets that rings took, that the
// ledgers close, and that the agent's totals are their sums. The agent has ended.
func (k *kept) closes(t *testing.T, h *host, a *agent.Agent) {
	t.Helper()
	n, l := k.packets()
	records := uint64(0)
	for _, b := range k.batches {
		records += uint64(len(b.Records))
		if b.Start >= b.End {
			t.Errorf("interval from %v to %v", time.Unix(0, b.Start).UTC(), time.Unix(0, b.End).UTC())
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if n != h.queued || l.Packets != h.queued || l.Metered != h.queued || l.Drops != h.dropped || l.Records != records {
		t.Errorf("%d packets and %d dropped became %d in %d records, ledger %+v", h.queued, h.dropped, n, records, l)
	}
	s := a.Status()
	if s.Total != l || s.Exported != records {
		t.Errorf("%d records exported, totals %+v, ledgers %+v", s.Exported, s.Total, l)
	}
	for _, i := range s.Interfaces {
		if i.Err == nil {
			t.Errorf("at the end still capturing on %s", i.Name)
		}
	}
}

// logged keeps what an agent logs.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	return len(p), nil
}

// count returns how many lines have all the texts.
func (l *logged) count(texts ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			n++
		}
	}
	return n
}

func (l *logged) set(c *agent.Config) { c.Log = slog.New(slog.NewTextHandler(l, nil)) }

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
	t.Cleanup(cancel)
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

package agent_test

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weir/agent"
	"weir/capture"
	"weir/capture/afring"
	"weir/capture/capturetest"
	"weir/capture/link"
	"weir/flows"
)

// within returns a function that calls others in the network namespace which the calling
// thread is in now, whatever thread they are called on.
func within(t *testing.T) func(func()) {
	t.Helper()
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return func(fn func()) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // and never unlocked
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				t.Error(err)
				return
			}
			fn()
		}()
		<-done
	}
}

// TestCountersOfTheKernel captures on real interfaces: what each has counted is what the
// agent has metered, what was not IP, and what the kernel dropped. Loopback is one of
// them, which sends and receives each packet, and veth, which counts what is sent into it
// there and at its other end.
func TestCountersOfTheKernel(t *testing.T) {
	capturetest.Namespace(t)
	capturetest.IP(t, "addr flush dev lo") // nobody else talks there
	far, near := capturetest.Cable(t, "s0", "c0")
	lo, err := link.ByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	there := within(t)
	var config afring.Config
	config.NoFilter = true // as weir run has it: what is not IP counts
	rings := make(chan *afring.Ring, 2)
	sink := &kept{}
	a, err := agent.New(agent.Config{
		Host: "test", Interval: time.Second, MaxFlows: 1 << 12, Tracker: flows.TrackerConfig{Idle: time.Minute, Active: time.Hour, Max: 1 << 12},
		Watch: func(ctx context.Context, fn func(link.Event)) (err error) {
			there(func() { err = link.Watch(ctx, fn) })
			return err
		},
		Interfaces: agent.Interfaces{
			Select: agent.Selection{Include: []string{"c0", "lo"}}.Pick, Missing: func([]link.Link) []string { return nil }, Settings: func(link.Link) string { return "" },
			Open: func(l link.Link) (all []capture.Source, err error) {
				there(func() {
					var r *afring.Ring
					if r, err = afring.Open(l, config); err == nil {
						rings <- r
						all = append(all, r)
					}
				})
				return all, err
			},
		},
		Counters: func() (all map[int]link.Counters, err error) {
			there(func() { all, err = link.AllCounters() })
			return all, err
		},
		Sink: sink, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Grace: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- a.Run(ctx) }()
	<-a.Opened()
	one, other := <-rings, <-rings

	arp := capturetest.UDP(60, 0)
	arp[12], arp[13] = 8, 6
	const each = 700
	for second := range 3 {
		for i, l := range []link.Link{far, near, lo} {
			s := capturetest.NewSender(t, l)
			for n := range each {
				frame := capturetest.UDP(100+n, uint64(n))
				if n%10 == i {
					frame = arp
				}
				if err := s.Send(frame); err != nil {
					t.Fatal(err)
				}
			}
			capturetest.Arrived(t, each*(3*second+i+1), one, other)
		}
	}
	cancel()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]flows.NIC{"c0": {PacketsIn: 3 * each, PacketsOut: 3 * each}, "lo": {PacketsIn: 3 * each}} {
		var sum flows.Ledger
		for _, b := range sink.on(name) {
			sum.Add(b.Ledger)
		}
		if sum.NIC.PacketsIn != want.PacketsIn || sum.NIC.PacketsOut != want.PacketsOut || sum.NIC.DropsIn+sum.NIC.DropsOut != 0 && name != "lo" {
			t.Errorf("%s has counted %+v, want %+v", name, sum.NIC, want)
		}
		if n := sum.NIC.PacketsIn + sum.NIC.PacketsOut; n != sum.Metered+sum.NotIP()+sum.Drops || sum.NotIP() != n/10 {
			t.Errorf("%s has counted %d packets, the agent %d metered, %d not IP, %d dropped", name, n, sum.Metered, sum.NotIP(), sum.Drops)
		}
	}
}

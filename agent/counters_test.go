package agent_test

import (
	"errors"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/agent"
	"weir/capture/link"
	"weir/flows"
)

// nics are the counters of interfaces, by index.
type nics struct {
	mu    sync.Mutex
	all   map[int]link.Counters
	fail  error
	asked int
}

func (n *nics) read() (map[int]link.Counters, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	if n.fail != nil {
		return nil, n.fail
	}
	all := map[int]link.Counters{}
	for i, c := range n.all {
		all[i] = c
	}
	return all, nil
}

func (n *nics) set(index int, c link.Counters) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.all == nil {
		n.all = map[int]link.Counters{}
	}
	n.all[index] = c
}

func (n *nics) breaks(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fail = err
}

func (n *nics) config(c *agent.Config) { c.Counters = n.read }

// packets are counters of so many packets.
func packets(in, out uint64) link.Counters {
	return link.Counters{RxPackets: in, TxPackets: out, RxBytes: 100 * in, TxBytes: 100 * out, RxDropped: in / 10, RxMissed: in / 100, TxDropped: out / 10}
}

// counted are the NIC's counts of an interface's intervals.
func counted(k *kept, name string) (all []flows.NIC) {
	for _, b := range k.on(name) {
		all = append(all, b.Ledger.NIC)
	}
	return all
}

func nic(in, out uint64) flows.NIC {
	return flows.NIC{PacketsIn: in, PacketsOut: out, OctetsIn: 100 * in, OctetsOut: 100 * out, DropsIn: in/10 + in/100, DropsOut: out / 10}
}

// TestCounters holds that each interval has what the interface has counted in it, from
// when it was opened to when it was told to end.
func TestCounters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink, n := newHost(), &kept{}, &nics{}
		n.set(1, packets(5000, 700))
		n.set(2, link.Counters{})
		h.add(1)
		h.add(2)
		a, stop := running(t, h, sink, n.config)
		time.Sleep(time.Second)
		n.set(1, packets(5100, 900))
		time.Sleep(10 * time.Second)
		n.set(2, packets(300, 0))
		time.Sleep(10 * time.Second)
		n.set(1, packets(6100, 1000))
		time.Sleep(time.Second)
		ended := make(chan error)
		go func() { ended <- stop() }()
		synctest.Wait() // the rings refuse packets, and read those that are there
		n.set(1, packets(9000, 9000))
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if got, want := counted(sink, "eth1"), []flows.NIC{nic(100, 200), {}, nic(1000, 100)}; !slices.Equal(got, want) {
			t.Errorf("eth1 counted %+v, want %+v", got, want)
		}
		if got, want := counted(sink, "eth2"), []flows.NIC{{}, nic(300, 0), {}}; !slices.Equal(got, want) {
			t.Errorf("eth2 counted %+v, want %+v", got, want)
		}
		if got, want := a.Status().Total.NIC, (flows.NIC{PacketsIn: 1400, PacketsOut: 300, OctetsIn: 140000, OctetsOut: 30000, DropsIn: 154, DropsOut: 30}); got != want {
			t.Errorf("in all %+v, want %+v", got, want)
		}
		if n.asked != 4 { // at the opening, two ends of intervals, the end
			t.Errorf("asked %d times", n.asked)
		}
	})
}

// TestCountersAfresh holds that counters which go back leave nothing in the ledger, and
// least of all numbers that have wrapped around.
func TestCountersAfresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink, n := newHost(), &kept{}, &nics{}
		steps := []link.Counters{packets(1000, 1000), packets(7, 7), packets(17, 7), {RxPackets: math.MaxUint64}, {RxPackets: math.MaxUint64}, packets(1, 1), packets(2, 1)}
		n.set(1, steps[0])
		h.add(1)
		_, stop := running(t, h, sink, n.config)
		time.Sleep(time.Second)
		for _, s := range steps[1:] {
			n.set(1, s)
			time.Sleep(10 * time.Second)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		want := []flows.NIC{{}, {PacketsIn: 10, OctetsIn: 1000, DropsIn: 1}, {}, {}, {}, {PacketsIn: 1, OctetsIn: 100}, {}}
		if got := counted(sink, "eth1"); !slices.Equal(got, want) {
			t.Errorf("counted %+v, want %+v", got, want)
		}
	})
}

// TestCountersUnknown holds that nobody invents counters that cannot be read, and that
// an interval does not get those of the one before.
func TestCountersUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink, log, n := newHost(), &kept{}, &logged{}, &nics{}
		n.set(1, packets(0, 0))
		h.add(1)
		_, stop := running(t, h, sink, func(c *agent.Config) { n.config(c); log.set(c) })
		time.Sleep(time.Second)
		interval := func(in uint64) {
			n.set(1, packets(in, 0))
			h.send(t, "eth1", 1)
			time.Sleep(10 * time.Second)
		}
		interval(1)
		n.breaks(errors.New("no buffer space available"))
		interval(10)
		interval(100)
		n.breaks(nil)
		interval(1000)
		interval(3000)
		n.breaks(errors.New("permission denied"))
		for range 9 {
			interval(5000)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		got := counted(sink, "eth1")
		want := append([]flows.NIC{nic(1, 0), {}, {}, {}, nic(2000, 0)}, make([]flows.NIC, 10)...)
		if !slices.Equal(got, want) {
			t.Errorf("counted %+v, want %+v", got, want)
		}
		if n := log.count("counters cannot be read"); n != 3 { // and then each minute
			t.Errorf("said %d times", n)
		}
	})
}

// TestCountersOfOthers holds that an interface which is gone, and perhaps replaced by
// another with its index, counts no more, and that one which is opened anew counts on.
func TestCountersOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink, n := newHost(), &kept{}, &nics{}
		n.set(1, packets(100, 100))
		n.set(2, packets(100, 100))
		l := h.add(1)
		h.add(2)
		a, stop := running(t, h, sink, n.config)
		time.Sleep(time.Second)
		n.set(1, packets(5000, 5000)) // of the one that takes its place
		h.remove(l)
		h.add(1)
		time.Sleep(time.Second)
		n.set(2, packets(150, 100))
		a.Reload(h.selected(agent.Selection{}, "other")) // closes and opens
		time.Sleep(time.Second)
		n.set(1, packets(5001, 5000))
		n.set(2, packets(180, 100))
		time.Sleep(10 * time.Second)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		sum := map[string]flows.NIC{}
		for _, name := range []string{"eth1", "eth2"} {
			var s flows.NIC
			for _, c := range counted(sink, name) {
				s.Add(&c)
			}
			sum[name] = s
		}
		if got, want := sum["eth1"], (flows.NIC{PacketsIn: 1, OctetsIn: 100}); got != want {
			t.Errorf("eth1 counted %+v, want %+v", got, want)
		}
		if got := sum["eth2"]; got.PacketsIn != 80 || got.OctetsIn != 8000 || got.PacketsOut != 0 {
			t.Errorf("eth2 counted %+v, want 80 packets", got)
		}
	})
}

// TestCountersOfLoopback holds that what is sent and received there counts once.
func TestCountersOfLoopback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink, n := newHost(), &kept{}, &nics{}
		n.set(1, packets(10, 10))
		h.events <- link.Event{Kind: link.Added, Link: link.Link{Index: 1, Name: "lo", Hardware: 772, Up: true, Running: true}} // ARPHRD_LOOPBACK
		_, stop := running(t, h, sink, func(c *agent.Config) {
			n.config(c)
			c.Interfaces = h.selected(agent.Selection{Include: []string{"lo"}}, "")
		})
		time.Sleep(time.Second)
		n.set(1, packets(30, 30))
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if got := counted(sink, "lo"); len(got) != 1 || got[0].PacketsIn != 20 || got[0].PacketsOut != 0 {
			t.Errorf("counted %+v", got)
		}
	})
}

package agent_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/agent"
	"weir/capture/afring"
	"weir/flows"
)

// TestStopUnderLoad ends the agent while packets come: all that a ring took are in the
// records, whatever becomes of the others.
func TestStopUnderLoad(t *testing.T) {
	for _, rings := range []int{1, 3} {
		for _, after := range []time.Duration{1, 100 * time.Millisecond, 9700 * time.Millisecond, 10 * time.Second, 10*time.Second + 1, 34567891234} {
			t.Run(fmt.Sprint(rings, " rings, ", after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h, sink := newHost(), &kept{}
					h.fanout = rings
					for i := range 3 {
						h.add(i + 1)
					}
					began := time.Now()
					a, stop := running(t, h, sink, nil)
					time.Sleep(20 * time.Millisecond)
					over := make(chan struct{})
					var all sync.WaitGroup
					for i := range 3 {
						all.Go(func() {
							for n := 0; ; n++ {
								select {
								case <-over:
									return
								case <-time.After(7 * time.Millisecond):
									for range n % 13 {
										h.offer(t, fmt.Sprintf("eth%d", i+1), n%rings, request(n%500))
									}
								}
							}
						})
					}
					time.Sleep(time.Until(began.Add(max(after, 21*time.Millisecond))))
					stopped := time.Now()
					if err := stop(); err != nil {
						t.Fatal(err)
					}
					if took := time.Since(stopped); took > time.Second {
						t.Errorf("it took %v", took)
					}
					close(over)
					all.Wait()
					sink.closes(t, h, a)
					for i := range 3 {
						contiguous(t, sink, fmt.Sprintf("eth%d", i+1), 10*time.Second)
					}
				})
			})
		}
	}
}

// TestDrops floods rings that are too small: what it drops is counted, and nothing else
// is lost.
func TestDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{}
		h.config = afring.Config{BlockSize: 128 << 10, Blocks: 2}
		h.pause = time.Millisecond
		h.add(1)
		l := h.add(2)
		a, stop := running(t, h, sink, nil)
		time.Sleep(time.Second / 2)
		for second := range 25 {
			for i := range 2000 {
				h.offer(t, "eth1", 0, request(i%100))
				h.offer(t, "eth2", 0, request(i%100))
			}
			if second == 14 {
				h.remove(l)
				l = h.add(2)
			}
			time.Sleep(time.Second)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if h.dropped == 0 {
			t.Error("nothing was dropped")
		}
		sink.closes(t, h, a)
	})
}

// TestStopReadsAll ends the agent when rings are full and those who read them are slow.
func TestStopReadsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{}
		h.pause = 20 * time.Millisecond // per 96 packets
		h.fanout = 2
		h.add(1)
		a, stop := running(t, h, sink, nil)
		time.Sleep(time.Second / 2)
		for i := range 8000 {
			h.offer(t, "eth1", i%2, request(i))
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if h.queued < 2*96*10 || a.Status().Total.Drops != h.dropped {
			t.Errorf("%d queued, %d dropped", h.queued, h.dropped)
		}
		sink.closes(t, h, a)
	})
}

// TestUnreadIsLost holds that packets which a ring took and nobody has read, because it
// broke, are in the ledger.
func TestUnreadIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{}
		h.add(1)
		a, stop := running(t, h, sink, nil)
		time.Sleep(time.Second / 2)
		for i := range 7 {
			h.send(t, "eth1", i)
		}
		h.group("eth1")[0].breaks() // before the block is handed over
		time.Sleep(time.Minute)
		for i := range 3 {
			h.send(t, "eth1", i)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		n, l := sink.packets()
		if n != 3 || l.Packets != 3 || l.Drops != 7 {
			t.Errorf("%d packets in records, ledger %+v", n, l)
		}
		if s := a.Status(); s.Total != l {
			t.Errorf("totals %+v, ledgers %+v", s.Total, l)
		}
	})
}

// TestTotals holds that the totals are the sums of the ledgers, at the end of every
// interval, while interfaces come and go.
func TestTotals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{}
		h.add(1)
		a, stop := running(t, h, sink, nil)
		time.Sleep(time.Second / 2)
		started, before := uint64(0), uint64(0)
		count := func() {
			t.Helper()
			n := a.Status().Total.Packets
			if n < before {
				t.Errorf("%d packets were counted, and then %d", before, n)
			}
			before = n
		}
		for i := range 60 {
			l := h.add(2 + i)
			time.Sleep(time.Second / 4)
			for flow := range i%5 + 1 {
				h.send(t, l.Name, flow)
				started++
			}
			h.send(t, "eth1", i%3)
			time.Sleep(time.Duration(i%7) * time.Second / 2)
			count()
			if i%4 != 0 {
				h.remove(l)
			}
			time.Sleep(time.Second)
			count()
			if time.Now().UnixNano()%int64(10*time.Second) < int64(time.Second) {
				_, l := sink.packets()
				if s := a.Status(); s.Total != l {
					t.Errorf("totals %+v, ledgers %+v", s.Total, l)
				}
			}
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		sink.closes(t, h, a)
		if s := a.Status(); s.Flows != started+3 {
			t.Errorf("%d flows, not %d", s.Flows, started+3)
		}
	})
}

// TestCauses holds that what is not IP, or cannot be decoded, is in the ledger.
func TestCauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{}
		h.config.NoFilter = true
		h.add(1)
		a, stop := running(t, h, sink, nil)
		time.Sleep(time.Second / 2)
		arp, short := request(1), request(1)
		arp.Data[12], arp.Data[13] = 8, 6
		short.Data = short.Data[:20]
		for range 20 {
			for range 3 {
				h.offer(t, "eth1", 0, arp)
			}
			h.offer(t, "eth1", 0, short)
			h.offer(t, "eth1", 0, request(1))
			time.Sleep(time.Second)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		n, l := sink.packets()
		if n != 20 || l.Packets != 100 || l.Metered != 20 || l.NotIP() != 60 || l.DecodeErrors() != 20 {
			t.Errorf("%d packets in records, ledger %+v", n, l)
		}
		if s := a.Status(); s.Total != l {
			t.Errorf("totals %+v, ledgers %+v", s.Total, l)
		}
	})
}

// TestManyRecords has more records in an interval than a batch holds.
func TestManyRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{}
		h.config = afring.Config{BlockSize: 1 << 20, Blocks: 4}
		h.add(1)
		a, stop := running(t, h, sink, nil)
		time.Sleep(time.Second / 2)
		const each = 20_000
		for range 3 {
			for flow := range each {
				h.send(t, "eth1", flow)
			}
			time.Sleep(10 * time.Second)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		sink.closes(t, h, a)
		var ledger flows.Ledger
		for _, b := range sink.on("eth1") {
			ledger.Add(b.Ledger)
		}
		if ledger.Records != 3*each || a.Status().Flows != each {
			t.Errorf("%+v, %d flows", ledger, a.Status().Flows)
		}
	})
}

// TestConfig holds what New refuses, and what is said before Run and after it.
func TestConfig(t *testing.T) {
	for _, c := range []agent.Config{{Interval: time.Second}, {Interval: time.Second - 1, MaxFlows: 1}, {}} {
		if _, err := agent.New(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{}
		a, stop := running(t, h, sink, nil)
		time.Sleep(time.Hour)
		if !a.Alive() {
			t.Error("not alive")
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if a.Alive() {
			t.Error("alive, although it is over")
		}
	})
	a, err := agent.New(agent.Config{Interval: time.Second, MaxFlows: 1, Sink: &kept{}})
	if err != nil {
		t.Fatal(err)
	}
	if a.Alive() || len(a.Status().Interfaces) != 0 {
		t.Error("alive before it runs")
	}
}

package agent_test

import (
	"testing"
	"testing/synctest"
	"time"

	"weir/agent"
	"weir/flows"
)

// TestFanout has the directions of each flow in different rings: they are one record.
func TestFanout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{}
		h.fanout = 3
		h.add(1)
		a, stop := running(t, h, sink, nil)
		time.Sleep(time.Second / 2)
		const seconds, each = 25, 30
		for second := range seconds {
			for flow := range each {
				h.offer(t, "eth1", (flow+second)%3, request(flow))
				time.Sleep(time.Millisecond)
				h.offer(t, "eth1", (flow+second+1)%3, reply(flow))
				h.offer(t, "eth1", (flow+second+2)%3, reply(flow))
			}
			time.Sleep(time.Second - each*time.Millisecond)
		}
		if s := a.Status(); len(s.Interfaces) != 1 || s.Interfaces[0].Rings != 3 || s.Interfaces[0].Flows != 2*each || s.Interfaces[0].Stats.Packets != 3*seconds*each {
			t.Errorf("status %+v", s.Interfaces)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		sink.closes(t, h, a)
		contiguous(t, sink, "eth1", 10*time.Second)
		if s := a.Status(); s.Flows != each {
			t.Errorf("%d flows", s.Flows)
		}
		for _, b := range sink.on("eth1") {
			if len(b.Records) != each {
				t.Errorf("%d records", len(b.Records))
			}
			for _, r := range b.Records {
				if r.Key.DstPort() != 53 || r.Forward.Packets == 0 || r.Reverse.Packets != 2*r.Forward.Packets || r.Initiator != flows.InitiatorPort {
					t.Errorf("record %+v", r)
				}
			}
		}
	})
}

// TestFanoutEnds has one ring of a group end: the others end too, all that they have is
// read, and the interface is captured on again, by all rings.
func TestFanoutEnds(t *testing.T) {
	for _, c := range []struct {
		about string
		end   func(*fragile)
		said  string
	}{
		{"end", func(f *fragile) { f.End() }, "EOF"},
		{"broken", func(f *fragile) { f.breaks() }, "ring is broken"},
		{"gone", func(f *fragile) { f.LinkGone() }, "interface is gone"},
	} {
		t.Run(c.about, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, sink, log := newHost(), &kept{}, &logged{}
				h.fanout = 3
				h.add(1)
				a, stop := running(t, h, sink, log.set)
				time.Sleep(time.Second / 2)
				for round := range 6 {
					for i := range 100 {
						h.offer(t, "eth1", i%3, request(i))
						h.offer(t, "eth1", (i+1)%3, reply(i))
					}
					time.Sleep(time.Second)
					// Into the others packets come until they are told.
					h.offer(t, "eth1", (round+1)%3, request(1))
					c.end(h.group("eth1")[round%3])
					h.offer(t, "eth1", (round+2)%3, request(1))
					time.Sleep(40 * time.Second) // it holds, so that the next pause is short
					if err := trouble(t, a, "eth1"); err != nil || h.openings("eth1") != round+2 || a.Status().Interfaces[0].Rings != 3 {
						t.Errorf("round %d: %v, opened %d times", round, err, h.openings("eth1"))
					}
					if n := log.count("eth1", c.said); n != round+1 {
						t.Errorf("round %d: said %d times", round, n)
					}
				}
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				sink.closes(t, h, a)
				forced := 0
				for _, b := range sink.on("eth1") {
					conversations := map[uint16]bool{}
					for _, r := range b.Records {
						if port := r.Key.SrcPort(); r.Key.DstPort() != 53 || conversations[port] {
							t.Errorf("record %+v", r)
						}
						conversations[r.Key.SrcPort()] = true
						if r.EndReason == flows.EndForced {
							forced++
						}
					}
				}
				// All packets of a round are within one interval or two.
				if forced < 6 || forced > 6*100 {
					t.Errorf("%d records ended by force", forced)
				}
			})
		})
	}
}

// TestFull gives a table more flows than it has room for: what has none is summed up,
// and the sums are exact.
func TestFull(t *testing.T) {
	for _, rings := range []int{1, 3} {
		for _, watched := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				h, sink := newHost(), &kept{}
				h.fanout = rings
				h.add(1)
				a, stop := running(t, h, sink, func(c *agent.Config) { c.MaxFlows = 10; c.Tracker.Max = 10 })
				time.Sleep(time.Second / 2)
				if watched {
					defer look(t, a, &seconds{})()
				}
				const each = 100
				for range 25 {
					for flow := range each {
						h.offer(t, "eth1", flow%rings, request(flow))
						h.offer(t, "eth1", (flow+1)%rings, request(flow))
					}
					time.Sleep(time.Second)
				}
				if s := a.Status(); s.Interfaces[0].Flows != 10 || s.Interfaces[0].Most != 10 || s.Total.Overflow == 0 {
					t.Errorf("%+v", s.Interfaces[0])
				}
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				sink.closes(t, h, a)
				for _, b := range sink.on("eth1") {
					var lacked, octets uint64
					whole := 0
					for _, r := range b.Records {
						octets += r.Forward.Octets + r.Reverse.Octets
						if r.EndReason == flows.EndLack {
							lacked += r.Forward.Packets
						} else {
							whole++
						}
					}
					if lacked != b.Ledger.Overflow || lacked == 0 || octets != b.Ledger.Octets || whole != 10 {
						t.Errorf("%d rings: %d flows, and %d packets without room, ledger %+v", rings, whole, lacked, b.Ledger)
					}
					// Of one ring the first ten have all their room from the beginning.
					if rings == 1 && b.Ledger.Overflow != b.Ledger.Packets*9/10 {
						t.Errorf("%d of %d packets found no room", b.Ledger.Overflow, b.Ledger.Packets)
					}
				}
			})
		}
	}
}

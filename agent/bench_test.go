package agent

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"weir/capture"
	"weir/capture/afring"
	"weir/capture/filter"
	"weir/capture/mock"
	"weir/capture/socket"
	"weir/flows"
)

// BenchmarkRotation has a ring's goroutine meter packets of many flows as fast as it
// can, while its table is taken every 10 ms, which is a thousand times as often as an
// agent does - of a million flows every second, by when each was seen - or not at all. b.N counts packets. longest-stall-us is the longest time
// that packets had to wait for one of the exchanges, on a processor that others use, too.
func BenchmarkRotation(b *testing.B) {
	for _, c := range []struct {
		flows int
		often time.Duration
	}{{1000, 10 * time.Millisecond}, {16_000, 10 * time.Millisecond}, {1_000_000, time.Second}} {
		for _, every := range []time.Duration{0, c.often} {
			name := "never"
			if every > 0 {
				name = every.String()
			}
			b.Run(fmt.Sprintf("flows=%d/%s", c.flows, name), func(b *testing.B) { benchmarkRotation(b, c.flows, every) })
		}
	}
}

func benchmarkRotation(b *testing.B, n int, every time.Duration) {
	a := &Agent{cfg: Config{MaxFlows: 2 << 20}, decoder: flows.NewDecoder(nil), ports: map[int]*port{}}
	src := endless(b, n)
	p := &port{sources: []capture.Source{src}, tables: make(chan *flows.Table, 4)}
	p.size.Store(int64(n))
	r := newRing(src, flows.NewMeter(a.decoder, p.table(a.cfg.MaxFlows)), &a.stalls)
	p.rings = []*ring{r}
	a.ports[1] = p
	b.ReportAllocs()
	b.ResetTimer()
	go r.run()
	ticks := time.NewTicker(max(every, time.Millisecond))
	defer ticks.Stop()
	var metered uint64
	for src.Stats().Packets < uint64(b.N) {
		<-ticks.C
		if every == 0 {
			continue
		}
		a.collect(false, 0)
		metered += p.part.ledger.Packets
		p.recycle(p.part.table)
		p.part = filled{}
	}
	b.StopTimer()
	packets := src.Stats().Packets
	b.ReportMetric(float64(b.Elapsed())/float64(packets), "ns/packet")
	r.end()
	<-r.ended
	metered += r.last.ledger.Packets
	if s := src.Stats(); metered != s.Packets {
		b.Errorf("%d packets of %d were metered", metered, s.Packets)
	}
	if every > 0 {
		stalls, cuts := a.stalls.snapshot(), a.cuts.snapshot()
		b.ReportMetric(float64(stalls.Max)/1e3, "longest-stall-us")
		b.ReportMetric(float64(stalls.Sum)/float64(max(stalls.Count, 1)), "ns/stall")
		b.ReportMetric(float64(cuts.Max)/1e3, "longest-cut-us")
	}
}

// endless returns a ring that is always full of packets of so many flows.
func endless(b *testing.B, n int) *afring.Ring {
	b.Helper()
	m, err := mock.NewRing("bench0", capture.LinkEthernet, afring.Config{
		Config: socket.Config{CaptureLength: filter.Fixed(64)}, BlockSize: 1 << 20, Blocks: max(4, n/6000+1), // of 160 octets a packet
	})
	if err != nil {
		b.Fatal(err)
	}
	packets := make([]capture.Packet, n)
	for i := range packets {
		from := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		packets[i] = mock.Ethernet().IPv4(from, netip.AddrFrom4([4]byte{10, 99, 0, 1})).UDP(40000, 53).Payload(make([]byte, 100)).Packet()
		packets[i].Time = 1e18
	}
	if err := m.Endless(packets); err != nil {
		b.Fatal(err)
	}
	return m.Source()
}

package mock_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/capture"
	"weir/capture/afring"
	"weir/capture/filter"
	"weir/capture/mock"
	"weir/capture/socket"
)

func newRing(t testing.TB, link capture.LinkType, c afring.Config) *mock.Ring {
	t.Helper()
	m, err := mock.NewRing("mock0", link, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Source().Close() })
	return m
}

// small is a ring that is soon full.
func small() afring.Config {
	return afring.Config{BlockSize: 4096, Blocks: 3, Config: socket.Config{CaptureLength: filter.Fixed(1600), NoFilter: true}}
}

func packet(number, size int) capture.Packet {
	p := capture.Packet{Data: make([]byte, size), WireLen: uint32(size), Type: capture.PacketHost, LinkType: capture.LinkEthernet, Time: int64(number) + 1e18, RxHash: uint32(number)}
	p.Data[12], p.Data[14] = 8, 0x45
	if size >= 30 {
		binary.BigEndian.PutUint64(p.Data[22:], uint64(number))
	}
	return p
}

// drain reads to the end and returns copies.
func drain(t testing.TB, src capture.Source) (all []capture.Packet) {
	t.Helper()
	r := capture.NewReader(src)
	for {
		var p capture.Packet
		err := r.NextPacket(&p)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// TestModel puts packets of all sizes through a ring far too small for them, with a
// reader that is slow by chance: each is delivered as it was, filtered, or dropped.
func TestModel(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m := newRing(t, capture.LinkEthernet, small())
		var want []capture.Packet
		m.OnPacket(func(p *capture.Packet) { want = append(want, *p) })
		var got []capture.Packet
		verdicts := map[mock.Verdict]int{}
		const count = 3000
		for i := range count {
			p := packet(i, 15+rng.IntN(1500))
			if rng.IntN(10) == 0 {
				p.Type = capture.PacketOtherHost // which nobody asked for
			}
			verdicts[m.Add(&p)]++
			if rng.IntN(30) == 0 {
				m.Flush()
				if packets, err := m.Source().NextBatch(); err != nil {
					t.Fatal(err)
				} else {
					for _, p := range packets {
						p.Data = bytes.Clone(p.Data)
						got = append(got, p)
					}
				}
			}
		}
		m.End()
		got = append(got, drain(t, m.Source())...)
		s := m.Source().Stats()
		if int(s.Packets) != len(got) || len(got) != verdicts[mock.Queued] || int(s.Drops) != verdicts[mock.Dropped] ||
			int(s.Filtered) != verdicts[mock.Filtered] || s.Packets+s.Drops+s.Filtered != count || s.Received != s.Packets+s.Drops || s.Drops == 0 || s.Freezes == 0 {
			t.Fatalf("seed %d: %d delivered, %v, %+v", seed, len(got), verdicts, s)
		}
		for i := range got {
			if !bytes.Equal(got[i].Data, want[i].Data) || got[i].Time != want[i].Time || got[i].RxHash != want[i].RxHash || got[i].WireLen != want[i].WireLen {
				t.Fatalf("seed %d: packet %d is %+v, want %+v", seed, i, got[i], want[i])
			}
		}
	}
}

// TestRetireTimeout holds that a lone packet arrives when the block's time is over.
func TestRetireTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := small()
		c.RetireTimeout = 30 * time.Millisecond
		m := newRing(t, capture.LinkEthernet, c)
		p := packet(1, 100)
		begin := time.Now()
		m.Add(&p)
		packets, err := m.Source().NextBatch()
		if took := time.Since(begin); err != nil || len(packets) != 1 || took != 30*time.Millisecond {
			t.Fatalf("%d packets after %v, %v", len(packets), took, err)
		}
		begin = time.Now()
		packets, err = m.Source().NextBatch()
		if took := time.Since(begin); err != nil || len(packets) != 0 || took != time.Second {
			t.Fatalf("idle: %d packets after %v, %v", len(packets), took, err)
		}
		m.LinkGone()
		if _, err := m.Source().NextBatch(); !errors.Is(err, capture.ErrLinkGone) {
			t.Fatal(err)
		}
	})
}

// TestInterrupts unblocks and closes a reader that waits.
func TestInterrupts(t *testing.T) {
	m := newRing(t, capture.LinkEthernet, small())
	var wg sync.WaitGroup
	results := make(chan error)
	wg.Go(func() {
		for {
			_, err := m.Source().NextBatch()
			if err != nil {
				results <- err
			}
			if errors.Is(err, capture.ErrClosed) {
				return
			}
		}
	})
	for range 100 {
		m.Source().Unblock()
		if err := <-results; !errors.Is(err, capture.ErrUnblocked) {
			t.Fatal(err)
		}
	}
	wg.Go(func() { m.Source().Close() })
	if err := <-results; !errors.Is(err, capture.ErrClosed) {
		t.Fatal(err)
	}
	wg.Wait()
	p := packet(1, 60)
	if v := m.Add(&p); v != mock.Ended {
		t.Fatalf("after Close: %v", v)
	}
}

// TestEndless reads more rounds than the ring has blocks.
func TestEndless(t *testing.T) {
	m := newRing(t, capture.LinkEthernet, small())
	given := map[int]capture.Packet{60: packet(1, 60), 300: packet(2, 300)} // by length
	if err := m.Endless([]capture.Packet{given[60], given[300]}); err != nil {
		t.Fatal(err)
	}
	if v := m.Add(new(given[60])); v != mock.Ended {
		t.Fatalf("one more: %v", v)
	}
	n := 0
	for n < 10000 {
		packets, err := m.Source().NextBatch()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range packets {
			if want := given[len(p.Data)]; !bytes.Equal(p.Data, want.Data) || p.Time != want.Time {
				t.Fatalf("packet %d: %+v", n, p)
			}
			n++
		}
	}
	if s := m.Source().Stats(); s.Drops != 0 || s.Packets != uint64(n) {
		t.Fatalf("%+v", s)
	}
}

// TestBatchAllocates holds that reading a ring allocates nothing.
func TestBatchAllocates(t *testing.T) {
	m := newRing(t, capture.LinkEthernet, afring.Config{BlockSize: 1 << 20, Blocks: 2, Config: socket.Config{CaptureLength: filter.Fixed(64)}})
	if err := m.Endless([]capture.Packet{packet(1, 60)}); err != nil {
		t.Fatal(err)
	}
	// Of a round of some 13,000 packets, so that waiting, where the mock may, is not in it.
	if n := testing.AllocsPerRun(40, func() {
		if _, err := m.Source().NextBatch(); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Fatalf("%v allocations a batch", n)
	}
}

// TestEndlessRefused holds that packets of which none gets in are no endless loop.
func TestEndlessRefused(t *testing.T) {
	m := newRing(t, capture.LinkEthernet, afring.Config{})
	arp := packet(1, 60)
	arp.Data[13] = 6
	for _, packets := range [][]capture.Packet{nil, {arp}} {
		if err := m.Endless(packets); err == nil {
			t.Fatal("no error")
		}
	}
}

// TestCloseWhileAdding closes rings under those who add packets and those who read
// them.
func TestCloseWhileAdding(t *testing.T) {
	for range 50 {
		m := newRing(t, capture.LinkEthernet, small())
		var wg sync.WaitGroup
		started := make(chan struct{}, 3)
		wg.Go(func() {
			for i := 0; ; i++ {
				p := packet(i, 60+i%1000)
				if m.Add(&p) == mock.Ended {
					return
				}
			}
		})
		wg.Go(func() {
			for i := 0; ; i++ {
				p := packet(i, 60)
				if v, err := m.AddWait(t.Context(), &p); err != nil {
					if v != mock.Ended || !errors.Is(err, capture.ErrClosed) {
						t.Errorf("%v, %v", v, err)
					}
					return
				}
			}
		})
		wg.Go(func() {
			for {
				packets, err := m.Source().NextBatch()
				if err != nil {
					if !errors.Is(err, capture.ErrClosed) {
						t.Error(err)
					}
					return
				}
				for i := range packets {
					if d := packets[i].Data; len(d) < 60 || d[14] != 0x45 {
						t.Errorf("packet of % x", d)
					}
				}
				select {
				case started <- struct{}{}:
				default:
				}
			}
		})
		<-started
		if err := m.Source().Close(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
	}
}

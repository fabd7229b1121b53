package mock_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/capture"
	"weir/capture/afring"
	"weir/capture/filter"
	"weir/capture/mock"
	"weir/capture/pcap"
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
		p, err := r.NextPacket(capture.Packet{})
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

// TestMetadata holds that what the kernel says of a packet comes through.
func TestMetadata(t *testing.T) {
	c := small()
	c.Promiscuous = true
	m := newRing(t, capture.LinkEthernet, c)
	want := []capture.Packet{
		{VLANTCI: 7, VLANTPID: 0x88a8, Type: capture.PacketOutgoing},
		{VLANTCI: 0, VLANTPID: 0x8100, Type: capture.PacketOtherHost},
		{GSOSize: 1448, GSOHeader: 66, WireLen: 65226, Type: capture.PacketHost},
		{GSOSize: 500, Type: capture.PacketBroadcast},
		{RxHash: 77, Type: capture.PacketMulticast},
	}
	for i := range want {
		want[i].Data, want[i].Time, want[i].LinkType = packet(i, 80).Data, int64(i)*1e9+5, capture.LinkEthernet
		want[i].WireLen = max(want[i].WireLen, 80)
		if v := m.Add(&want[i]); v != mock.Queued {
			t.Fatalf("packet %d: %v", i, v)
		}
	}
	m.End()
	got := drain(t, m.Source())
	if len(got) != len(want) {
		t.Fatalf("%d packets", len(got))
	}
	for i := range got {
		if !bytes.Equal(got[i].Data, want[i].Data) {
			t.Fatalf("packet %d: % x", i, got[i].Data)
		}
		got[i].Data, want[i].Data = nil, nil
		if g, w := got[i], want[i]; g.VLANTCI != w.VLANTCI || g.VLANTPID != w.VLANTPID || g.GSOSize != w.GSOSize || g.GSOHeader != w.GSOHeader ||
			g.WireLen != w.WireLen || g.Type != w.Type || g.RxHash != w.RxHash || g.Time != w.Time || g.Segments() != w.Segments() {
			t.Fatalf("packet %d: %+v, want %+v", i, g, w)
		}
	}
}

// TestPipe puts every capture of testdata through a ring, and through two, one after
// the other: out comes what is in the file.
func TestPipe(t *testing.T) {
	paths, err := filepath.Glob("../../testdata/*.pcap*")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d captures, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			f, err := pcap.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var want []capture.Packet
			for {
				batch, err := f.NextBatch()
				if err != nil {
					break // cut.pcap is damaged
				}
				for _, p := range batch {
					p.Data = bytes.Clone(p.Data)
					want = append(want, p)
				}
			}
			if len(want) == 0 {
				t.Fatal("no packets")
			}
			c := afring.Config{Config: socket.Config{NoFilter: true, Promiscuous: true}}
			first := newRing(t, want[0].LinkType, c)
			second := newRing(t, want[0].LinkType, c)
			list := want
			src := sourceFunc(func() ([]capture.Packet, error) {
				if len(list) == 0 {
					return nil, io.EOF
				}
				n := min(len(list), 100)
				list = list[n:]
				return want[len(want)-len(list)-n : len(want)-len(list)], nil
			})
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := first.Pipe(context.Background(), src); err != nil {
					t.Error(err)
				}
				first.End()
			})
			wg.Go(func() {
				if err := second.Pipe(context.Background(), first.Source()); err != nil {
					t.Error(err)
				}
				second.End()
			})
			got := drain(t, second.Source())
			wg.Wait()
			if len(got) != len(want) {
				t.Fatalf("%d packets, want %d", len(got), len(want))
			}
			for i := range got {
				if !bytes.Equal(got[i].Data, want[i].Data) || got[i].Time != want[i].Time || got[i].WireLen != max(want[i].WireLen, uint32(len(want[i].Data))) {
					t.Fatalf("packet %d: %+v, want %+v", i, got[i], want[i])
				}
			}
		})
	}
}

type sourceFunc func() ([]capture.Packet, error)

func (f sourceFunc) NextBatch() ([]capture.Packet, error) { return f() }
func (f sourceFunc) Interfaces() []capture.Interface      { return []capture.Interface{{Name: "func"}} }
func (f sourceFunc) Stats() capture.Stats                 { return capture.Stats{} }
func (f sourceFunc) Unblock() error                       { return nil }
func (f sourceFunc) Close() error                         { return nil }

func TestChain(t *testing.T) {
	var sources []capture.Source
	for i := range 3 {
		m := newRing(t, capture.LinkEthernet, small())
		for n := range 5 {
			p := packet(10*i+n, 60)
			m.Add(&p)
		}
		m.End()
		sources = append(sources, m.Source())
	}
	c := mock.NewChain(sources...)
	got := drain(t, c)
	for i, p := range got {
		if int(p.Interface) != i/5 || int(p.Time-1e18) != 10*(i/5)+i%5 {
			t.Fatalf("packet %d: %+v", i, p)
		}
	}
	if s := c.Stats(); len(got) != 15 || s.Packets != 15 || s.Received != 15 || len(c.Interfaces()) != 3 {
		t.Fatalf("%d packets, %+v", len(got), s)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestEndless reads more rounds than the ring has blocks.
func TestEndless(t *testing.T) {
	m := newRing(t, capture.LinkEthernet, small())
	if err := m.Endless([]capture.Packet{packet(1, 60), packet(2, 300)}); err != nil {
		t.Fatal(err)
	}
	n := 0
	for n < 10000 {
		packets, err := m.Source().NextBatch()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range packets {
			if want := packet(1+n%2, 60+n%2*240); !bytes.Equal(p.Data, want.Data) && len(p.Data) != 60 && len(p.Data) != 300 {
				t.Fatalf("packet %d: % x", n, p.Data)
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

// FuzzBroken breaks the layout of a ring that is full of packets: reading it gives
// packets within the ring or an error, and never a fault.
func FuzzBroken(f *testing.F) {
	f.Add(uint16(8), uint32(0), uint16(48), uint32(1<<31))
	f.Add(uint16(12), uint32(1<<30), uint16(72), uint32(4000))
	f.Add(uint16(16), uint32(4090), uint16(60), uint32(1<<32-1))
	f.Add(uint16(20), uint32(1<<32-1), uint16(48), uint32(0))
	f.Fuzz(func(t *testing.T, at1 uint16, v1 uint32, at2 uint16, v2 uint32) {
		p := &pages{}
		r, memory, err := afring.Connect(p, capture.Interface{Name: "broken", LinkType: capture.LinkEthernet}, small())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		frame := func(at, next int) {
			binary.NativeEndian.PutUint32(memory[at:], uint32(next))
			binary.NativeEndian.PutUint32(memory[at+12:], 60)
			binary.NativeEndian.PutUint32(memory[at+16:], 60)
			binary.NativeEndian.PutUint16(memory[at+24:], 92)
		}
		for i, v := range map[int]uint32{0: 2, 12: 3, 16: 48, 20: 48 + 3*152} {
			binary.NativeEndian.PutUint32(memory[i:], v)
		}
		binary.NativeEndian.PutUint64(memory[24:], 1)
		frame(48, 152)
		frame(200, 152)
		frame(352, 0)
		binary.NativeEndian.PutUint32(memory[int(at1)%4090:], v1)
		binary.NativeEndian.PutUint32(memory[int(at2)%4090:], v2)
		afring.HandOver(memory)
		total := 0
		for range 10 {
			packets, err := r.NextBatch()
			for _, q := range packets {
				for _, octet := range q.Data {
					total += int(octet)
				}
				q.Network()
				q.Segments()
			}
			if err != nil {
				if !errors.Is(err, capture.ErrBroken) && err != io.EOF {
					t.Fatal(err)
				}
				return
			}
		}
		t.Fatal("more than three packets, an error and the end")
	})
}

// pages is a port at which nothing arrives.
type pages struct{}

func (*pages) Wait(ready func() bool, _ time.Time) error {
	if ready() {
		return nil
	}
	return io.EOF
}
func (*pages) Wake()                 {}
func (*pages) Counts() socket.Counts { return socket.Counts{} }
func (*pages) Close() error          { return nil }

package mock_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"weir/capture"
	"weir/capture/afpacket"
	"weir/capture/afring"
	"weir/capture/filter"
	"weir/capture/mock"
	"weir/capture/socket"
)

func newSocket(t testing.TB, link capture.LinkType, c afpacket.Config) *mock.Socket {
	t.Helper()
	m, err := mock.NewSocket("mock0", link, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Source().Close() })
	return m
}

// subject is a ring or a socket.
type subject struct {
	feeder
	reader capture.Source
}

type feeder interface {
	Add(*capture.Packet) mock.Verdict
	End()
}

func both(t testing.TB, link capture.LinkType, c socket.Config) []subject {
	t.Helper()
	ring := newRing(t, link, afring.Config{Config: c, BlockSize: 128 << 10, Blocks: 2})
	sock := newSocket(t, link, afpacket.Config{Config: c})
	return []subject{{ring, ring.Source()}, {sock, sock.Source()}}
}

// TestSocketModel is TestModel for sockets.
func TestSocketModel(t *testing.T) {
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 2))
		m := newSocket(t, capture.LinkEthernet, afpacket.Config{BufferSize: 100_000, Config: socket.Config{CaptureLength: filter.Fixed(500)}})
		var want, got []capture.Packet
		m.OnPacket(func(p *capture.Packet) { want = append(want, *p) })
		const count = 3000
		for i := range count {
			p := packet(i, 15+rng.IntN(1500))
			if rng.IntN(10) == 0 {
				p.Type = capture.PacketOtherHost
			}
			m.Add(&p)
			if rng.IntN(30) == 0 {
				packets, err := m.Source().NextBatch()
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range packets {
					p.Data = bytes.Clone(p.Data)
					got = append(got, p)
				}
			}
		}
		m.End()
		got = append(got, drain(t, m.Source())...)
		s := m.Source().Stats()
		if int(s.Packets) != len(got) || len(got) != len(want) || s.Packets+s.Drops+s.Filtered != count || s.Received != s.Packets+s.Drops || s.Drops == 0 || s.Filtered == 0 {
			t.Fatalf("seed %d: %d delivered, %d queued, %+v", seed, len(got), len(want), s)
		}
		for i := range got {
			if g, w := got[i], want[i]; !bytes.Equal(g.Data, w.Data[:min(len(w.Data), 500)]) || g.Time != w.Time || g.WireLen != w.WireLen {
				t.Fatalf("seed %d: packet %d is %+v, want %+v", seed, i, g, w)
			}
		}
	}
}

// TestSocketWaits holds that a socket's reader has a packet at once, ticks, waits for
// what is under way when the interface is gone, and then ends; and that AddWait
// waits for it.
func TestSocketWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newSocket(t, capture.LinkEthernet, afpacket.Config{BufferSize: 1})
		p := packet(1, 100)
		go func() {
			for range 3 { // of which the buffer holds one
				if _, err := m.AddWait(t.Context(), &p); err != nil {
					t.Error(err)
				}
			}
		}()
		begin := time.Now()
		for range 3 {
			if packets, err := m.Source().NextBatch(); err != nil || len(packets) != 1 {
				t.Fatalf("%d packets, %v", len(packets), err)
			}
		}
		if took := time.Since(begin); took != 0 {
			t.Fatalf("they took %v", took)
		}
		if packets, err := m.Source().NextBatch(); err != nil || len(packets) != 0 || time.Since(begin) != time.Second {
			t.Fatalf("idle: %d packets after %v, %v", len(packets), time.Since(begin), err)
		}
		m.Source().Unblock()
		if _, err := m.Source().NextBatch(); !errors.Is(err, capture.ErrUnblocked) {
			t.Fatal(err)
		}
		m.LinkGone()
		if _, err := m.Source().NextBatch(); !errors.Is(err, capture.ErrLinkGone) {
			t.Fatal(err)
		}
		if s := m.Source().Stats(); s != (capture.Stats{Packets: 3, Received: 3}) {
			t.Fatalf("%+v", s)
		}
	})
}

package afpacket_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"weir/capture"
	"weir/capture/afpacket"
	"weir/capture/capturetest"
	"weir/capture/filter"
)

// udp returns an Ethernet frame of size octets.
func udp(size int) []byte { return capturetest.UDP(size, 1) }

// TestPackets holds what a source says of packets against what was sent, with a
// capture length that cuts them.
func TestPackets(t *testing.T) {
	capturetest.Namespace(t)
	left, right := capturetest.Cable(t, "left", "right")
	s, err := afpacket.NewSource("right", afpacket.CaptureLength(filter.Fixed(80)), afpacket.BufferSize(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	send := capturetest.NewSender(t, left)
	begin := time.Now()
	const count = 300
	for i := range count {
		if err := send.Send(udp(60 + i)); err != nil {
			t.Fatal(err)
		}
		if err := send.Send(append(make([]byte, 12), 0x08, 0x06, 0, 1)); err != nil { // ARP
			t.Fatal(err)
		}
		if i%100 == 0 {
			capturetest.Arrived(t, i+1, s)
		}
	}
	r := capture.NewReader(s)
	for i := range count {
		p, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		want := udp(60 + i)
		if !bytes.Equal(p.Data, want[:min(80, len(want))]) || int(p.WireLen) != len(want) || p.GSOSize != 0 || p.VLANTPID != 0 || p.LinkType != capture.LinkEthernet {
			t.Fatalf("packet %d: %+v", i, p)
		}
		if at := time.Unix(0, p.Time); at.Before(begin) || at.After(time.Now()) {
			t.Fatalf("packet %d is of %v", i, at)
		}
	}
	want := capture.Stats{Packets: count, Received: count}
	s.Close()
	if got := s.Stats(); got != want {
		t.Fatalf("%+v, want %+v", got, want)
	}
	if i := r.Link(); i.Name != "right" || i.Index != right.Index {
		t.Fatalf("%+v", i)
	}
}

// TestBalance overruns the socket: sent = delivered + dropped.
func TestBalance(t *testing.T) {
	capturetest.Namespace(t)
	left, _ := capturetest.Cable(t, "left", "right")
	s, err := afpacket.NewSource("right", afpacket.BufferSize(64<<10))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	send := capturetest.NewSender(t, left)
	const count = 5000
	for i := range count {
		if err := send.Send(udp(100)); err != nil {
			t.Fatal(err)
		}
		if i%200 == 0 || i == count-1 {
			capturetest.Arrived(t, i+1, s)
		}
	}
	capturetest.IP(t, "link del right")
	n := 0
	for {
		packets, err := s.NextBatch()
		n += len(packets)
		if errors.Is(err, capture.ErrLinkGone) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if st := s.Stats(); st.Received != count || int(st.Packets) != n || st.Packets+st.Drops != count || st.Drops == 0 || n == 0 {
		t.Fatalf("%d delivered, %+v", n, st)
	}
}

// TestVLAN sends tags that the kernel takes out, one of them with id 0.
func TestVLAN(t *testing.T) {
	capturetest.Namespace(t)
	left, _ := capturetest.Cable(t, "left", "right")
	s, err := afpacket.NewSource("right")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	send := capturetest.NewSender(t, left)
	r := capture.NewReader(s)
	for _, tag := range []struct{ tpid, tci uint16 }{{0x8100, 0x2064}, {0x8100, 0}, {0x88a8, 7}} {
		plain := udp(100)
		f := append(append(bytes.Clone(plain[:12]), byte(tag.tpid>>8), byte(tag.tpid), byte(tag.tci>>8), byte(tag.tci)), plain[12:]...)
		if err := send.Send(f); err != nil {
			t.Fatal(err)
		}
		p, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if n := p.Network(); p.VLANTPID != tag.tpid || p.VLANTCI != tag.tci || !n.Tagged || n.VLAN != tag.tci&0xfff || !bytes.Equal(p.Data, plain) {
			t.Fatalf("%+v: %+v", tag, p)
		}
	}
}

// TestCloseUnderFlood closes sources 200 times while they are read.
func TestCloseUnderFlood(t *testing.T) {
	capturetest.Namespace(t)
	left, right := capturetest.Cable(t, "left", "right")
	capturetest.NewSender(t, left).Flood(udp(60))
	files := 0
	for round := range 200 {
		s, err := afpacket.Open(right, afpacket.Config{})
		if err != nil {
			t.Fatal(err)
		}
		started, ended := make(chan struct{}), make(chan error)
		go func() {
			for n := 0; ; {
				packets, err := s.NextBatch()
				for i := range packets {
					if !bytes.Equal(packets[i].Data, udp(60)) {
						err = fmt.Errorf("packet of % x", packets[i].Data)
					}
				}
				if n == 0 && len(packets) > 0 {
					close(started)
				}
				n += len(packets)
				if err != nil {
					ended <- err
					return
				}
			}
		}()
		<-started
		if round%2 == 0 {
			s.Unblock()
		} else if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, capture.ErrClosed) && !errors.Is(err, capture.ErrUnblocked) {
			t.Fatal(err)
		}
		s.Close()
		if open := capturetest.OpenFiles(t); round == 0 {
			files = open
		} else if open > files {
			t.Fatalf("round %d: %d descriptors, after the first %d", round, open, files)
		}
	}
}

// TestDeletedWhileWaiting deletes the interface under a reader that waits.
func TestDeletedWhileWaiting(t *testing.T) {
	capturetest.Namespace(t)
	left, right := capturetest.Cable(t, "left", "right")
	s, err := afpacket.Open(right, afpacket.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	send := capturetest.NewSender(t, left)
	capturetest.GoneWhileWaiting(t, s, func() {
		if err := send.Send(udp(60)); err != nil {
			t.Fatal(err)
		}
	}, func() { capturetest.IP(t, "link del right") })
}

package afring_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"weir/capture"
	"weir/capture/afring"
	"weir/capture/capturetest"
	"weir/capture/filter"
	"weir/capture/socket"
)

var udp = capturetest.UDP

func arp() []byte {
	f := make([]byte, 60)
	copy(f, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 6})
	return f
}

// readAll reads until nothing has come for a while.
func readAll(t *testing.T, r *afring.Ring, each func(*capture.Packet)) (n int) {
	t.Helper()
	stop := time.AfterFunc(300*time.Millisecond, func() { r.Unblock() })
	defer stop.Stop()
	for {
		packets, err := r.NextBatch()
		if errors.Is(err, capture.ErrUnblocked) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(packets) > 0 {
			stop.Reset(300 * time.Millisecond)
		}
		for i := range packets {
			each(&packets[i])
		}
		n += len(packets)
	}
}

// TestPackets holds what a ring says of packets against what was sent.
func TestPackets(t *testing.T) {
	capturetest.Namespace(t)
	a, b := capturetest.Cable(t, "left", "right")
	r, err := afring.Open(b, afring.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := capturetest.NewSender(t, a)
	begin := time.Now().UnixNano()
	const count = 1000
	for i := range count {
		if err := s.Send(udp(60+i, uint64(i))); err != nil {
			t.Fatal(err)
		}
		if err := s.Send(arp()); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			capturetest.Arrived(t, i+1, r)
		}
	}
	next := 0
	last := begin
	n := readAll(t, r, func(p *capture.Packet) {
		want := udp(60+next, uint64(next))
		if string(p.Data) != string(want) {
			t.Fatalf("packet %d: % x, want % x", next, p.Data, want)
		}
		if int(p.WireLen) != len(want) || p.Type != capture.PacketHost && p.Type != capture.PacketOtherHost ||
			p.LinkType != capture.LinkEthernet || p.VLANTPID != 0 || p.GSOSize != 0 || p.Segments() != 1 {
			t.Fatalf("packet %d: %+v", next, p)
		}
		if p.Time < last || p.Time > time.Now().UnixNano() {
			t.Fatalf("packet %d is of %d, the one before of %d", next, p.Time, last)
		}
		if p.RxHash == 0 {
			t.Fatalf("packet %d has no hash", next)
		}
		last = p.Time
		next++
	})
	if n != count {
		t.Fatalf("%d packets, want %d", n, count)
	}
	want := capture.Stats{Packets: count, Received: count}
	for range 2 { // reading resets nothing
		if got := r.Stats(); got != want {
			t.Fatalf("%+v, want %+v", got, want)
		}
	}
	r.Close()
	if got := r.Stats(); got != want {
		t.Fatalf("after Close %+v, want %+v", got, want)
	}
}

// TestBalance overruns a small ring that nobody reads: sent = delivered + filtered
// + dropped.
func TestBalance(t *testing.T) {
	capturetest.Namespace(t)
	a, b := capturetest.Cable(t, "left", "right")
	r, err := afring.Open(b, afring.Config{BlockSize: 64 << 10, Blocks: 4, Config: socket.Config{CaptureLength: filter.Fixed(128)}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := capturetest.NewSender(t, a)
	const count, others = 20000, 500
	for i := range count {
		if err := s.Send(udp(100, uint64(i))); err != nil {
			t.Fatal(err)
		}
		if i < others {
			if err := s.Send(arp()); err != nil {
				t.Fatal(err)
			}
		}
		if i%200 == 0 {
			capturetest.Arrived(t, i+1, r)
		}
	}
	n := readAll(t, r, func(*capture.Packet) {})
	st := r.Stats()
	if st.Packets != uint64(n) || st.Received != count || st.Packets+st.Drops != count || st.Drops == 0 || st.Freezes == 0 {
		t.Fatalf("%d sent, of them %d filtered, %d delivered: %+v", s.Sent, others, n, st)
	}
}

// mapped returns how many of the process's mappings are of sockets.
func mapped(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), "socket:")
}

// oneByOne reads batches of one packet.
func oneByOne(r *capture.Reader) func() ([]capture.Packet, error) {
	return func() ([]capture.Packet, error) {
		p, err := r.Next()
		if err != nil {
			return nil, err
		}
		return []capture.Packet{*p}, nil
	}
}

// TestCloseUnderFlood closes rings 1,000 times while they are read and packets pour
// in: readers end with ErrClosed, read what they hold to the end unchanged, and
// nothing is left of the rings.
func TestCloseUnderFlood(t *testing.T) {
	capturetest.Namespace(t)
	a, b := capturetest.Cable(t, "left", "right")
	capturetest.NewSender(t, a).Flood(udp(60, 1))
	files, rounds := 0, 1000
	if testing.Short() {
		rounds = 50
	}
	for round := range rounds {
		r, err := afring.Open(b, afring.Config{BlockSize: 128 << 10, Blocks: 4, RetireTimeout: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		reading := make(chan error)
		started := make(chan struct{})
		next := r.NextBatch
		if round%2 == 1 {
			next = oneByOne(capture.NewReader(r))
		}
		go func() {
			var err error
			for first := true; err == nil; {
				var packets []capture.Packet
				packets, err = next()
				for range 3 { // while Close comes, again and again the same
					for i := range packets {
						if p := &packets[i]; len(p.Data) != 60 || p.Data[12] != 8 || binary.BigEndian.Uint64(p.Data[42:]) != 1 {
							err = fmt.Errorf("packet of % x", p.Data)
						}
					}
				}
				if first && len(packets) > 0 {
					first = false
					close(started)
				}
			}
			reading <- err
		}()
		<-started
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-reading; !errors.Is(err, capture.ErrClosed) {
			t.Fatalf("round %d: %v", round, err)
		}
		if n := mapped(t); n != 0 {
			t.Fatalf("round %d: %d mappings left", round, n)
		}
		if round == 0 {
			files = capturetest.OpenFiles(t)
		} else if n := capturetest.OpenFiles(t); n > files {
			t.Fatalf("round %d: %d descriptors, after the first %d", round, n, files)
		}
	}
}

// TestUnblockUnderFlood unblocks a reader 1,000 times whose ring never runs empty.
// It has to come back before it has used up the block it is in.
func TestUnblockUnderFlood(t *testing.T) {
	capturetest.Namespace(t)
	a, b := capturetest.Cable(t, "left", "right")
	capturetest.NewSender(t, a).Flood(udp(60, 1))
	r, err := afring.Open(b, afring.Config{Blocks: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 1000 {
		for { // until there is more in the block
			packets, err := r.NextBatch()
			if err != nil {
				t.Fatal(err)
			}
			if len(packets) > 0 {
				break
			}
		}
		if err := r.Unblock(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.NextBatch(); !errors.Is(err, capture.ErrUnblocked) {
			t.Fatalf("after Unblock: %v", err)
		}
	}
}

// TestUnblockReaderUnderFlood unblocks a reader of single packets, which comes back
// after those that it was lent.
func TestUnblockReaderUnderFlood(t *testing.T) {
	capturetest.Namespace(t)
	a, b := capturetest.Cable(t, "left", "right")
	capturetest.NewSender(t, a).Flood(udp(60, 1))
	ring, err := afring.Open(b, afring.Config{Blocks: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	r := capture.NewReader(ring)
	for range 1000 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		r.Unblock()
		for n := 0; ; n++ {
			_, err := r.Next()
			if errors.Is(err, capture.ErrUnblocked) {
				break
			}
			if err != nil || n == 256 {
				t.Fatalf("%d packets after Unblock, %v", n, err)
			}
		}
	}
}

// TestRefuse lets no more packets in while they pour in, and reads those that are: all
// that were received are delivered or dropped, and none comes after.
func TestRefuse(t *testing.T) {
	capturetest.Namespace(t)
	a, b := capturetest.Cable(t, "left", "right")
	capturetest.NewSender(t, a).Flood(udp(60, 1))
	for range 20 {
		r, err := afring.Open(b, afring.Config{BlockSize: 128 << 10, Blocks: 4})
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			if _, err := r.NextBatch(); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Refuse(); err != nil {
			t.Fatal(err)
		}
		readAll(t, r, func(*capture.Packet) {})
		if s := r.Stats(); s.Packets == 0 || s.Received != s.Packets+s.Drops {
			t.Fatalf("%+v", s)
		}
		r.Close()
	}
}

// TestUnblockWhileWaiting unblocks a reader that waits for packets which never come.
func TestUnblockWhileWaiting(t *testing.T) {
	capturetest.Namespace(t)
	_, b := capturetest.Cable(t, "left", "right")
	r, err := afring.Open(b, afring.Config{Blocks: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	results := make(chan error)
	go func() {
		for {
			packets, err := r.NextBatch()
			if err != nil {
				results <- err
			} else if len(packets) > 0 {
				results <- fmt.Errorf("%d packets", len(packets))
			}
			if errors.Is(err, capture.ErrClosed) {
				return
			}
		}
	}()
	for range 1000 {
		r.Unblock()
		if err := <-results; !errors.Is(err, capture.ErrUnblocked) {
			t.Fatal(err)
		}
	}
	r.Close()
	if err := <-results; !errors.Is(err, capture.ErrClosed) {
		t.Fatal(err)
	}
}

// TestLinkDownUpDeleted takes the interface down and up under a ring, which goes on,
// and deletes it, which ends it, with all counted.
func TestLinkDownUpDeleted(t *testing.T) {
	capturetest.Namespace(t)
	a, b := capturetest.Cable(t, "left", "right")
	r, err := afring.Open(b, afring.Config{Blocks: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := capturetest.NewSender(t, a)
	send := func() {
		for i := range 100 {
			if err := s.Send(udp(100, uint64(i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	total := 0
	for range 5 {
		send()
		capturetest.Arrived(t, total+100, r)
		if n := readAll(t, r, func(*capture.Packet) {}); n != 100 {
			t.Fatalf("%d packets of 100", n)
		}
		capturetest.IP(t, "link set right down")
		if n := readAll(t, r, func(*capture.Packet) {}); n != 0 {
			t.Fatalf("%d packets while the interface is down", n)
		}
		capturetest.Up(t, "right", "left")
		total += 100
	}
	send()
	total += 100
	capturetest.Arrived(t, total, r)
	capturetest.IP(t, "link del right")
	n := 0
	for {
		packets, err := r.NextBatch()
		n += len(packets)
		if errors.Is(err, capture.ErrLinkGone) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	want := capture.Stats{Packets: uint64(total), Received: uint64(total)}
	if got := r.Stats(); n != 100 || got != want {
		t.Fatalf("%d packets at last; %+v, want %+v", n, got, want)
	}
	if _, err := r.NextBatch(); !errors.Is(err, capture.ErrLinkGone) {
		t.Fatalf("once more: %v", err)
	}
	// Made again it is another interface, which a new ring captures on.
	_, b = capturetest.Cable(t, "left", "right")
	again, err := afring.Open(b, afring.Config{Blocks: 4})
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// TestDeletedWhileWaiting deletes the interface under a reader that waits: up, and
// down for a while.
func TestDeletedWhileWaiting(t *testing.T) {
	for _, down := range []bool{false, true} {
		t.Run(fmt.Sprintf("down %v", down), func(t *testing.T) {
			capturetest.Namespace(t)
			left, right := capturetest.Cable(t, "left", "right")
			r, err := afring.Open(right, afring.Config{Blocks: 4})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			s := capturetest.NewSender(t, left)
			capturetest.GoneWhileWaiting(t, r, func() {
				if err := s.Send(udp(60, 1)); err != nil {
					t.Fatal(err)
				}
			}, func() {
				if down {
					capturetest.IP(t, "link set right down")
				}
				capturetest.IP(t, "link del right")
			})
		})
	}
}

// TestCloseTwice reads on in a batch whose ring was closed more than once.
func TestCloseTwice(t *testing.T) {
	capturetest.Namespace(t)
	left, right := capturetest.Cable(t, "left", "right")
	r, err := afring.Open(right, afring.Config{Blocks: 4})
	if err != nil {
		t.Fatal(err)
	}
	if err := capturetest.NewSender(t, left).Send(udp(60, 1)); err != nil {
		t.Fatal(err)
	}
	packets, err := r.NextBatch()
	if err != nil || len(packets) != 1 {
		t.Fatalf("%d packets, %v", len(packets), err)
	}
	for range 3 {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if string(packets[0].Data) != string(udp(60, 1)) {
		t.Fatalf("% x", packets[0].Data)
	}
	if _, err := r.NextBatch(); !errors.Is(err, capture.ErrClosed) {
		t.Fatal(err)
	}
}

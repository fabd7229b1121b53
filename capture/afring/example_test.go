package afring_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sync/errgroup"

	"weir/capture"
	"weir/capture/afring"
	"weir/capture/filter"
	"weir/capture/link"
	"weir/capture/mock"
)

// A few packets of an interface, by the batch.
func ExampleNewSource() {
	ring, err := afring.NewSource("eth0",
		afring.CaptureLength(filter.MinimalIPv6Transport),
		afring.BufferSize(1<<20, 16),
		afring.RetireTimeout(20*time.Millisecond),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer ring.Close()
	for n := 0; n < 1000; {
		packets, err := ring.NextBatch() // valid until the next call
		if err != nil {
			log.Fatal(err)
		}
		for i := range packets {
			p := &packets[i]
			fmt.Println(time.Unix(0, p.Time), p.Type, p.WireLen, "octets,", len(p.IP()), "of them captured IP")
		}
		n += len(packets)
	}
	fmt.Printf("%+v\n", ring.Stats())
}

// A trace of all interfaces that are up, until Ctrl-C.
func Example_severalInterfaces() {
	links, err := link.All()
	if err != nil {
		log.Fatal(err)
	}
	if links, err = (link.Selector{}).Select(links); err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	for _, l := range links {
		ring, err := afring.NewSourceFromLink(l, afring.CaptureLength(filter.MinimalIPv4Transport))
		if err != nil {
			log.Fatal(err)
		}
		context.AfterFunc(ctx, func() { ring.Close() }) // from another goroutine, at any time
		group.Go(func() error {
			for p, err := range capture.NewReader(ring).Packets() {
				if errors.Is(err, capture.ErrClosed) {
					s := ring.Stats()
					fmt.Println(l.Name, s.Packets, "packets,", s.Drops, "dropped")
					return nil
				}
				if err != nil {
					return err
				}
				fmt.Println(l.Name, p.Type, p.WireLen)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		log.Fatal(err)
	}
}

// Two rings share the packets of an interface, each flow on one of them.
func Example_fanout() {
	first, err := afring.NewSource("eth0", afring.Fanout(afring.FanoutConfig{Mode: afring.FanoutHash}))
	if err != nil {
		log.Fatal(err)
	}
	defer first.Close()
	second, err := afring.NewSource("eth0", afring.Fanout(afring.FanoutConfig{Mode: afring.FanoutHash, Group: first.FanoutGroup()}))
	if err != nil {
		log.Fatal(err)
	}
	defer second.Close()
	// Each is read by a goroutine of its own.
}

// countIP is a program that captures: it takes any source.
func countIP(src capture.Source) (packets, octets int, err error) {
	r := capture.NewReader(src)
	for {
		ip, _, _, err := r.NextIPPacketZeroCopy()
		if err != nil {
			return packets, octets, err
		}
		packets++
		octets += len(ip)
	}
}

// A program is tested with a ring in memory in the place of an interface's.
func Example_mock() {
	ring, err := mock.NewRing("test0", capture.LinkEthernet, afring.Config{})
	if err != nil {
		log.Fatal(err)
	}
	frame := append([]byte{12: 0x08, 13: 0x00, 14: 0x45}, make([]byte, 45)...)
	for range 3 {
		ring.Add(&capture.Packet{Data: frame, WireLen: uint32(len(frame)), Time: time.Now().UnixNano()})
	}
	ring.End()
	packets, octets, err := countIP(ring.Source())
	fmt.Println(packets, "packets,", octets, "octets,", err)
	// Output: 3 packets, 138 octets, EOF
}

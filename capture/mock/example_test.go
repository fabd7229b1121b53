package mock_test

import (
	"fmt"
	"io"
	"log"
	"net/netip"

	"weir/capture"
	"weir/capture/afring"
	"weir/capture/mock"
)

// countUDP is the program under test: it takes any source.
func countUDP(src capture.Source) (packets int, err error) {
	r := capture.NewReader(src)
	for {
		ip, _, _, err := r.NextIPPacketZeroCopy()
		if err == io.EOF {
			return packets, nil
		}
		if err != nil {
			return packets, err
		}
		if len(ip) >= 20 && ip[0]>>4 == 4 && ip[9] == 17 {
			packets++
		}
	}
}

// A program is tested without an interface.
func Example() {
	ring, err := mock.NewRing("test0", capture.LinkEthernet, afring.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer ring.Source().Close()

	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	ip := mock.Ethernet().IPv4(a, b)
	for _, p := range []capture.Packet{
		ip.TCP(40000, 443, mock.SYN).Packet(),
		ip.UDP(40000, 53).Payload([]byte("a question")).Packet(),
		mock.Ethernet().VLAN(0x8100, 7).IPv4(b, a).UDP(53, 40000).Packet(),
		mock.Ethernet().Packet(), // no IP: the filter refuses it, as the kernel does
	} {
		ring.Add(&p)
	}
	ring.End()

	n, err := countUDP(ring.Source())
	fmt.Println(n, "of UDP,", err)
	fmt.Printf("%+v\n", ring.Source().Stats())
	// Output:
	// 2 of UDP, <nil>
	// {Packets:3 Received:3 Drops:0 Freezes:0 Filtered:1}
}

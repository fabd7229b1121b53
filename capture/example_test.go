package capture_test

import (
	"fmt"
	"io"
	"log"

	"weir/capture"
	"weir/capture/pcap"
)

// The ways to read a packet: borrowed, in a function, copied into a buffer that is
// used again, copied into new memory.
func ExampleReader() {
	file, err := pcap.Open("../testdata/dns.pcap")
	if err != nil {
		log.Fatal(err)
	}
	r := capture.NewReader(file)
	defer r.Close()

	payload, _, wire, err := r.NextPayloadZeroCopy()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("borrowed:", len(payload), "of", wire, "octets")

	ip, _, _, err := r.NextIPPacketZeroCopy()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("from the IP header on: version", ip[0]>>4)

	if err := r.NextPacketFn(func(p *capture.Packet) error {
		fmt.Println("in a function:", p.LinkType)
		return nil
	}); err != nil {
		log.Fatal(err)
	}

	buf := r.NewPacket()
	for range 2 {
		if err := r.NextPacket(&buf); err != nil {
			log.Fatal(err)
		}
		fmt.Println("copied into a buffer:", len(buf.Data) == int(buf.WireLen))
	}

	kept, _, _, err := r.NextIPPacket(nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("copied into new memory:", len(kept) > 20)
	// Output:
	// borrowed: 42 of 42 octets
	// from the IP header on: version 4
	// in a function: EN10MB (1)
	// copied into a buffer: true
	// copied into a buffer: true
	// copied into new memory: true
}

// All packets of a file, in a loop.
func ExampleReader_Packets() {
	file, err := pcap.Open("../testdata/ping.pcap")
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	packets, octets := 0, uint64(0)
	for p, err := range capture.NewReader(file).Packets() {
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		packets++
		octets += uint64(p.WireLen)
	}
	fmt.Println(packets > 0, octets > 0)
	// Output: true true
}

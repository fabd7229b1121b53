package pcap_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"time"

	"weir/capture"
	"weir/capture/pcap"
)

// Packets are written to a file, here one in memory, and read again. Open does the
// same with the path of a file.
func Example() {
	var file bytes.Buffer
	w, err := pcap.NewWriter(&file, capture.LinkEthernet, 96)
	if err != nil {
		log.Fatal(err)
	}
	for i := range 3 {
		err := w.Write(&capture.Packet{
			Data:     make([]byte, 60),
			Time:     time.Date(2024, 5, 1, 12, 0, i, 123456789, time.UTC).UnixNano(),
			WireLen:  1514,
			LinkType: capture.LinkEthernet,
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		log.Fatal(err)
	}

	r, err := pcap.NewReader(&file, "example")
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for {
		batch, err := r.NextBatch()
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err) // a *pcap.DamagedError says where
		}
		for _, p := range batch { // p.Data is valid until the next call of NextBatch
			at := time.Unix(0, p.Time).UTC().Format(time.RFC3339Nano)
			fmt.Println(at, len(p.Data), "of", p.WireLen, "bytes,", p.LinkType)
		}
	}
	fmt.Println(r.Stats().Packets, "packets")
	// Output:
	// 2024-05-01T12:00:00.123456789Z 60 of 1514 bytes, EN10MB (1)
	// 2024-05-01T12:00:01.123456789Z 60 of 1514 bytes, EN10MB (1)
	// 2024-05-01T12:00:02.123456789Z 60 of 1514 bytes, EN10MB (1)
	// 3 packets
}

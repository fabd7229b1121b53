package mock_test

import (
	"io"
	"reflect"
	"slices"
	"testing"

	"weir/capture"
	"weir/capture/afring"
	"weir/capture/filter"
	"weir/capture/mock"
	"weir/capture/socket"
)

// TestReaderIsBatch holds that packets taken one by one from a ring's frames are
// those of its batches, metadata and all.
func TestReaderIsBatch(t *testing.T) {
	for _, link := range []capture.LinkType{capture.LinkEthernet, capture.LinkCooked, capture.LinkRaw} {
		var packets []capture.Packet
		tcp := mock.Ethernet().IPv4(a4, b4).TCP(1, 2, 0x10).Payload(make([]byte, 3000)).Packet()
		tcp.GSOSize, tcp.GSOHeader = 1000, 54
		for i := range 2000 {
			p := mock.Ethernet().IPv6(a6, b6).UDP(1, uint16(i)).Payload(make([]byte, i%70)).Packet()
			switch i % 5 {
			case 1:
				p.VLANTCI, p.VLANTPID = uint16(i), 0x88a8
			case 2:
				p = tcp
			case 3:
				p.Data = p.Data[:1+i%20] // a runt
			}
			p.Time, p.RxHash, p.Type, p.Protocol = int64(i)*1e10, uint32(i), capture.PacketType(i%4), 0x86dd
			packets = append(packets, p)
		}
		fill := func() *afring.Ring {
			m, err := mock.NewRing("mock0", link, afring.Config{BlockSize: 64 << 10, Blocks: 64,
				Config: socket.Config{CaptureLength: filter.Fixed(4000), NoFilter: true, Promiscuous: true}})
			if err != nil {
				t.Fatal(err)
			}
			for i := range packets {
				if got := m.Add(&packets[i]); got != mock.Queued {
					t.Fatal(got)
				}
			}
			m.End()
			t.Cleanup(func() { m.Source().Close() })
			return m.Source()
		}
		keep := func(p capture.Packet) capture.Packet {
			p.Data = slices.Clone(p.Data)
			return p
		}
		var batches, singles []capture.Packet
		ring := fill()
		for {
			batch, err := ring.NextBatch()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			for i := range batch {
				batches = append(batches, keep(batch[i]))
			}
		}
		for p, err := range capture.NewReader(fill()).Packets() {
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			singles = append(singles, keep(*p))
		}
		if len(batches) != len(packets) || len(singles) != len(packets) {
			t.Fatalf("%s: %d packets in batches, %d one by one, want %d", link, len(batches), len(singles), len(packets))
		}
		for i := range batches {
			if !reflect.DeepEqual(batches[i], singles[i]) {
				t.Fatalf("%s: packet %d\nin a batch %+v\nalone      %+v", link, i, batches[i], singles[i])
			}
			if batches[i].Time != packets[i].Time || link != capture.LinkCooked && batches[i].GSOSize != packets[i].GSOSize {
				t.Fatalf("%s: packet %d is %+v, want %+v", link, i, batches[i], packets[i])
			}
		}
	}
}

package mock

import (
	"errors"
	"io"
	"reflect"
	"testing"

	"weir/capture"
	"weir/capture/afring"
	"weir/capture/filter"
	"weir/capture/socket"
)

// FuzzBrokenRing scribbles over a block full of packets: reading it gives packets
// within the block, or capture.ErrBroken, and never a fault. Of scribble each three
// octets are an offset and what to write there.
func FuzzBrokenRing(f *testing.F) {
	f.Add(false, []byte{0, 12, 255})                         // more packets
	f.Add(true, []byte{0, 16, 40})                           // the first frame within the header
	f.Add(false, []byte{0, 20, 60, 0, 21, 0})                // a block too short
	f.Add(false, []byte{0, 48, 8})                           // frames that overlap
	f.Add(true, []byte{0, 60, 255, 0, 61, 255})              // more captured than there is
	f.Add(false, []byte{0, 72, 255, 0, 73, 255})             // a packet elsewhere
	f.Add(true, []byte{0, 48, 0, 0, 49, 16})                 // the next frame in the next block
	f.Add(false, []byte{0, 24, 2})                           // another block
	f.Add(false, []byte{0, 51, 255, 0, 50, 255, 0, 49, 255}) // the next frame beyond 2 GiB
	f.Fuzz(func(t *testing.T, cooked bool, scribble []byte) {
		readBroken(t, cooked, scribble, func(r *afring.Ring) func() ([]capture.Packet, error) { return r.NextBatch })
		readBroken(t, cooked, scribble, func(r *afring.Ring) func() ([]capture.Packet, error) {
			reader, one := capture.NewReader(r), [1]capture.Packet{}
			return func() ([]capture.Packet, error) {
				p, err := reader.Next()
				if err != nil {
					return nil, err
				}
				one[0] = *p
				return one[:], nil
			}
		})
		readBroken(t, cooked, scribble, func(r *afring.Ring) func() ([]capture.Packet, error) {
			reader, one := capture.NewReader(r), [1]capture.Packet{}
			return func() (_ []capture.Packet, err error) {
				one[0].Data, _, _, err = reader.NextIPPacketZeroCopy()
				return one[:], err
			}
		})
	})
}

// readBroken reads a ring with a block that was scribbled over.
func readBroken(t *testing.T, cooked bool, scribble []byte, open func(*afring.Ring) (next func() ([]capture.Packet, error))) {
	const blockSize = 4096
	link := capture.LinkEthernet
	if cooked {
		link = capture.LinkCooked
	}
	m, err := NewRing("broken", link, afring.Config{BlockSize: blockSize, Blocks: 2,
		Config: socket.Config{CaptureLength: filter.Fixed(1500), NoFilter: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Source().Close()
	for i := range 6 {
		p := capture.Packet{Data: make([]byte, 60+100*i), VLANTPID: uint16(i), GSOSize: uint16(i)}
		p.Data[12], p.Data[14] = 8, 0x45
		if m.Add(&p) != Queued {
			t.Fatal("no room")
		}
	}
	m.End()
	for ; len(scribble) >= 3; scribble = scribble[3:] {
		// Not over the status: whose the block is, is no question of layout.
		if at := (int(scribble[0])<<8 | int(scribble[1])) % blockSize; at < 8 || at >= 12 {
			m.pages[at] = scribble[2]
		}
	}
	begin := reflect.ValueOf(m.pages).Pointer()
	next := open(m.Source())
	for range blockSize/frameHeaderLen + 3 {
		packets, err := next()
		if err == io.EOF || errors.Is(err, capture.ErrBroken) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range packets {
			p := &packets[i]
			at := reflect.ValueOf(p.Data).Pointer() - begin
			if at > blockSize || len(p.Data) > blockSize-int(at) || cap(p.Data) > blockSize-int(at) {
				t.Fatalf("%d octets at %d", len(p.Data), at)
			}
			p.Network()
			p.Segments()
		}
	}
	t.Fatal("more packets than a block holds")
}

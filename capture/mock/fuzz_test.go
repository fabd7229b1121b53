package mock_test

import (
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"

	"weir/capture"
	"weir/capture/afring"
	"weir/capture/socket"
)

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
func (*pages) Refuse() error         { return nil }
func (*pages) Close() error          { return nil }

package mock_test

import (
	"encoding/binary"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"weir/capture"
	"weir/capture/afpacket"
	"weir/capture/afring"
	"weir/capture/filter"
	"weir/capture/mock"
	"weir/capture/socket"
)

// The benchmarks of this file are one family, to be run together: all read a ring of
// 1 MiB x 4 blocks that is filled once, with UDP packets of which 48 octets are
// captured, and b.N counts packets. BenchmarkWalk is what cannot be undercut.

func endless(b *testing.B) *afring.Ring {
	b.Helper()
	m, err := mock.NewRing("bench0", capture.LinkEthernet, afring.Config{
		Config: socket.Config{CaptureLength: filter.Fixed(48)}, BlockSize: 1 << 20, Blocks: 4,
	})
	if err != nil {
		b.Fatal(err)
	}
	p := capture.Packet{Data: make([]byte, 128), WireLen: 128, Type: capture.PacketHost, LinkType: capture.LinkEthernet, Time: 1e18}
	p.Data[12], p.Data[14], p.Data[23] = 8, 0x45, 17
	if err := m.Endless([]capture.Packet{p}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.Source().Close() })
	return m.Source()
}

var sum uint64

// BenchmarkWalk walks the blocks of such a ring and does nothing but find the
// packets: the offset of the next frame, both lengths, the packet's first octet.
func BenchmarkWalk(b *testing.B) {
	const blockSize, blocks = 1 << 20, 4
	// Small pages, as the kernel's rings have them.
	memory, err := unix.Mmap(-1, 0, blockSize*blocks, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Munmap(memory)
	perBlock := 0
	for i := range blocks {
		block := memory[i*blockSize : (i+1)*blockSize]
		at, last := 48, 0
		for perBlock = 0; at+92+48 <= len(block); perBlock++ {
			binary.NativeEndian.PutUint32(block[at:], 144)
			binary.NativeEndian.PutUint32(block[at+12:], 48)
			binary.NativeEndian.PutUint32(block[at+16:], 128)
			binary.NativeEndian.PutUint16(block[at+24:], 92)
			last, at = at, at+144
		}
		binary.NativeEndian.PutUint32(block[last:], 0)
		binary.NativeEndian.PutUint32(block[12:], uint32(perBlock))
		binary.NativeEndian.PutUint32(block[16:], 48)
	}
	b.ResetTimer()
	for n := 0; n < b.N; {
		for i := range blocks {
			walk(memory[i*blockSize:])
			n += perBlock
		}
	}
}

func walk(block []byte) {
	base := unsafe.Pointer(&block[0])
	status := (*atomic.Uint32)(unsafe.Add(base, 8))
	status.Store(1)
	if status.Load()&1 == 0 {
		return
	}
	packets := *(*uint32)(unsafe.Add(base, 12))
	h := unsafe.Add(base, *(*uint32)(unsafe.Add(base, 16)))
	var s uint64
	for range packets {
		mac := *(*uint16)(unsafe.Add(h, 24))
		s += uint64(*(*uint32)(unsafe.Add(h, 12))) + uint64(*(*uint32)(unsafe.Add(h, 16))) + uint64(*(*byte)(unsafe.Add(h, mac)))
		h = unsafe.Add(h, *(*uint32)(h))
	}
	sum += s
	status.Store(0)
}

// BenchmarkBatch reads by the batch and looks at the same of each packet.
func BenchmarkBatch(b *testing.B) {
	r := endless(b)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		packets, err := r.NextBatch()
		if err != nil {
			b.Fatal(err)
		}
		var s uint64
		for i := range packets {
			p := &packets[i]
			s += uint64(len(p.Data)) + uint64(p.WireLen) + uint64(p.Data[0])
		}
		sum += s
		n += len(packets)
	}
}

// BenchmarkSocket reads the plain socket's mock, as many packets at a time as go into
// a batch. What the mock does to take them in is part of the time.
func BenchmarkSocket(b *testing.B) {
	m, err := mock.NewSocket("bench0", capture.LinkEthernet, afpacket.Config{Config: socket.Config{CaptureLength: filter.Fixed(48)}})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Source().Close()
	p := capture.Packet{Data: make([]byte, 128), WireLen: 128, Type: capture.PacketHost, LinkType: capture.LinkEthernet, Time: 1e18}
	p.Data[12], p.Data[14], p.Data[23] = 8, 0x45, 17
	r := capture.NewReader(m.Source())
	b.ReportAllocs()
	b.ResetTimer()
	for n := range b.N {
		if n%64 == 0 {
			for range min(64, b.N-n) {
				if m.Add(&p) != mock.Queued {
					b.Fatal("no room")
				}
			}
		}
		if _, _, _, err := r.NextPayloadZeroCopy(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReader reads packet by packet, by each of the calls.
func BenchmarkReader(b *testing.B) {
	loop := func(name string, body func(b *testing.B, r *capture.Reader)) {
		b.Run(name, func(b *testing.B) {
			r := capture.NewReader(endless(b))
			b.ReportAllocs()
			b.ResetTimer()
			body(b, r)
		})
	}
	loop("Next", func(b *testing.B, r *capture.Reader) {
		for range b.N {
			p, err := r.Next()
			if err != nil {
				b.Fatal(err)
			}
			sum += uint64(p.WireLen)
		}
	})
	loop("NextPayloadZeroCopy", func(b *testing.B, r *capture.Reader) {
		for range b.N {
			_, _, n, err := r.NextPayloadZeroCopy()
			if err != nil {
				b.Fatal(err)
			}
			sum += uint64(n)
		}
	})
	loop("NextIPPacketZeroCopy", func(b *testing.B, r *capture.Reader) {
		for range b.N {
			_, _, n, err := r.NextIPPacketZeroCopy()
			if err != nil {
				b.Fatal(err)
			}
			sum += uint64(n)
		}
	})
	loop("NextPacketFn", func(b *testing.B, r *capture.Reader) {
		for range b.N {
			if err := r.NextPacketFn(func(p *capture.Packet) error { sum += uint64(p.WireLen); return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
	loop("NextPacketInPlace", func(b *testing.B, r *capture.Reader) {
		p := r.NewPacket()
		for range b.N {
			if err := r.NextPacket(&p); err != nil {
				b.Fatal(err)
			}
		}
	})
	loop("NextPayloadInPlace", func(b *testing.B, r *capture.Reader) {
		buf := make([]byte, 0, 2048)
		for range b.N {
			var err error
			if buf, _, _, err = r.NextPayload(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
	loop("NextIPPacketInPlace", func(b *testing.B, r *capture.Reader) {
		buf := make([]byte, 0, 2048)
		for range b.N {
			var err error
			if buf, _, _, err = r.NextIPPacket(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
	loop("NextPacket", func(b *testing.B, r *capture.Reader) {
		for range b.N {
			var p capture.Packet
			if err := r.NextPacket(&p); err != nil {
				b.Fatal(err)
			}
		}
	})
	loop("NextPayload", func(b *testing.B, r *capture.Reader) {
		for range b.N {
			if _, _, _, err := r.NextPayload(nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	loop("NextIPPacket", func(b *testing.B, r *capture.Reader) {
		for range b.N {
			if _, _, _, err := r.NextIPPacket(nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}

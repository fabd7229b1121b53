package pcap

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

const (
	benchPackets = 200_000
	benchData    = 96 // captured bytes of each packet: a record of 112 bytes
)

// benchPcap returns a pcap file of benchPackets packets.
func benchPcap(o byteOrder) []byte {
	b := fileHeader(o, magicNanoseconds, 65535, 1)
	data := bytes.Repeat([]byte{0x45}, benchData)
	for i := range uint32(benchPackets) {
		b = record(b, o, i/1000, i%1000, data, 1500)
	}
	return b
}

// benchPcapng returns a pcapng file with the same packets.
func benchPcapng(o byteOrder, options []byte) []byte {
	b := sectionBlock(nil, o)
	b = interfaceBlock(b, o, 1, 65535, option(o, optionResol, []byte{9}))
	data := bytes.Repeat([]byte{0x45}, benchData)
	for i := range uint64(benchPackets) {
		b = enhancedBlock(b, o, 0, i, data, 1500, options)
	}
	return b
}

// benchRead reads a file that holds content, again and again, with this much read
// at once. It looks at each packet's descriptor, not at its data.
func benchRead(b *testing.B, content []byte, windowSize int) {
	b.Helper()
	path := filepath.Join(b.TempDir(), "bench")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		r, err := Open(path)
		if err != nil {
			b.Fatal(err)
		}
		r.window.size = windowSize
		packets, captured := 0, 0
		for {
			batch, err := r.NextBatch()
			if err == io.EOF {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			packets += len(batch)
			for i := range batch {
				captured += len(batch[i].Data)
			}
		}
		if packets != benchPackets || captured != benchPackets*benchData {
			b.Fatalf("read %d packets with %d bytes", packets, captured)
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchPackets, "ns/packet")
}

func BenchmarkReadPcap(b *testing.B) {
	b.Run("little", func(b *testing.B) { benchRead(b, benchPcap(binary.LittleEndian), windowSize) })
	b.Run("big", func(b *testing.B) { benchRead(b, benchPcap(binary.BigEndian), windowSize) })
}

func BenchmarkReadPcapng(b *testing.B) {
	o := binary.LittleEndian
	b.Run("plain", func(b *testing.B) { benchRead(b, benchPcapng(o, nil), windowSize) })
	b.Run("flags", func(b *testing.B) {
		benchRead(b, benchPcapng(o, options(o, option(o, optionFlags, o.AppendUint32(nil, 1)))), windowSize)
	})
}

// BenchmarkWindow shows how much to read at once: see windowSize.
func BenchmarkWindow(b *testing.B) {
	content := benchPcap(binary.LittleEndian)
	for _, size := range []int{64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 4 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) { benchRead(b, content, size) })
	}
}

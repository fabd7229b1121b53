package capture_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"weir/capture"
	"weir/capture/pcap"
)

// TestReaderFiles reads each capture by packet and by IP packet.
func TestReaderFiles(t *testing.T) {
	files, err := filepath.Glob("../testdata/*.pcap*")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d captures, %v", len(files), err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			all, atEnd := openReader(t, path), error(nil)
			ips := openReader(t, path)
			packets, carry := uint64(0), uint64(0)
			for p, err := range all.Packets() {
				if err != nil {
					atEnd = err
					break
				}
				packets++
				if p.IP() == nil {
					continue
				}
				carry++
				ip, kind, wire, err := ips.NextIPPacketZeroCopy()
				if err != nil || !bytes.Equal(ip, p.IP()) || kind != p.Type || wire != p.WireLen {
					t.Fatalf("packet %d: % x, %v, %d, %v; want % x, %v, %d", packets, ip, kind, wire, err, p.IP(), p.Type, p.WireLen)
				}
			}
			if _, _, _, err := ips.NextIPPacketZeroCopy(); err == nil || atEnd == nil || err.Error() != atEnd.Error() {
				t.Fatalf("at the end %v, by IP packet %v", atEnd, err)
			}
			if carry == 0 || carry+ips.Skipped() != packets || all.Stats().Packets != packets {
				t.Fatalf("%d with IP and %d without, of %d; the source counts %d", carry, ips.Skipped(), packets, all.Stats().Packets)
			}
		})
	}
}

func openReader(t *testing.T, path string) *capture.Reader {
	t.Helper()
	file, err := pcap.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	r := capture.NewReader(file)
	t.Cleanup(func() { r.Close() })
	return r
}

// TestReaderUnblockAfterBatch holds that what the source has delivered comes before
// ErrUnblocked, and that nothing is lost by it.
func TestReaderUnblockAfterBatch(t *testing.T) {
	packets := samples()[:4]
	r := capture.NewReader(&list{packets: packets})
	var got []int // lengths of the packets, -1 for ErrUnblocked
	for i := 0; ; i++ {
		p, err := r.Next()
		switch {
		case err == io.EOF:
			want := []int{len(packets[0].Data), len(packets[1].Data), len(packets[2].Data), -1, len(packets[3].Data)}
			if !slices.Equal(got, want) {
				t.Fatalf("%v, want %v", got, want)
			}
			return
		case errors.Is(err, capture.ErrUnblocked):
			got = append(got, -1)
		case err != nil:
			t.Fatal(err)
		default:
			got = append(got, len(p.Data))
		}
		if i == 0 { // with two packets of the batch to come
			if err := r.Unblock(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// limited is a source that captures so many octets of a packet.
type limited struct {
	list
	length uint32
}

func (l *limited) CaptureLength() uint32 { return l.length }

func TestNewPacket(t *testing.T) {
	for _, c := range []struct {
		source capture.Source
		want   int
	}{
		{&list{}, 2048}, {&limited{length: 96}, 96}, {&limited{length: 1<<32 - 1}, 256 << 10}, {&limited{}, 0},
	} {
		p := capture.NewReader(c.source).NewPacket()
		if len(p.Data) != 0 || cap(p.Data) != c.want {
			t.Errorf("%+v: room for %d, want %d", c.source, cap(p.Data), c.want)
		}
	}
}

// TestCopyFits holds that a copy in new memory takes no more than it needs, and that
// a buffer is used again if it is large enough.
func TestCopyFits(t *testing.T) {
	r := capture.NewReader(&list{packets: many()[:4]})
	first, _, _, err := r.NextPayload(nil)
	if err != nil || cap(first) != len(first) {
		t.Fatalf("%d octets in %d, %v", len(first), cap(first), err)
	}
	again, _, _, err := r.NextPayload(first[:0])
	if err != nil || len(again) != len(first) || &again[0] != &first[0] {
		t.Fatalf("%d octets elsewhere, %v", len(again), err)
	}
	p := capture.Packet{Data: again[:1:1]}
	err = r.NextPacket(&p)
	if err != nil || len(p.Data) != len(first) || &p.Data[0] == &first[0] {
		t.Fatalf("%d octets in too small a buffer, %v", len(p.Data), err)
	}
}

// BenchmarkReader is what the reader itself adds to its source: batches of 256
// packets of 64 octets that are always there. The call of a function value, about
// 1 ns, is in each figure. BenchmarkReader of capture/mock reads a ring.
func BenchmarkReader(b *testing.B) {
	for _, name := range slices.Sorted(maps.Keys(readerCalls)) {
		b.Run(name, func(b *testing.B) {
			call := readerCalls[name].call(capture.NewReader(&list{packets: many(), endless: true, batch: 256}))
			b.ReportAllocs()
			for b.Loop() {
				call()
			}
		})
	}
}

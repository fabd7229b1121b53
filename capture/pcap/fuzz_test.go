package pcap

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"weir/capture"
)

// FuzzReader reads anything. The reader must come to an end after no more steps and
// with no more memory than the input accounts for, and end as it promises.
func FuzzReader(f *testing.F) {
	for _, s := range samples() {
		f.Add(s.content)
	}
	for _, h := range hostile() {
		f.Add(h.content)
	}
	little := sectionSamples()[0].content
	f.Add(gzipped(f, little))
	f.Add(zstandard(f, little))
	f.Add([]byte{})
	files, err := filepath.Glob("../../testdata/*.pcap*")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range files {
		content, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content[:min(len(content), 64<<10)]) // mutations of much more teach nothing
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		r, err := NewReader(bytes.NewReader(content), "fuzz")
		var d *DamagedError
		if err != nil {
			if !errors.Is(err, ErrNotCapture) && !errors.As(err, &d) {
				t.Errorf("opening: %v", err)
			}
			return
		}
		defer r.Close()
		packed := r.decompressor != ""
		packets, captured := 0, 0
		for {
			var batch []capture.Packet
			batch, err = r.NextBatch()
			if err != nil {
				break
			}
			if len(batch) == 0 {
				t.Fatal("an empty batch")
			}
			for _, p := range batch {
				packets++
				captured += len(p.Data)
				if p.Time < 0 || p.Time > capture.MaxTime {
					t.Fatalf("time %d", p.Time)
				}
				if int(p.Interface) >= len(r.Interfaces()) {
					t.Fatalf("interface %d of %d", p.Interface, len(r.Interfaces()))
				}
				if !packed && len(p.Data) > 0 && !bytes.Contains(content, p.Data) {
					t.Fatal("a packet that is not in the input")
				}
			}
			// The smallest packet is in a simple packet block or a pcap record: 16 bytes.
			if read := r.window.offset(); int64(packets)*16+int64(captured) > read {
				t.Fatalf("%d packets with %d bytes out of %d", packets, captured, read)
			}
			if packed && packets > 1<<20 {
				return // a bomb: it goes on, but not in memory
			}
		}
		if _, again := r.NextBatch(); again != err {
			t.Fatalf("the error %v became %v", err, again)
		}
		if err != io.EOF && !errors.As(err, &d) {
			t.Fatalf("ended with %v", err)
		}
		end := r.window.base + int64(r.window.hi)
		if d != nil && (d.Offset < 0 || d.Offset > end || d.Reason == "" || d.Name != "fuzz") {
			t.Fatalf("after %d bytes: %#v", end, d)
		}
		if len(r.window.buf) > max(windowSize, 2*int(end)) || len(r.window.buf) > maxRecord {
			t.Fatalf("the window grew to %d bytes for %d", len(r.window.buf), end)
		}
	})
}

// FuzzClock compares timestamps with numbers of any size.
func FuzzClock(f *testing.F) {
	f.Add(byte(6), int64(0), uint64(1))
	f.Add(byte(0x8a), int64(-5), uint64(1)<<63)
	f.Fuzz(func(t *testing.T, resolution byte, offset int64, ticks uint64) {
		c := newClock(resolution, offset)
		if got, want := c.nanoseconds(ticks), wantNanoseconds(resolution, offset, ticks); got != want {
			t.Fatalf("got %d, want %d", got, want)
		}
	})
}

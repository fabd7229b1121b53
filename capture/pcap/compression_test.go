package pcap

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
)

func gzipped(tb testing.TB, content []byte) []byte { return gzippedAs(tb, gzip.Header{}, content) }

func gzippedAs(tb testing.TB, h gzip.Header, content []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Header = h
	if _, err := z.Write(content); err != nil {
		tb.Fatal(err)
	}
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func zstandard(tb testing.TB, content []byte) []byte { return zstandardWindow(tb, content, 1<<20) }

func zstandardWindow(tb testing.TB, content []byte, window int) []byte {
	tb.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1))
	if err != nil {
		tb.Fatal(err)
	}
	z.Write(nil)
	if _, err := z.ReadFrom(io.MultiReader(bytes.NewReader(content), strings.NewReader(""))); err != nil {
		tb.Fatal(err)
	}
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestCompressed(t *testing.T) {
	skippable := []byte{0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3}
	for _, s := range samples() {
		half := len(s.content) / 2
		for name, content := range map[string][]byte{
			"gzip":         gzipped(t, s.content),
			"two of gzip":  slices.Concat(gzipped(t, s.content[:half]), gzipped(t, s.content[half:])),
			"zstd":         zstandard(t, s.content),
			"two of zstd":  slices.Concat(zstandard(t, s.content[:half]), zstandard(t, s.content[half:])),
			"skipped zstd": slices.Concat(skippable, zstandard(t, s.content)),
		} {
			for _, in := range []io.Reader{bytes.NewReader(content), iotest.OneByteReader(bytes.NewReader(content))} {
				r, err := NewReader(in, name)
				if err != nil {
					t.Fatalf("%s, %s: %v", s.name, name, err)
				}
				got, err := readAll(t, r)
				if err != io.EOF {
					t.Errorf("%s, %s: %v", s.name, name, err)
				}
				if d := equalPackets(got, s.packets); d != "" {
					t.Errorf("%s, %s: %s", s.name, name, d)
				}
				if r.Offset() != int64(len(content)) {
					t.Errorf("%s, %s: Offset is %d at the end, want %d", s.name, name, r.Offset(), len(content))
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// Compressed data that are cut anywhere give a part of the packets, and say where
// the capture goes on that cannot be read.
func TestCompressedCut(t *testing.T) {
	for _, s := range []sample{classicSamples()[0], sectionSamples()[2]} {
		for name, content := range map[string][]byte{"gzip": gzipped(t, s.content), "zstd": zstandard(t, s.content)} {
			magicLen := map[string]int{"gzip": 2, "zstd": 4}[name] // with less it is no capture
			for n := magicLen; n < len(content); n++ {
				got, err := readFrom(t, bytes.NewReader(content[:n]))
				var d *DamagedError
				if !errors.As(err, &d) || !errors.Is(err, io.ErrUnexpectedEOF) || d.Name != "test" {
					t.Fatalf("%s, %s cut after %d bytes: %v", s.name, name, n, err)
				}
				if !strings.HasSuffix(err.Error(), "the "+name+" data are cut off") {
					t.Errorf("%s, %s cut after %d bytes: %v", s.name, name, n, err)
				}
				if diff := equalPackets(got, s.packets[:min(len(got), len(s.packets))]); diff != "" {
					t.Errorf("%s, %s cut after %d bytes: %s", s.name, name, n, diff)
				}
				if d.Offset != 0 && !slices.Contains(s.ends, int(d.Offset)) {
					t.Errorf("%s, %s cut after %d bytes: offset %d is not where a record begins", s.name, name, n, d.Offset)
				}
			}
		}
	}
}

// The same for the second member or frame, with every optional field in its header.
// Without any of it, the capture ends between two records.
func TestCompressedSecondPartCut(t *testing.T) {
	s := sectionSamples()[0]
	half := len(s.ends) / 2
	middle := s.ends[half]
	h := gzip.Header{Name: "a name", Comment: "a comment", Extra: []byte("something")}
	skippable := []byte{0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3}
	for name, parts := range map[string][2][]byte{
		"gzip": {gzipped(t, s.content[:middle]), gzippedAs(t, h, s.content[middle:])},
		"zstd": {zstandard(t, s.content[:middle]), append(skippable, zstandard(t, s.content[middle:])...)},
	} {
		for n := range len(parts[1]) {
			if name == "zstd" && n == len(skippable) {
				continue // a whole frame
			}
			got, err := readFrom(t, bytes.NewReader(slices.Concat(parts[0], parts[1][:n])))
			if n == 0 && err != io.EOF || n > 0 && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s cut after %d bytes: %v", name, n, err)
			}
			if len(got) < s.packetsAt[half] {
				t.Errorf("%s cut after %d bytes: %d packets, want %d at least", name, n, len(got), s.packetsAt[half])
			}
		}
	}
	for name, content := range map[string][]byte{
		"name":    gzippedAs(t, gzip.Header{Name: "a name"}, s.content),
		"comment": gzippedAs(t, gzip.Header{Comment: "a comment"}, s.content),
	} {
		for n := 2; n < 15; n++ {
			if _, err := readFrom(t, bytes.NewReader(content[:n])); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("first member with a %s, cut after %d bytes: %v", name, n, err)
			}
		}
	}
}

// A changed byte must be noticed by the checksum at the latest.
func TestCompressedDamaged(t *testing.T) {
	s := classicSamples()[0]
	for name, content := range map[string][]byte{"gzip": gzipped(t, s.content), "zstd": zstandard(t, s.content)} {
		for n := 12; n < len(content); n++ {
			b := bytes.Clone(content)
			b[n] ^= 0x10
			_, err := readFrom(t, bytes.NewReader(b))
			if d := new(DamagedError); !errors.As(err, &d) && !errors.Is(err, ErrNotCapture) {
				t.Errorf("%s with byte %d changed: %v", name, n, err)
			}
		}
	}
}

func TestZstdWindow(t *testing.T) {
	content := benchPcap(binary.LittleEndian)
	got, err := readFrom(t, bytes.NewReader(zstandardWindow(t, content, maxZstdWindow)))
	if err != io.EOF || len(got) != benchPackets {
		t.Errorf("window of the largest size: %d packets, %v", len(got), err)
	}
	_, err = readFrom(t, bytes.NewReader(zstandardWindow(t, content, 2*maxZstdWindow)))
	if d := new(DamagedError); !errors.As(err, &d) || !errors.Is(err, zstd.ErrWindowSizeExceeded) || !strings.Contains(err.Error(), "zstd -d --long=31") {
		t.Errorf("window above that: %v", err)
	}
}

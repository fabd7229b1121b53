package spool

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/s2"
)

func TestPlanesReturn(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, width := range []int{1, 2, 4, 8, 16} {
		for _, rows := range []int{0, 1, 2, 7, 1000} {
			data := make([]byte, width*rows)
			for i := range data {
				if i%width%3 == 0 { // some planes vary, the others are constant
					data[i] = byte(r.Uint32())
				} else {
					data[i] = byte(i % width)
				}
			}
			packed := appendPlanes([]byte("x"), data, width)
			got := make([]byte, len(data))
			rest, err := planes(got, append(packed[1:], "rest"...), width, rows)
			if err != nil || string(rest) != "rest" || !bytes.Equal(got, data) {
				t.Errorf("width %d, %d rows: %v, rest %q", width, rows, err, rest)
			}
			for cut := range min(len(packed)-1, 40) {
				if rest, err := planes(got, packed[1:1+cut], width, rows); err == nil {
					t.Errorf("width %d, %d rows, cut to %d: no error, rest %d", width, rows, cut, len(rest))
				}
			}
		}
	}
}

func TestConstantColumnsTakeNothing(t *testing.T) {
	data := bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 1000)
	if got := appendPlanes(nil, data, 8); len(got) != 2+8 {
		t.Errorf("%d octets", len(got))
	}
}

// One counter of 64 bits and one address a row, as planes, and with a compressor of
// bytes alone.
func BenchmarkPlanes(b *testing.B) {
	const rows = 1 << 15
	r := rand.New(rand.NewPCG(1, 2))
	var counters, addresses []byte
	for range rows {
		counters = binary.LittleEndian.AppendUint64(counters, 40+r.Uint64N(90000))
		addresses = append(addresses, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, byte(r.IntN(4)), byte(r.IntN(256)))
	}
	report := func(b *testing.B, octets int) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
		b.ReportMetric(float64(octets)/rows, "B/row")
	}
	b.Run("planes", func(b *testing.B) {
		var dst []byte
		for b.Loop() {
			dst = appendPlanes(appendPlanes(dst[:0], counters, 8), addresses, 16)
		}
		report(b, len(dst))
	})
	b.Run("back", func(b *testing.B) {
		src := appendPlanes(appendPlanes(nil, counters, 8), addresses, 16)
		for b.Loop() {
			rest, err := planes(counters, src, 8, rows)
			if err == nil {
				_, err = planes(addresses, rest, 16, rows)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		report(b, len(src))
	})
	b.Run("s2", func(b *testing.B) {
		x, y := make([]byte, s2.MaxEncodedLen(len(counters))), make([]byte, s2.MaxEncodedLen(len(addresses)))
		n := 0
		for b.Loop() {
			n = len(s2.Encode(x, counters)) + len(s2.Encode(y, addresses))
		}
		report(b, n)
	})
}

package spool

import (
	"encoding/binary"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"
)

// benchFlush is 100,000 rows that look like flow records: 104 octets each.
func benchFlush(b *testing.B) *Flush {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	f := new(Flush)
	for rest := 100_000; rest > 0; rest -= 1 << 15 {
		if err := f.Add(benchBlock(r, min(rest, 1<<15))); err != nil {
			b.Fatal(err)
		}
	}
	return f
}

func benchBlock(r *rand.Rand, rows int) *Block {
	block := &Block{Table: "flows", Rows: rows}
	add := func(width int, value func(dst []byte) []byte) {
		c := Column{Name: "c", Type: "T", Width: width}
		for range rows {
			c.Data = value(c.Data)
		}
		block.Columns = append(block.Columns, c)
	}
	constant := func(width int) func([]byte) []byte {
		return func(dst []byte) []byte { return append(dst, make([]byte, width)...) }
	}
	below := func(width int, most uint64) func([]byte) []byte {
		return func(dst []byte) []byte {
			var v [8]byte
			binary.LittleEndian.PutUint64(v[:], r.Uint64N(most))
			return append(dst, v[:width]...)
		}
	}
	address := func(dst []byte) []byte {
		return append(dst, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, byte(r.IntN(4)), byte(r.IntN(256)))
	}
	add(4, constant(4)) // ts, host, iface, direction, proto, vlan
	add(2, constant(2))
	add(2, constant(2))
	add(1, below(1, 3))
	add(1, constant(1))
	add(2, constant(2))
	add(16, address)
	add(16, address)
	add(2, below(2, 1<<16))
	add(2, constant(2))
	for range 2 { // packets, bytes, flags, each way
		add(8, below(8, 200))
		add(8, below(8, 90000))
		add(1, below(1, 32))
	}
	add(8, below(8, 10000)) // times
	add(8, below(8, 10000))
	add(4, constant(4))
	add(1, below(1, 5))
	add(1, below(1, 6))
	return block
}

func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func report(b *testing.B, began time.Duration, rows, octets int) {
	n := float64(b.N * rows)
	b.ReportMetric(float64(cpu()-began)/n, "cpu-ns/row")
	b.ReportMetric(float64(octets)/float64(rows), "B/row")
	b.ReportMetric(104*n/1e6/b.Elapsed().Seconds(), "MB/s")
}

// BenchmarkWrite has what a flush of 100,000 records costs: columns into planes, file,
// fsync. MB are those of the columns.
func BenchmarkWrite(b *testing.B) {
	s := openSpool(b, Options{Folder: b.TempDir(), MaxBytes: 1 << 40, Full: Newest})
	r := rand.New(rand.NewPCG(1, 2))
	var blocks []*Block
	rows := 0
	for range 3 {
		blocks = append(blocks, benchBlock(r, 1<<15))
		rows += 1 << 15
	}
	f := new(Flush)
	began := cpu()
	octets := 0
	for b.Loop() {
		f.Reset()
		for _, block := range blocks {
			if err := f.Add(block); err != nil {
				b.Fatal(err)
			}
		}
		if err := s.Put(b.Context(), f); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		t, err := s.Take(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		octets = int(s.Stats().Bytes)
		s.Done(t)
		b.StartTimer()
	}
	report(b, began, rows, octets)
}

// BenchmarkRead has what reading it back costs: checksums, columns out of planes. The file
// is in the page cache, as that of a server which answers is.
func BenchmarkRead(b *testing.B) {
	s := openSpool(b, Options{Folder: b.TempDir()})
	if err := s.Put(b.Context(), benchFlush(b)); err != nil {
		b.Fatal(err)
	}
	began := cpu()
	for b.Loop() {
		t, err := s.Take(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		for _, i := range t.Inserts {
			for _, err := range i.Blocks() {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
		s.Return(t)
	}
	report(b, began, 100_000, int(s.Stats().Bytes))
}

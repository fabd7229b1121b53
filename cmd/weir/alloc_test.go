package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"weir/capture"
	"weir/capture/pcap"
)

// synthetic returns a capture of n UDP packets over that many flows and 100 s.
func synthetic(t testing.TB, n, flows int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := pcap.NewWriter(&out, capture.LinkRaw, 0)
	if err != nil {
		t.Fatal(err)
	}
	ip := make([]byte, 28)
	ip[0], ip[3], ip[9] = 0x45, 28, 17
	for i := range n {
		binary.BigEndian.PutUint32(ip[12:], 10<<24|uint32(i%flows))
		binary.BigEndian.PutUint32(ip[16:], 11<<24)
		p := capture.Packet{Data: ip, WireLen: 28, Time: int64(i) * int64(100*time.Second) / int64(n), LinkType: capture.LinkRaw, Type: capture.PacketUnknown}
		if err := w.Write(&p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// replayBytes replays a capture in memory to records that nobody takes.
func replayBytes(t testing.TB, file []byte) *metering {
	t.Helper()
	r, err := pcap.NewReader(bytes.NewReader(file), "synthetic")
	if err != nil {
		t.Fatal(err)
	}
	m := &metering{interval: 10 * time.Second, max: 1 << 20}
	m.tracker.Idle, m.tracker.Max = time.Minute, m.max
	if err := m.run(context.Background(), one(r, "x"), nothing{}); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestReplayAllocs replays twice the packets of the same flows: the whole path, from
// the file to the sink, must not allocate per packet nor, once it has its size, per
// flow and interval.
func TestReplayAllocs(t *testing.T) {
	mallocs := func(n, flows int) uint64 {
		file := synthetic(t, n, flows)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m := replayBytes(t, file)
		if m.total.Metered != uint64(n) {
			t.Fatalf("%d packets metered of %d", m.total.Metered, n)
		}
		runtime.ReadMemStats(&after)
		return after.Mallocs - before.Mallocs
	}
	const n, flows = 400_000, 20_000 // each flow twice and more in each of ten intervals
	once, twice := mallocs(n, flows), mallocs(2*n, flows)
	t.Logf("%d packets: %d allocations; %d packets: %d", n, once, 2*n, twice)
	if once > n/100 || twice > once+n/1000 {
		t.Errorf("allocations grow with the packets: %d for %d, %d for %d", once, n, twice, 2*n)
	}
}

// BenchmarkReplay is the whole path from a capture in memory to records that
// nobody takes.
func BenchmarkReplay(b *testing.B) {
	const n, flows = 1_000_000, 100_000
	file := synthetic(b, n, flows)
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		replayBytes(b, file)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/packet")
}

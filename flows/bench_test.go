package flows

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"weir/capture"
)

// traffic is a ring of Ethernet frames of n flows, a quarter of them IPv6, in an
// order drawn from a Zipf-like law. Its frames are 96 octets apart, as a capture
// with a short snaplen has them.
func traffic(flows, packets int) []capture.Packet {
	r := rand.New(rand.NewPCG(1, 2))
	const size = 96
	mem := make([]byte, packets*size)
	ps := make([]capture.Packet, packets)
	for i := range ps {
		f := uint32(math.Pow(float64(flows), r.Float64())) - 1 // log-uniform: rank 1/f
		if r.Uint32()%2 == 0 {
			f = r.Uint32N(uint32(flows))
		}
		b := mem[i*size : (i+1)*size]
		frame(b, f)
		ps[i] = capture.Packet{Data: b, WireLen: 1500, Time: int64(i) * 1000, LinkType: capture.LinkEthernet, Type: capture.PacketUnknown}
	}
	return ps
}

// frame writes the TCP packet of flow f.
func frame(b []byte, f uint32) {
	var l4 []byte
	if f%4 == 0 {
		binary.BigEndian.PutUint16(b[12:], etherIPv6)
		ip := b[14:]
		ip[0], ip[6] = 0x60, protoTCP
		binary.BigEndian.PutUint16(ip[4:], 1400)
		ip[8], ip[24] = 0x20, 0x20
		binary.BigEndian.PutUint32(ip[20:], f)
		binary.BigEndian.PutUint32(ip[36:], f>>4)
		l4 = ip[40:]
	} else {
		binary.BigEndian.PutUint16(b[12:], etherIPv4)
		ip := b[14:]
		ip[0], ip[9] = 0x45, protoTCP
		binary.BigEndian.PutUint16(ip[2:], 1400)
		binary.BigEndian.PutUint32(ip[12:], 10<<24|f)
		binary.BigEndian.PutUint32(ip[16:], 100<<24|f>>4)
		l4 = ip[20:]
	}
	binary.BigEndian.PutUint16(l4, uint16(f))
	binary.BigEndian.PutUint16(l4[2:], 443)
	l4[12], l4[13] = 0x50, flagACK
}

// BenchmarkDecode is the cost of a packet from its first byte to its key.
func BenchmarkDecode(b *testing.B) {
	ps := traffic(1000, 1024)
	var h Headers
	for i := range b.N {
		if v := h.Decode(&ps[i%len(ps)]); v != OK {
			b.Fatal(v)
		}
	}
}

// BenchmarkTable is the cost of a packet from its first byte to the counters of
// its flow, by the number of flows. The table has its size already.
func BenchmarkTable(b *testing.B) {
	for _, flows := range []int{1000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("flows=%d", flows), func(b *testing.B) {
			ps := traffic(flows, 1<<21)
			m := NewMeter(NewDecoder(nil), NewTable(4<<20))
			m.Add(ps)
			b.ResetTimer()
			for i := 0; i < b.N; {
				at := i % len(ps)
				batch := ps[at:min(at+256, len(ps))]
				m.Add(batch)
				i += len(batch)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N), "ns/packet")
		})
	}
}

// BenchmarkFlush is the tracker's cost of a flow in an interval, when it is new
// and when it is known. One table is flushed over and over: Flush links its cells
// afresh each time.
func BenchmarkFlush(b *testing.B) {
	for _, flows := range []int{1000, 100_000, 1_000_000} {
		table := NewTable(4 << 20)
		NewMeter(NewDecoder(nil), table).Add(traffic(flows, 1<<20))
		for _, known := range []bool{false, true} {
			b.Run(fmt.Sprintf("flows=%d/known=%v", flows, known), func(b *testing.B) {
				t := NewTracker(TrackerConfig{Max: 4 << 20})
				var records int
				for b.Loop() {
					if !known {
						t = NewTracker(TrackerConfig{Max: 4 << 20})
					}
					t.Flush(table, 1, false, func(*Record) { records++ })
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(records), "ns/flow")
			})
		}
	}
}

// BenchmarkFlushPerPacket is what a packet costs where the clock jumps so far that
// each is an interval of its own, with 100,000 conversations remembered.
func BenchmarkFlushPerPacket(b *testing.B) {
	ps := traffic(100_000, 1<<19)
	table := NewTable(1 << 20)
	m := NewMeter(NewDecoder(nil), table)
	m.Add(ps)
	t := NewTracker(TrackerConfig{Max: 1 << 20, Idle: time.Hour})
	t.Flush(table, 1, false, func(*Record) {})
	table.Reset()
	for i := 0; b.Loop(); i++ {
		m.Add(ps[i%len(ps) : i%len(ps)+1])
		t.Flush(table, int64(i%2)*int64(time.Minute), false, func(*Record) {})
		table.Reset()
	}
}

// BenchmarkHash compares the table's hash with xxhash and with the runtime's
// hash, which uses the processor's AES instructions.
func BenchmarkHash(b *testing.B) {
	k := NewKey(netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), 40000, 443, 7, protoTCP, DirectionIn)
	var sum uint64
	b.Run("folded", func(b *testing.B) {
		for b.Loop() {
			k.srcLo++
			sum += processSeed.hash(&k)
		}
	})
	b.Run("xxhash", func(b *testing.B) {
		var buf [48]byte // the seed and the key
		for b.Loop() {
			k.srcLo++
			for i, w := range []uint64{processSeed[0], k.srcHi, k.srcLo, k.dstHi, k.dstLo, k.rest} {
				binary.NativeEndian.PutUint64(buf[i*8:], w)
			}
			sum += xxhash.Sum64(buf[:])
		}
	})
	b.Run("maphash", func(b *testing.B) {
		s := maphash.MakeSeed()
		for b.Loop() {
			k.srcLo++
			sum += maphash.Comparable(s, k)
		}
	})
	_ = sum
}

package pcap

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"reflect"
	"testing"

	"weir/capture"
)

// sample is a capture with what must be read from it.
type sample struct {
	name    string
	content []byte
	packets []capture.Packet
	// ends are where the records and blocks end, the file header's end first, and
	// packetsAt is how many packets are complete there.
	ends      []int
	packetsAt []int
	// header is how many bytes must be there for the capture to be opened.
	header int
}

// add appends records or blocks that hold these packets.
func (s *sample) add(content []byte, packets ...capture.Packet) {
	s.content = append(s.content, content...)
	s.packets = append(s.packets, packets...)
	s.ends = append(s.ends, len(s.content))
	s.packetsAt = append(s.packetsAt, len(s.packets))
}

// bytesUpTo returns n different bytes.
func bytesUpTo(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i + 1)
	}
	return b
}

func orderName(o byteOrder) string {
	if o == binary.BigEndian {
		return "big"
	}
	return "little"
}

// classicSamples returns pcap files of every variant.
func classicSamples() []sample {
	var samples []sample
	for _, o := range []byteOrder{binary.LittleEndian, binary.BigEndian} {
		for _, v := range []struct {
			name    string
			magic   uint32
			unit    int64
			snaplen uint32
			network uint32
			link    capture.LinkType
		}{
			{"microseconds", magicMicroseconds, 1000, 65535, 1, capture.LinkEthernet},
			{"nanoseconds", magicNanoseconds, 1, 65535, 101, capture.LinkRaw},
			{"snaplen 0", magicMicroseconds, 1000, 0, 276, capture.LinkSLL2},
			{"records above snaplen", magicMicroseconds, 1000, 8, 1, capture.LinkEthernet},
			// FCS length 2 words, and the flag that says so (draft section 4).
			{"frame check sequence", magicMicroseconds, 1000, 65535, 0x24000001, capture.LinkEthernet},
			{"unknown link type", magicMicroseconds, 1000, 65535, 54321, 54321},
		} {
			s := sample{name: v.name + " " + orderName(o), header: fileHeaderLen}
			s.add(fileHeader(o, v.magic, v.snaplen, v.network))
			for i, r := range []struct {
				seconds, fraction uint32
				size              int
				wire              uint32
			}{
				{1700000000, 123456, 60, 60},
				{1699999999, 999999, 13, 1514}, // back in time, and cut to an odd length
				{0, 0, 0, 0},
				{4294967295, 5, 1, 1},          // 2106, beyond a signed 32-bit time
				{100, 4294967295, 2, 2},        // a fraction of more than one second
				{4294967295, 4294967295, 3, 3}, // as late as it gets
				{7, 7, 300, 4294967295},
				{8, 8, 10, 4}, // claims to have been shorter on the wire than captured
			} {
				data := bytesUpTo(r.size + i)
				s.add(record(nil, o, r.seconds, r.fraction, data, r.wire), capture.Packet{
					Data: data, Time: int64(r.seconds)*1e9 + int64(r.fraction)*v.unit, WireLen: r.wire,
					LinkType: v.link, Type: capture.PacketUnknown,
				})
			}
			samples = append(samples, s)
		}

		m := sample{name: "modified " + orderName(o), header: fileHeaderLen}
		m.add(fileHeader(o, magicModified, 65535, 1))
		for i, c := range []struct {
			index    uint32
			protocol uint16
			kind     byte
			want     capture.PacketType
		}{
			{2, 0x0800, 0, capture.PacketHost},
			{2, 0x0800, 1, capture.PacketBroadcast},
			{2, 0x86dd, 2, capture.PacketMulticast},
			{2, 0x0800, 3, capture.PacketOtherHost},
			{2, 0x0800, 4, capture.PacketOutgoing},
			{2, 0x0800, 7, capture.PacketKernel},
			{2, 0x0800, 8, capture.PacketUnknown},
			{0, 0, 0, capture.PacketUnknown}, // nothing filled in
		} {
			data := bytesUpTo(20 + i)
			m.add(modifiedRecord(nil, o, 5, 6, data, 99, c.index, c.protocol, c.kind), capture.Packet{
				Data: data, Time: 5*1e9 + 6000, WireLen: 99, LinkType: capture.LinkEthernet, Type: c.want,
			})
		}
		samples = append(samples, m)
	}
	return samples
}

// sectionSamples returns pcapng files: one with every feature in each byte order,
// and one that mixes the orders.
func sectionSamples() []sample {
	little, big, mixed := sample{name: "pcapng little"}, sample{name: "pcapng big"}, sample{name: "pcapng mixed"}
	addSection(&little, binary.LittleEndian, 0)
	addSection(&big, binary.BigEndian, 0)
	addSection(&mixed, binary.BigEndian, 0)
	addSection(&mixed, binary.LittleEndian, 3)
	mixed.add(sectionBlock(nil, binary.BigEndian)) // a section without anything
	addSection(&mixed, binary.BigEndian, 6)
	samples := []sample{little, big, mixed}
	for i := range samples {
		samples[i].header = 12
	}
	return samples
}

// addSection adds a section of three interfaces with the numbers from first on.
func addSection(s *sample, o byteOrder, first uint32) {
	flags := func(v uint32) []byte { return options(o, option(o, optionFlags, o.AppendUint32(nil, v))) }
	offset := func(seconds int64) []byte { return option(o, optionOffset, o.AppendUint64(nil, uint64(seconds))) }

	s.add(sectionBlock(nil, o, options(o, option(o, 4, []byte("a program")))...))
	s.add(block(nil, o, 0x0bad, append(o.AppendUint32(nil, 32473), "custom block"...)))
	s.add(interfaceBlock(nil, o, 1, 39, nil)) // microseconds, as no option says otherwise
	s.add(interfaceBlock(nil, o, 101, 0, options(o,
		option(o, optionName, []byte("eth0")), option(o, optionResol, []byte{9}), offset(1000))))
	s.add(block(nil, o, 4, make([]byte, 4))) // name resolution: no names
	eth := func(p capture.Packet) capture.Packet {
		p.Interface, p.LinkType = first, capture.LinkEthernet
		return p
	}
	raw := func(p capture.Packet) capture.Packet {
		p.Interface, p.LinkType = first+1, capture.LinkRaw
		return p
	}
	unknown := capture.PacketUnknown
	for n := range 5 { // every length of padding
		s.add(enhancedBlock(nil, o, 0, 1_700_000_000_123_456, bytesUpTo(n), 1500, nil),
			eth(capture.Packet{Data: bytesUpTo(n), Time: 1_700_000_000_123_456_000, WireLen: 1500, Type: unknown}))
	}
	s.add(enhancedBlock(nil, o, 1, 1_000_000_001, bytesUpTo(30), 30, nil),
		raw(capture.Packet{Data: bytesUpTo(30), Time: 1_001_000_000_001, WireLen: 30, Type: unknown}))
	s.add(enhancedBlock(nil, o, 0, 1<<64-1, bytesUpTo(1), 1, nil),
		eth(capture.Packet{Data: bytesUpTo(1), Time: capture.MaxTime, WireLen: 1, Type: unknown}))
	s.add(block(nil, o, 0x12345678, nil)) // unknown, and as short as a block can be

	for _, c := range []struct {
		flags uint32
		want  capture.PacketType
	}{
		{0, unknown}, {3, unknown}, {1, capture.PacketHost}, {2, capture.PacketOutgoing},
		{1 | 1<<2, capture.PacketHost}, {1 | 2<<2, capture.PacketMulticast},
		{1 | 3<<2, capture.PacketBroadcast}, {1 | 4<<2, capture.PacketOtherHost},
		{2 | 3<<2, capture.PacketOutgoing}, {3 << 2, unknown}, {1 | 0xffffffe0, capture.PacketHost},
	} {
		s.add(enhancedBlock(nil, o, 0, 1, bytesUpTo(6), 6, flags(c.flags)),
			eth(capture.Packet{Data: bytesUpTo(6), Time: 1000, WireLen: 6, Type: c.want}))
	}
	s.add(enhancedBlock(nil, o, 0, 1, bytesUpTo(7), 6, options(o, option(o, 1, []byte("a comment")),
		option(o, optionFlags, o.AppendUint32(nil, 2)))),
		eth(capture.Packet{Data: bytesUpTo(7), Time: 1000, WireLen: 6, Type: capture.PacketOutgoing}))

	s.add(simpleBlock(nil, o, 9, bytesUpTo(9)),
		eth(capture.Packet{Data: bytesUpTo(9), WireLen: 9, Type: unknown}))
	s.add(simpleBlock(nil, o, 1514, bytesUpTo(39)), // cut to the snapshot length, then padded
		eth(capture.Packet{Data: bytesUpTo(39), WireLen: 1514, Type: unknown}))

	s.add(interfaceBlock(nil, o, 113, 65535, options(o, // between packets, in units of 2^-10 s
		option(o, optionResol, []byte{0x80 | 10}), option(o, optionName, []byte("name with an end\x00")), offset(-1))))
	s.add(obsoleteBlock(nil, o, 2, 77, 3*1024+512, bytesUpTo(11), 12, flags(2)), capture.Packet{
		Data: bytesUpTo(11), Time: 2_500_000_000, WireLen: 12, Interface: first + 2,
		LinkType: capture.LinkSLL, Type: capture.PacketOutgoing,
	})
	s.add(block(nil, o, 5, make([]byte, 12)))                                                               // interface statistics: none
	s.add(block(nil, o, 10, append(o.AppendUint32(o.AppendUint32(nil, 0x544c534b), 40), bytesUpTo(40)...))) // TLS keys
	s.add(block(nil, o, 0x40000bad, o.AppendUint32(nil, 32473)))                                            // custom, not to be copied; RFC 5612's number
}

// samples returns all of them.
func samples() []sample { return append(classicSamples(), sectionSamples()...) }

// readAll reads up to the error, copies the packets, and checks what must hold for
// every source: no empty batches, valid interfaces and times, an error that stays.
func readAll(tb testing.TB, r *Reader) ([]capture.Packet, error) {
	tb.Helper()
	var all []capture.Packet
	for {
		batch, err := r.NextBatch()
		if err != nil {
			if len(batch) != 0 {
				tb.Errorf("%d packets together with the error %v", len(batch), err)
			}
			if _, again := r.NextBatch(); again != err {
				tb.Errorf("the error %v became %v", err, again)
			}
			if got := r.Stats().Packets; got != uint64(len(all)) {
				tb.Errorf("Stats counts %d packets, but %d were read", got, len(all))
			}
			return all, err
		}
		if len(batch) == 0 || len(batch) > batchSize {
			tb.Fatalf("a batch has %d packets", len(batch))
		}
		for _, p := range batch {
			if p.Time < 0 || p.Time > capture.MaxTime {
				tb.Errorf("time %d is out of range", p.Time)
			}
			if int(p.Interface) >= len(r.Interfaces()) {
				tb.Errorf("interface %d of %d", p.Interface, len(r.Interfaces()))
			} else if l := r.Interfaces()[p.Interface].LinkType; l != p.LinkType {
				tb.Errorf("a packet has link type %v, its interface %v", p.LinkType, l)
			}
			if cap(p.Data) != len(p.Data) {
				tb.Errorf("a packet of %d bytes has room for %d: appending to it would overwrite the next", len(p.Data), cap(p.Data))
			}
			p.Data = bytes.Clone(p.Data)
			all = append(all, p)
		}
	}
}

// readFrom reads all of a capture from in.
func readFrom(tb testing.TB, in io.Reader) ([]capture.Packet, error) {
	tb.Helper()
	r, err := NewReader(in, "test")
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return readAll(tb, r)
}

// equalPackets returns how got and want differ, "" if they do not.
func equalPackets(got, want []capture.Packet) string {
	for i := range min(len(got), len(want)) {
		g, w := got[i], want[i]
		if !bytes.Equal(g.Data, w.Data) {
			return fmt.Sprintf("packet %d: got the data % x, want % x", i, g.Data, w.Data)
		}
		g.Data, w.Data = nil, nil
		if !reflect.DeepEqual(g, w) {
			return fmt.Sprintf("packet %d: got %+v, want %+v", i, g, w)
		}
	}
	if len(got) != len(want) {
		return fmt.Sprintf("got %d packets, want %d", len(got), len(want))
	}
	return ""
}

package pcap

import (
	"encoding/binary"
	"math/bits"

	"weir/capture"
)

// Magic numbers of pcap files, in the byte order of the file. The first two are of
// draft-ietf-opsawg-pcap section 4, the third is libpcap's KUZNETZOV_TCPDUMP_MAGIC
// (sf-pcap.c).
const (
	magicMicroseconds = 0xa1b2c3d4
	magicNanoseconds  = 0xa1b23c4d
	magicModified     = 0xa1b2cd34
)

const (
	fileHeaderLen           = 24
	recordHeaderLen         = 16
	modifiedRecordHeaderLen = 24 // struct pcap_sf_patched_pkthdr in libpcap's sf-pcap.c
)

// classic reads the pcap format.
type classic struct {
	swapped   bool  // the file is big endian
	unit      int64 // nanoseconds in one unit of a timestamp's second word
	headerLen int   // of a record
	old       bool  // a version before 2.4
	ifaces    [1]capture.Interface
}

// newClassic returns the reader of the variant that has this magic number, nil if
// there is none.
func newClassic(head []byte) *classic {
	m := binary.LittleEndian.Uint32(head)
	for _, swapped := range []bool{false, true} {
		switch m {
		case magicMicroseconds:
			return &classic{swapped: swapped, unit: 1000, headerLen: recordHeaderLen}
		case magicNanoseconds:
			return &classic{swapped: swapped, unit: 1, headerLen: recordHeaderLen}
		case magicModified:
			return &classic{swapped: swapped, unit: 1000, headerLen: modifiedRecordHeaderLen}
		}
		m = bits.ReverseBytes32(m)
	}
	return nil
}

func (f *classic) order() binary.ByteOrder {
	if f.swapped {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

func (f *classic) version(head []byte) (major, minor uint16) {
	return f.order().Uint16(head[4:]), f.order().Uint16(head[6:])
}

// readHeader reads the file header. The time zone and the accuracy have never been
// used. The snapshot length is not believed: there are files whose packets are
// longer. Only the low 16 bits of the last word are the link type, those above it
// tell of the frame check sequence.
func (f *classic) readHeader(head []byte) {
	major, minor := f.version(head)
	f.old = major == 2 && minor < 4
	f.ifaces[0].LinkType = capture.LinkType(f.order().Uint32(head[20:]) & 0xffff)
}

func (f *classic) interfaces() []capture.Interface { return f.ifaces[:] }

func (f *classic) unfinished(w *window) (int64, bool) {
	return w.offset(), len(w.unread()) > 0
}

// parse describes the records in the window. A time cannot overflow: 2^32 seconds
// and 2^32 units on top of them are less than capture.MaxTime, so that a second
// word beyond its unit is simply added.
//
// The test for the byte order costs nothing that can be measured, as it always
// comes out the same (BenchmarkReadPcap).
func (f *classic) parse(w *window, batch []capture.Packet) (n int, err error) {
	b, at, link, headerLen := w.unread(), 0, f.ifaces[0].LinkType, f.headerLen
	for n < len(batch) && len(b)-at >= headerLen {
		h := b[at : at+recordHeaderLen]
		seconds, fraction := binary.LittleEndian.Uint32(h), binary.LittleEndian.Uint32(h[4:])
		captured, wire := binary.LittleEndian.Uint32(h[8:]), binary.LittleEndian.Uint32(h[12:])
		if f.swapped {
			seconds, fraction = bits.ReverseBytes32(seconds), bits.ReverseBytes32(fraction)
			captured, wire = bits.ReverseBytes32(captured), bits.ReverseBytes32(wire)
		}
		if f.old && captured > wire {
			// Before 2.3 the lengths stood the other way round, in 2.3 either way;
			// libpcap's sf-pcap.c tells the same story.
			captured, wire = wire, captured
		}
		if captured > maxRecord-modifiedRecordHeaderLen {
			err = damaged(w.offset()+int64(at), "the record claims %d captured bytes; at most %d are plausible",
				captured, maxRecord-modifiedRecordHeaderLen)
			break
		}
		start := at + headerLen
		end := start + int(captured)
		if end > len(b) {
			break
		}
		kind := capture.PacketUnknown
		if headerLen == modifiedRecordHeaderLen {
			kind = modifiedType(b[at+recordHeaderLen:])
		}
		batch[n] = capture.Packet{
			Data:     b[start:end:end],
			Time:     int64(seconds)*1e9 + int64(fraction)*f.unit,
			WireLen:  wire,
			LinkType: link,
			Type:     kind,
		}
		n++
		at = end
	}
	w.lo += at
	return n, err
}

// modifiedType returns the packet type out of the end of a modified record header:
// interface index (4 bytes), protocol (2), packet type (1), padding (1). Where all
// is zero nobody filled it in: no interface of Linux has index 0.
func modifiedType(b []byte) capture.PacketType {
	if binary.LittleEndian.Uint64(b) == 0 || b[6] > uint8(capture.PacketKernel) {
		return capture.PacketUnknown
	}
	return capture.PacketType(b[6])
}

package pcap

import (
	"encoding/binary"
	"math/bits"

	"weir/capture"
)

// Block types (draft-ietf-opsawg-pcapng section 11.1). All others are passed over.
const (
	blockInterface = 1
	blockPacket    = 2 // obsolete
	blockSimple    = 3
	blockEnhanced  = 6
	blockSection   = 0x0a0d0d0a // the same in both byte orders
)

const (
	byteOrderMagic = 0x1a2b3c4d

	blockHeaderLen  = 8  // type and total length
	trailerLen      = 4  // the total length once more
	sectionFixedLen = 16 // byte-order magic, version, section length
	packetFixedLen  = 20 // of enhanced and of obsolete packet blocks

	// maxInterfaces bounds the interfaces of a file over all sections. With their
	// names they take up to 20 MB.
	maxInterfaces = 1 << 16
)

// sections reads the pcapng format.
type sections struct {
	swapped bool // the section is big endian
	first   int  // index of the section's interface 0
	clocks  []ngInterface
	ifaces  []capture.Interface

	// The block that is being passed over: what is left of it before its trailer,
	// where it began, and its total length, 0 if there is none.
	left    int64
	passAt  int64
	passLen uint32
}

// sectionOrder returns the byte order of the section that begins with b, which holds
// 12 bytes; ok is false if the magic is neither.
func sectionOrder(b []byte) (swapped, ok bool) {
	switch binary.LittleEndian.Uint32(b[8:]) {
	case byteOrderMagic:
		return false, true
	case bits.ReverseBytes32(byteOrderMagic):
		return true, true
	}
	return false, false
}

func (f *sections) u16(b []byte) uint16 {
	v := binary.LittleEndian.Uint16(b)
	if f.swapped {
		v = bits.ReverseBytes16(v)
	}
	return v
}

func (f *sections) u32(b []byte) uint32 {
	v := binary.LittleEndian.Uint32(b)
	if f.swapped {
		v = bits.ReverseBytes32(v)
	}
	return v
}

func (f *sections) interfaces() []capture.Interface { return f.ifaces }

func (f *sections) unfinished(w *window) (int64, bool) {
	if f.passLen != 0 {
		return f.passAt, true
	}
	return w.offset(), len(w.unread()) > 0
}

func (f *sections) parse(w *window, batch []capture.Packet) (n int, err error) {
	for n < len(batch) {
		if f.passLen != 0 {
			if done, err := f.pass(w); err != nil || !done {
				return n, err
			}
		}
		b := w.unread()
		if len(b) < blockHeaderLen+trailerLen {
			return n, nil
		}
		kind, size := f.u32(b), f.u32(b[4:])
		if kind == blockSection {
			if ok, err := f.section(w, b); err != nil || !ok {
				return n, err
			}
			continue
		}
		if size < blockHeaderLen+trailerLen || size%4 != 0 {
			return n, damaged(w.offset(), "a block of type %#x has the length %d, which is not a multiple of 4 from 12 on", kind, size)
		}
		switch kind {
		case blockEnhanced, blockPacket, blockSimple, blockInterface:
		default:
			f.startPass(w, size, blockHeaderLen)
			continue
		}
		if size > maxRecord {
			return n, damaged(w.offset(), "a block of type %#x has the length %d; at most %d is plausible", kind, size, maxRecord)
		}
		if uint32(len(b)) < size {
			return n, nil
		}
		if again := f.u32(b[size-trailerLen:]); again != size {
			return n, damaged(w.offset(), "a block of type %#x has the length %d at its start and %d at its end", kind, size, again)
		}
		body := b[blockHeaderLen : size-trailerLen]
		var reason *DamagedError
		packets := 1
		switch kind {
		case blockEnhanced, blockPacket:
			reason = f.packet(&batch[n], body, kind == blockPacket)
		case blockSimple:
			reason = f.simple(&batch[n], body)
		case blockInterface:
			reason = f.declare(body)
			packets = 0
		}
		if reason != nil {
			reason.Offset = w.offset()
			return n, reason
		}
		n += packets
		w.lo += int(size)
	}
	return n, nil
}

// startPass begins to pass over the block at the window's front, of which the first
// used bytes are dealt with. It may be gigabytes long, so no part of it is kept.
func (f *sections) startPass(w *window, size uint32, used int) {
	f.passAt, f.passLen = w.offset(), size
	f.left = int64(size) - trailerLen - int64(used)
	w.lo += used
}

// pass goes on with that and checks the trailer. It reports whether it is through.
func (f *sections) pass(w *window) (bool, error) {
	drop := min(f.left, int64(len(w.unread())))
	w.lo += int(drop)
	f.left -= drop
	b := w.unread()
	if f.left > 0 || len(b) < trailerLen {
		return false, nil
	}
	if again := f.u32(b); again != f.passLen {
		return false, damaged(f.passAt, "the block has the length %d at its start and %d at its end", f.passLen, again)
	}
	w.lo += trailerLen
	f.passLen = 0
	return true, nil
}

// section begins a new section, unless more of its header must be read first. The
// section length is of no use: it may be missing, and the blocks say it better.
func (f *sections) section(w *window, b []byte) (bool, error) {
	const used = blockHeaderLen + sectionFixedLen
	if len(b) < used {
		return false, nil
	}
	swapped, ok := sectionOrder(b)
	if !ok {
		return false, damaged(w.offset(), "a section header has the byte-order magic % x", b[8:12])
	}
	f.swapped, f.first = swapped, len(f.ifaces)
	size := f.u32(b[4:])
	if size < used+trailerLen || size%4 != 0 {
		return false, damaged(w.offset(), "a section header has the length %d, which is not a multiple of 4 from %d on", size, used+trailerLen)
	}
	if major := f.u16(b[12:]); major != 1 {
		return false, damaged(w.offset(), "a section is of pcapng version %d.%d; only version 1 is known", major, f.u16(b[14:]))
	}
	f.startPass(w, size, used)
	return true, nil
}

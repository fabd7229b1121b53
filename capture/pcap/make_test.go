package pcap

import (
	"encoding/binary"
)

// byteOrder is binary.LittleEndian or binary.BigEndian.
type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// The functions of this file make captures byte by byte, so that the reader is not
// tested against the same code's idea of the formats. They append to b.

func fileHeader(o byteOrder, magic, snaplen, network uint32) []byte {
	b := o.AppendUint32(nil, magic)
	b = o.AppendUint16(b, 2)
	b = o.AppendUint16(b, 4)
	b = append(b, make([]byte, 8)...)
	b = o.AppendUint32(b, snaplen)
	return o.AppendUint32(b, network)
}

func record(b []byte, o byteOrder, seconds, fraction uint32, data []byte, wire uint32) []byte {
	b = o.AppendUint32(b, seconds)
	b = o.AppendUint32(b, fraction)
	b = o.AppendUint32(b, uint32(len(data)))
	b = o.AppendUint32(b, wire)
	return append(b, data...)
}

func modifiedRecord(b []byte, o byteOrder, seconds, fraction uint32, data []byte, wire, index uint32, protocol uint16, kind byte) []byte {
	b = o.AppendUint32(b, seconds)
	b = o.AppendUint32(b, fraction)
	b = o.AppendUint32(b, uint32(len(data)))
	b = o.AppendUint32(b, wire)
	b = o.AppendUint32(b, index)
	b = o.AppendUint16(b, protocol)
	b = append(b, kind, 0)
	return append(b, data...)
}

// block frames a body, which must be padded.
func block(b []byte, o byteOrder, kind uint32, body []byte) []byte {
	size := uint32(len(body) + 12)
	b = o.AppendUint32(b, kind)
	b = o.AppendUint32(b, size)
	b = append(b, body...)
	return o.AppendUint32(b, size)
}

func pad(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }

// option makes one option, padded.
func option(o byteOrder, code uint16, value []byte) []byte {
	b := o.AppendUint16(nil, code)
	b = o.AppendUint16(b, uint16(len(value)))
	return pad(append(b, value...))
}

// options joins options and ends them.
func options(o byteOrder, list ...[]byte) []byte {
	var b []byte
	for _, l := range list {
		b = append(b, l...)
	}
	return append(b, option(o, optionEnd, nil)...)
}

func sectionBlock(b []byte, o byteOrder, opts ...byte) []byte {
	body := o.AppendUint32(nil, byteOrderMagic)
	body = o.AppendUint16(body, 1)
	body = o.AppendUint16(body, 0)
	body = o.AppendUint64(body, ^uint64(0))
	return block(b, o, blockSection, append(body, opts...))
}

func interfaceBlock(b []byte, o byteOrder, link uint16, snaplen uint32, opts []byte) []byte {
	body := o.AppendUint16(nil, link)
	body = o.AppendUint16(body, 0)
	body = o.AppendUint32(body, snaplen)
	return block(b, o, blockInterface, append(body, opts...))
}

func enhancedBlock(b []byte, o byteOrder, id uint32, ticks uint64, data []byte, wire uint32, opts []byte) []byte {
	body := o.AppendUint32(nil, id)
	return packetBody(b, o, blockEnhanced, body, ticks, data, wire, opts)
}

func obsoleteBlock(b []byte, o byteOrder, id, drops uint16, ticks uint64, data []byte, wire uint32, opts []byte) []byte {
	body := o.AppendUint16(nil, id)
	body = o.AppendUint16(body, drops)
	return packetBody(b, o, blockPacket, body, ticks, data, wire, opts)
}

func packetBody(b []byte, o byteOrder, kind uint32, body []byte, ticks uint64, data []byte, wire uint32, opts []byte) []byte {
	body = o.AppendUint32(body, uint32(ticks>>32))
	body = o.AppendUint32(body, uint32(ticks))
	body = o.AppendUint32(body, uint32(len(data)))
	body = o.AppendUint32(body, wire)
	body = pad(append(body, data...))
	return block(b, o, kind, append(body, opts...))
}

func simpleBlock(b []byte, o byteOrder, wire uint32, data []byte) []byte {
	return block(b, o, blockSimple, pad(append(o.AppendUint32(nil, wire), data...)))
}

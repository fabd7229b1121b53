package pcap

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strings"

	"weir/capture"
)

// Option codes (draft-ietf-opsawg-pcapng sections 4.2 and 4.3). Each is read only
// if its value is as long as it must be.
const (
	optionEnd      = 0
	optionName     = 2  // if_name
	optionResol    = 9  // if_tsresol
	optionOffset   = 14 // if_tsoffset
	optionFlags    = 2  // epb_flags, pack_flags
	maxNameLen     = 255
	interfaceFixed = 8 // link type, reserved, snapshot length

	optionHeaderLen = 4
)

// ngInterface is what packets need to know of their interface.
type ngInterface struct {
	clock   clock
	link    capture.LinkType
	snaplen uint32 // 0 is unlimited
}

// declare adds the interface in the body of an interface description block.
func (f *sections) declare(body []byte) *DamagedError {
	if len(body) < interfaceFixed {
		return damaged(0, "an interface description block of %d bytes is too short", len(body)+blockHeaderLen+trailerLen)
	}
	if len(f.ifaces) == maxInterfaces {
		return damaged(0, "the file declares more than %d interfaces", maxInterfaces)
	}
	iface := ngInterface{link: capture.LinkType(f.u16(body)), snaplen: f.u32(body[4:])}
	name, resolution, offset := "", byte(6), int64(0)
	for code, value := range f.options(body[interfaceFixed:]) {
		switch {
		case code == optionName:
			name = cleanName(value)
		case code == optionResol && len(value) == 1:
			resolution = value[0]
		case code == optionOffset && len(value) == 8:
			v := binary.LittleEndian.Uint64(value)
			if f.swapped {
				v = bits.ReverseBytes64(v)
			}
			offset = int64(v)
		}
	}
	iface.clock = newClock(resolution, offset)
	f.clocks = append(f.clocks, iface)
	f.ifaces = append(f.ifaces, capture.Interface{Name: name, LinkType: iface.link})
	return nil
}

// cleanName returns the name in an option's value. Some programs write the zero
// byte that ends a string in C.
func cleanName(value []byte) string {
	value, _, _ = bytes.Cut(value, []byte{0})
	return strings.ToValidUTF8(string(value[:min(len(value), maxNameLen)]), "")
}

// options yields the options in b up to the end mark, or up to one that does not
// fit: the block around it is whole, so what comes after the block can be read.
func (f *sections) options(b []byte) func(yield func(code uint16, value []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= optionHeaderLen {
			code, size := f.u16(b), int(f.u16(b[2:]))
			b = b[optionHeaderLen:]
			if code == optionEnd || size > len(b) || !yield(code, b[:size]) {
				return
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}

// packetType returns what the flags among a packet's options say (section 4.3.1):
// the direction in bits 0 and 1, how it was received in bits 2 to 4.
func (f *sections) packetType(options []byte) capture.PacketType {
	const inbound, outbound = 1, 2
	const multicast, broadcast, promiscuous = 2, 3, 4
	for code, value := range f.options(options) {
		if code != optionFlags || len(value) != 4 {
			continue
		}
		flags := f.u32(value)
		switch flags & 3 {
		case outbound:
			return capture.PacketOutgoing
		case inbound:
			switch flags >> 2 & 7 {
			case multicast:
				return capture.PacketMulticast
			case broadcast:
				return capture.PacketBroadcast
			case promiscuous:
				return capture.PacketOtherHost
			}
			return capture.PacketHost
		}
		return capture.PacketUnknown
	}
	return capture.PacketUnknown
}

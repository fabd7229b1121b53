package pcap

import (
	"weir/capture"
)

// packet describes the packet in the body of an enhanced packet block, or of the
// obsolete packet block, which differs in its first word (draft-ietf-opsawg-pcapng
// section 4.3 and appendix A). p is undefined after an error.
func (f *sections) packet(p *capture.Packet, body []byte, obsolete bool) *DamagedError {
	if len(body) < packetFixedLen {
		return damaged(0, "a packet block of %d bytes is too short for its header", len(body)+blockHeaderLen+trailerLen)
	}
	id := f.u32(body)
	if obsolete {
		id = uint32(f.u16(body)) // then 16 bits of drops
	}
	index := uint64(f.first) + uint64(id)
	if index >= uint64(len(f.clocks)) {
		return damaged(0, "a packet is of interface %d, but its section has declared %d", id, len(f.clocks)-f.first)
	}
	iface := &f.clocks[index]
	ticks := uint64(f.u32(body[4:]))<<32 | uint64(f.u32(body[8:]))
	captured := f.u32(body[12:])
	data := body[packetFixedLen:]
	if captured > uint32(len(data)) {
		return damaged(0, "a packet claims %d captured bytes in a block with room for %d", captured, len(data))
	}
	kind := capture.PacketUnknown
	if padded := int(captured+3) &^ 3; len(data)-padded >= optionHeaderLen {
		kind = f.packetType(data[padded:])
	}
	*p = capture.Packet{
		Data:      data[:captured:captured],
		Time:      iface.clock.nanoseconds(ticks),
		WireLen:   f.u32(body[16:]),
		Interface: uint32(index),
		LinkType:  iface.link,
		Type:      kind,
	}
	return nil
}

// simple describes the packet in the body of a simple packet block (section 4.4):
// it is of the section's first interface, has no time, and is as long as the wire
// length, the snapshot length and the block leave it.
func (f *sections) simple(p *capture.Packet, body []byte) *DamagedError {
	if len(body) < 4 {
		return damaged(0, "a simple packet block of %d bytes is too short for its header", len(body)+blockHeaderLen+trailerLen)
	}
	if f.first == len(f.clocks) {
		return damaged(0, "a simple packet is in a section that has declared no interface")
	}
	iface := &f.clocks[f.first]
	wire, data := f.u32(body), body[4:]
	captured := min(wire, uint32(len(data)))
	if iface.snaplen != 0 {
		captured = min(captured, iface.snaplen)
	}
	*p = capture.Packet{
		Data:      data[:captured:captured],
		WireLen:   wire,
		Interface: uint32(f.first),
		LinkType:  iface.link,
		Type:      capture.PacketUnknown,
	}
	return nil
}

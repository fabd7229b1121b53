package mock

import (
	"encoding/binary"

	"weir/capture"
)

// Packet returns the packet, to this host. Time and all other metadata are for the
// caller to set.
func (b Builder) Packet() capture.Packet {
	body, _ := b.assemble(0)
	return capture.Packet{Data: body, WireLen: uint32(len(body)), LinkType: b.link, Type: capture.PacketHost}
}

// Fragments returns the packet in fragments whose payload has at most size octets, a
// multiple of 8 (RFC 791 section 3.2, RFC 8200 section 4.5). What follows the last IP
// header is what is cut up. It panics if there is no IP header.
func (b Builder) Fragments(size int) (all []capture.Packet) {
	at := len(b.layers) - 1
	for ; !isIP(&b.layers[at]); at-- {
	}
	if size < 8 || size%8 != 0 {
		panic("mock: fragments are cut at multiples of 8")
	}
	body, above := b.assemble(at + 1)
	below := Builder{link: b.link, layers: b.layers[:at+1]}
	id := b.layers[at].set.id
	for from := 0; from == 0 || from < len(body); from += size {
		to := min(from+size, len(body))
		piece, more := body[from:to], to < len(body)
		one := below
		if b.layers[at].proto == protoIPv6 {
			one = one.with(fragmentHeader(id, from, more))
		} else {
			one = one.change(isIP, func(s *settings) {
				if s.fragment = uint16(from / 8); more {
					s.fragment |= 1 << 13 // MF
				}
			})
		}
		content := layer{proto: above.proto, build: func([]byte, *layer, *addresses, *settings) []byte { return piece }}
		all = append(all, one.with(content).Packet())
	}
	return all
}

// fragmentHeader is that of IPv6 (RFC 8200 section 4.5).
func fragmentHeader(id uint16, from int, more bool) layer {
	return layer{proto: protoFragment, build: func(body []byte, above *layer, _ *addresses, _ *settings) []byte {
		offset := uint16(from)
		if more {
			offset |= 1
		}
		h := binary.BigEndian.AppendUint16([]byte{above.proto, 0}, offset)
		return append(binary.BigEndian.AppendUint32(h, uint32(id)), body...)
	}}
}

// assemble returns the layers from one on, and the lowest of them.
func (b Builder) assemble(from int) (body []byte, above *layer) {
	above = &layer{proto: protoNone, etherType: 0x88b5} // nothing: no next header, an experimental EtherType
	for i := len(b.layers) - 1; i >= from; i-- {
		l := &b.layers[i]
		ip := &addresses{}
		for _, below := range b.layers[:i] {
			if below.ip != nil {
				ip = below.ip
			}
		}
		body = l.build(body, above, ip, &l.set)
		above = l
	}
	return body, above
}

// pseudo returns the sum of the pseudo-header.
func (a *addresses) pseudo(proto uint8, size int) uint32 {
	if !a.src.IsValid() {
		return 0
	}
	return add(add(uint32(proto)+uint32(size), a.src.AsSlice()), a.dst.AsSlice())
}

// add adds 16-bit words to a sum (RFC 1071).
func add(sum uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

func checksum(sum uint32, b []byte) uint16 {
	sum = add(sum, b)
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

package mock

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"weir/capture"
)

// Builder makes packets layer by layer, from the link layer on:
//
//	mock.Ethernet().VLAN(0x8100, 7).IPv4(a, b).TCP(40000, 443, mock.SYN).Payload(nil).Packet()
//
// What a header says of what follows, lengths and checksums, is right. A Builder is
// not changed by its methods: each returns another, so that a common beginning
// serves many packets.
type Builder struct {
	link   capture.LinkType
	layers []layer
}

// layer puts its header before body. next is what the layer above is, for those
// that say so: an EtherType, or below IP a protocol number.
type layer struct {
	etherType uint16 // as what the layer below names it
	proto     uint8
	build     func(body []byte, above *layer, ip *addresses, set *settings) []byte
	ip        *addresses
	set       settings
}

// settings are what methods after a header's own change of it.
type settings struct {
	mac      []byte // both
	ttl      uint8
	id       uint16
	fragment uint16 // flags and offset as in IPv4's header
	seq, ack uint32
}

// addresses are those that a transport checksum covers (RFC 9293 section 3.1, RFC
// 8200 section 8.1).
type addresses struct{ src, dst netip.Addr }

// Protocol numbers (https://www.iana.org/assignments/protocol-numbers).
const (
	protoICMP     = 1
	protoIPv4     = 4
	protoTCP      = 6
	protoUDP      = 17
	protoIPv6     = 41
	protoFragment = 44
	protoICMPv6   = 58
	protoNone     = 59
)

// TCP flags (RFC 9293 section 3.1).
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

// Ethernet begins a packet with an Ethernet header between two locally administered
// addresses.
func Ethernet() Builder {
	header := func(body []byte, above *layer, _ *addresses, set *settings) []byte {
		h := append(make([]byte, 0, 14+len(body)), set.mac...)
		return append(binary.BigEndian.AppendUint16(h, above.etherType), body...)
	}
	return Builder{link: capture.LinkEthernet}.with(layer{build: header, set: settings{mac: []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1}}})
}

// MAC sets the addresses of the Ethernet header.
func (b Builder) MAC(src, dst [6]byte) Builder {
	return b.change(func(l *layer) bool { return l.set.mac != nil }, func(s *settings) {
		s.mac = append(dst[:], src[:]...)
	})
}

// Raw begins a packet with the IP header.
func Raw() Builder { return Builder{link: capture.LinkNone} }

func (b Builder) with(l layer) Builder {
	b.layers = append(b.layers[:len(b.layers):len(b.layers)], l)
	return b
}

// change changes the last layer of a kind. It panics if there is none.
func (b Builder) change(is func(*layer) bool, f func(*settings)) Builder {
	b.layers = slices.Clone(b.layers)
	for i := len(b.layers) - 1; i >= 0; i-- {
		if l := &b.layers[i]; is(l) {
			f(&l.set)
			return b
		}
	}
	panic("mock: the packet has no such header yet")
}

// VLAN adds a tag with a TPID such as 0x8100, in line.
func (b Builder) VLAN(tpid, tci uint16) Builder {
	return b.with(layer{etherType: tpid, build: func(body []byte, above *layer, _ *addresses, _ *settings) []byte {
		h := binary.BigEndian.AppendUint16(nil, tci)
		return append(binary.BigEndian.AppendUint16(h, above.etherType), body...)
	}})
}

// MPLS adds a label (RFC 3032 section 2.1). What follows it is IP or another label.
func (b Builder) MPLS(label uint32) Builder {
	const etherType = 0x8847
	return b.with(layer{etherType: etherType, build: func(body []byte, above *layer, _ *addresses, _ *settings) []byte {
		entry := label<<12 | 64
		if above.etherType != etherType {
			entry |= 1 << 8 // the bottom of the stack
		}
		return append(binary.BigEndian.AppendUint32(nil, entry), body...)
	}})
}

// PPPoE adds a PPPoE session header and PPP's protocol (RFC 2516 section 4).
func (b Builder) PPPoE(session uint16) Builder {
	return b.with(layer{etherType: 0x8864, build: func(body []byte, above *layer, _ *addresses, _ *settings) []byte {
		protocol := uint16(0x0021)
		if above.etherType == 0x86dd {
			protocol = 0x0057
		}
		h := []byte{0x11, 0}
		for _, v := range []uint16{session, uint16(len(body) + 2), protocol} {
			h = binary.BigEndian.AppendUint16(h, v)
		}
		return append(h, body...)
	}})
}

// IPv4 adds an IPv4 header (RFC 791 section 3.1). It panics if an address is not IPv4.
// The options are padded to whole words.
func (b Builder) IPv4(src, dst netip.Addr, options ...byte) Builder {
	options = append(options[:len(options):len(options)], make([]byte, -len(options)&3)...)
	s, d := src.As4(), dst.As4()
	return b.with(layer{etherType: 0x0800, ip: &addresses{src, dst}, proto: protoIPv4, set: settings{ttl: 64}, build: func(body []byte, above *layer, _ *addresses, set *settings) []byte {
		size := 20 + len(options)
		h := make([]byte, 20, size+len(body))
		h[0] = 4<<4 | byte(size/4)
		binary.BigEndian.PutUint16(h[2:], uint16(size+len(body)))
		binary.BigEndian.PutUint16(h[4:], set.id)
		binary.BigEndian.PutUint16(h[6:], set.fragment)
		h[8], h[9] = set.ttl, above.proto
		copy(h[12:], s[:])
		copy(h[16:], d[:])
		h = append(h, options...)
		binary.BigEndian.PutUint16(h[10:], checksum(0, h))
		return append(h, body...)
	}})
}

// IPv6 adds an IPv6 header (RFC 8200 section 3).
func (b Builder) IPv6(src, dst netip.Addr) Builder {
	s, d := src.As16(), dst.As16()
	return b.with(layer{etherType: 0x86dd, ip: &addresses{src, dst}, proto: protoIPv6, set: settings{ttl: 64}, build: func(body []byte, above *layer, _ *addresses, set *settings) []byte {
		h := make([]byte, 8, 40+len(body))
		h[0] = 6 << 4
		binary.BigEndian.PutUint16(h[4:], uint16(len(body)))
		h[6], h[7] = above.proto, set.ttl
		return append(append(append(h, s[:]...), d[:]...), body...)
	}})
}

// TTL sets that of the IP header, or the hop limit.
func (b Builder) TTL(n uint8) Builder {
	return b.change(isIP, func(s *settings) { s.ttl = n })
}

// ID sets that of the IP header; of IPv6 it is in the headers of fragments.
func (b Builder) ID(n uint16) Builder {
	return b.change(isIP, func(s *settings) { s.id = n })
}

func isIP(l *layer) bool { return l.ip != nil }

// Options adds an IPv6 hop-by-hop or destination options header of eight octets of
// padding (RFC 8200 sections 4.3 and 4.6): 0 or 60.
func (b Builder) Options(proto uint8) Builder {
	return b.with(layer{proto: proto, build: func(body []byte, above *layer, _ *addresses, _ *settings) []byte {
		return append([]byte{above.proto, 0, 1, 4, 0, 0, 0, 0}, body...)
	}})
}

// TCP adds a TCP header (RFC 9293 section 3.1). The options are padded to whole words.
func (b Builder) TCP(src, dst uint16, flags uint8, options ...byte) Builder {
	options = append(options[:len(options):len(options)], make([]byte, -len(options)&3)...)
	return b.with(layer{proto: protoTCP, set: settings{seq: 1}, build: func(body []byte, _ *layer, ip *addresses, set *settings) []byte {
		size := 20 + len(options)
		h := make([]byte, 20, size+len(body))
		binary.BigEndian.PutUint16(h, src)
		binary.BigEndian.PutUint16(h[2:], dst)
		binary.BigEndian.PutUint32(h[4:], set.seq)
		binary.BigEndian.PutUint32(h[8:], set.ack)
		h[12], h[13] = byte(size/4)<<4, flags
		binary.BigEndian.PutUint16(h[14:], 0xffff)
		h = append(append(h, options...), body...)
		binary.BigEndian.PutUint16(h[16:], checksum(ip.pseudo(protoTCP, len(h)), h))
		return h
	}})
}

// Seq sets the sequence and the acknowledgment number of the TCP header.
func (b Builder) Seq(seq, ack uint32) Builder {
	return b.change(func(l *layer) bool { return l.proto == protoTCP }, func(s *settings) { s.seq, s.ack = seq, ack })
}

// UDP adds a UDP header (RFC 768).
func (b Builder) UDP(src, dst uint16) Builder {
	return b.with(layer{proto: protoUDP, build: func(body []byte, _ *layer, ip *addresses, _ *settings) []byte {
		h := make([]byte, 8, 8+len(body))
		binary.BigEndian.PutUint16(h, src)
		binary.BigEndian.PutUint16(h[2:], dst)
		binary.BigEndian.PutUint16(h[4:], uint16(8+len(body)))
		h = append(h, body...)
		sum := checksum(ip.pseudo(protoUDP, len(h)), h)
		if sum == 0 {
			sum = 0xffff // 0 stands for none
		}
		binary.BigEndian.PutUint16(h[6:], sum)
		return h
	}})
}

// ICMP adds an ICMP header, ICMPv6 within IPv6 (RFC 792, RFC 4443).
func (b Builder) ICMP(kind, code uint8) Builder {
	proto := uint8(protoICMP)
	for _, l := range b.layers {
		if l.ip != nil && l.proto == protoIPv6 {
			proto = protoICMPv6
		} else if l.ip != nil {
			proto = protoICMP
		}
	}
	return b.with(layer{proto: proto, build: func(body []byte, _ *layer, ip *addresses, _ *settings) []byte {
		h := append([]byte{kind, code, 0, 0, 0, 1, 0, 1}, body...)
		sum := uint32(0)
		if proto == protoICMPv6 {
			sum = ip.pseudo(proto, len(h))
		}
		binary.BigEndian.PutUint16(h[2:], checksum(sum, h))
		return h
	}})
}

// Payload adds octets.
func (b Builder) Payload(data []byte) Builder {
	return b.with(layer{proto: protoNone, build: func([]byte, *layer, *addresses, *settings) []byte { return data }})
}

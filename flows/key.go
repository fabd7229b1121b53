package flows

import (
	"encoding/binary"
	"net/netip"
)

// Direction is the host's view of a packet.
type Direction uint8

// Directions. Their numbers are those of the ClickHouse column.
const (
	DirectionUnknown Direction = 0
	DirectionIn      Direction = 1
	DirectionOut     Direction = 2
)

// String returns "in", "out" or "unknown".
func (d Direction) String() string {
	switch d {
	case DirectionIn:
		return "in"
	case DirectionOut:
		return "out"
	}
	return "unknown"
}

// reverse returns the direction of an answer.
func (d Direction) reverse() Direction {
	switch d {
	case DirectionIn:
		return DirectionOut
	case DirectionOut:
		return DirectionIn
	}
	return d
}

// Key identifies one direction of a conversation: addresses, ports, protocol,
// VLAN and direction. It is five words rather than byte arrays, so that hashing
// and comparing it are a handful of register operations and == works on it.
// IPv4 addresses are held as IPv4-mapped IPv6 (RFC 4291 section 2.5.5.2).
type Key struct {
	srcHi, srcLo uint64 // source address, big endian
	dstHi, dstLo uint64 // destination address, big endian
	rest         uint64 // source port 48..63, destination port 32..47, VLAN 16..31, protocol 8..15, direction 0..7
}

// mapped is the upper half of the low word of an IPv4-mapped address.
const mapped = 0xffff << 32

// NewKey returns the key of these fields. It panics if an address is not valid.
func NewKey(src, dst netip.Addr, srcPort, dstPort, vlan uint16, proto uint8, d Direction) Key {
	s, t := src.As16(), dst.As16()
	return Key{
		srcHi: binary.BigEndian.Uint64(s[:8]), srcLo: binary.BigEndian.Uint64(s[8:]),
		dstHi: binary.BigEndian.Uint64(t[:8]), dstLo: binary.BigEndian.Uint64(t[8:]),
		rest: keyRest(srcPort, dstPort, vlan, proto, d),
	}
}

func keyRest(srcPort, dstPort, vlan uint16, proto uint8, d Direction) uint64 {
	return uint64(srcPort)<<48 | uint64(dstPort)<<32 | uint64(vlan)<<16 | uint64(proto)<<8 | uint64(d)
}

// Src returns the source address; an IPv4 address comes back as IPv4.
func (k *Key) Src() netip.Addr { return addr(k.srcHi, k.srcLo) }

// Dst returns the destination address; an IPv4 address comes back as IPv4.
func (k *Key) Dst() netip.Addr { return addr(k.dstHi, k.dstLo) }

// Src16 returns the source address as 16 bytes, IPv4 as IPv4-mapped.
func (k *Key) Src16() [16]byte { return addr16(k.srcHi, k.srcLo) }

// Dst16 returns the destination address as 16 bytes, IPv4 as IPv4-mapped.
func (k *Key) Dst16() [16]byte { return addr16(k.dstHi, k.dstLo) }

// SrcPort returns the source port, 0 where the protocol has none.
func (k *Key) SrcPort() uint16 { return uint16(k.rest >> 48) }

// DstPort returns the destination port, and for ICMP and ICMPv6 type<<8 | code.
func (k *Key) DstPort() uint16 { return uint16(k.rest >> 32) }

// VLAN returns the outermost VLAN id, 0 if untagged.
func (k *Key) VLAN() uint16 { return uint16(k.rest >> 16) }

// Proto returns the IP protocol number.
func (k *Key) Proto() uint8 { return uint8(k.rest >> 8) }

// Direction returns the direction.
func (k *Key) Direction() Direction { return Direction(k.rest) }

// equal is == without the call to the runtime that the compiler makes of it.
func (k *Key) equal(o *Key) bool {
	return (k.srcHi^o.srcHi)|(k.srcLo^o.srcLo)|(k.dstHi^o.dstHi)|(k.dstLo^o.dstLo)|(k.rest^o.rest) == 0
}

func addr16(hi, lo uint64) (a [16]byte) {
	binary.BigEndian.PutUint64(a[:8], hi)
	binary.BigEndian.PutUint64(a[8:], lo)
	return a
}

func addr(hi, lo uint64) netip.Addr {
	return netip.AddrFrom16(addr16(hi, lo)).Unmap()
}

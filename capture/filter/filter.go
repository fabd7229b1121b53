// Package filter makes programs for the kernel's packet filter (BPF in its classic
// form, Documentation/networking/filter.rst): which packets a packet socket gets,
// and how much of each. What the kernel need not copy is the cheapest packet.
//
// # A program
//
// Its parts follow one another, and each goes on to the next or ends the program:
//
//	Extra        the user's program: what it refuses is refused
//	IgnoreVLANs  refuses packets whose tag the hardware took out
//	link layer   by EtherType, below tags in line, or by the first nibble of IP:
//	             refuses what is not IP, unless All is set
//	IP           returns how long this very packet has to be, so that its headers
//	             are captured whole and little else
//	accept       returns Length.Max: packets with shims, and those without IP
//	refuse       returns 0
//
// No part relies on what the registers hold when it begins. A load beyond the end of
// a packet makes the kernel refuse it (bpf_convert_filter in net/core/filter.c), so
// that a frame cut short within its headers is refused without a test of its length.
// With All there is one before each load: All refuses nothing.
package filter

import (
	"fmt"

	"golang.org/x/net/bpf"

	"weir/capture"
)

// Config says what a program is to do. The zero value of all but LinkType captures
// all IP packets whole.
type Config struct {
	// LinkType is how packets begin.
	LinkType capture.LinkType
	// Length is how much of them is captured.
	Length Length
	// IgnoreVLANs refuses packets with a VLAN tag, be it in line or taken out by
	// the hardware. What counts is that there is one: its value can be 0.
	IgnoreVLANs bool
	// All lets through what is not IP, and frames that are cut short.
	All bool
	// Extra is a program that packets have to pass besides. What it refuses (ret
	// #0) is refused; what it returns else does not matter.
	Extra []bpf.RawInstruction
}

// Validate returns an error that says what cannot be done.
func (c Config) Validate() error {
	if !c.LinkType.Supported() {
		return fmt.Errorf("link type %v is not supported", c.LinkType)
	}
	return check(c.Extra)
}

// EtherTypes, and the others' words for them.
const (
	etherIPv4  = 0x0800
	etherIPv6  = 0x86dd
	etherPPPoE = 0x8864
	pppIPv4    = 0x0021
	pppIPv6    = 0x0057
	pppMPLS    = 0x0281
	pppMPLSM   = 0x0283
)

var (
	etherTags = []uint32{0x8100, 0x88a8, 0x9100, 0x9200}
	etherMPLS = []uint32{0x8847, 0x8848}
)

const (
	minEtherType = 0x0600     // below it stands a length (IEEE 802.3 clause 3.2.6)
	snap         = 0xaaaa0300 // LLC of SNAP, then the first octet of its organisation
	maxTags      = 4          // looked through; what is below more passes
)

// builder makes one program.
type builder struct {
	program
	c      Config
	accept label // as long as anything can be
	refuse label
	other  label // what is not IP
}

// Assemble returns the program.
func (c Config) Assemble() ([]bpf.RawInstruction, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	b := builder{c: c}
	b.accept, b.refuse = b.label(), b.label()
	b.other = b.refuse
	if c.All {
		b.other = b.accept
	}
	if len(c.Extra) > 0 {
		own := b.label()
		b.include(c.Extra, own)
		b.place(own)
	}
	if c.IgnoreVLANs {
		untagged := b.label()
		b.do(bpf.LoadExtension{Num: bpf.ExtVLANTagPresent})
		b.test(bpf.JumpEqual, 0, untagged, b.refuse)
		b.place(untagged)
	}
	uniform := c.All && c.Length.kind <= fixed // whatever a packet is, its length is the same
	switch c.LinkType {
	case capture.LinkEthernet, capture.LinkLoopback, capture.LinkCooked:
		uniform = uniform && !c.IgnoreVLANs // tags in line are still to be found
	}
	if uniform {
		b.jump(b.accept)
	} else {
		b.link()
	}
	b.place(b.accept)
	b.do(bpf.RetConstant{Val: c.Length.Max(c.LinkType)})
	b.place(b.refuse)
	b.do(bpf.RetConstant{})
	return b.assemble()
}

// link goes by the link layer.
func (b *builder) link() {
	switch b.c.LinkType {
	case capture.LinkEthernet, capture.LinkLoopback:
		b.load(12, 2)
		b.etherType(14, 0)
	case capture.LinkCooked:
		b.do(bpf.LoadExtension{Num: bpf.ExtProto})
		b.etherType(0, 0)
	case capture.LinkRaw, capture.LinkRaw12, capture.LinkRaw14, capture.LinkNone, capture.LinkTunnel,
		capture.LinkTunnel6, capture.LinkSIT, capture.LinkGRE, capture.LinkGRE6:
		b.nibble(true, true)
	case capture.LinkIPv4:
		b.nibble(true, false)
	case capture.LinkIPv6:
		b.nibble(false, true)
	default: // not found on devices, or with headers that a filter cannot walk
		b.jump(b.accept)
	}
}

// load has A hold the octets at offset at.
func (b *builder) load(at uint32, size int) {
	b.within(at + uint32(size))
	b.do(bpf.LoadAbsolute{Off: at, Size: size})
}

// within guards a load up to offset end with All, which has to accept what is too
// short for it. It uses A.
func (b *builder) within(end uint32) {
	if !b.c.All {
		return
	}
	enough := b.label()
	b.do(bpf.LoadExtension{Num: bpf.ExtLen})
	b.test(bpf.JumpLessThan, end, b.accept, enough)
	b.place(enough)
}

// etherType goes by the EtherType in A, after which the packet goes on at offset at.
// tags is how many tags there were before it.
func (b *builder) etherType(at uint32, tags int) {
	v4, v6, tag, shim, pppoe := b.label(), b.label(), b.label(), b.label(), b.label()
	b.oneOf(v4, etherIPv4)
	b.oneOf(v6, etherIPv6)
	b.oneOf(tag, etherTags...)
	b.oneOf(shim, etherMPLS...)
	b.oneOf(pppoe, etherPPPoE)
	if b.c.LinkType == capture.LinkCooked {
		b.jump(b.other) // the kernel's own numbers are below minEtherType there
	} else {
		b.llc(at)
	}
	b.place(v4)
	b.ipv4(at, tags > 0)
	b.place(v6)
	b.ipv6(at, tags > 0)
	b.place(pppoe)
	b.pppoe(at)
	b.place(tag)
	switch {
	case b.c.IgnoreVLANs:
		b.jump(b.refuse)
	case tags == maxTags:
		b.jump(b.accept)
	default:
		b.load(at+2, 2)
		b.etherType(at+4, tags+1)
	}
	b.place(shim)
	b.jump(b.accept)
}

// llc goes on if A is a length, with the LLC header at offset at (RFC 1042).
func (b *builder) llc(at uint32) {
	if b.c.All && !b.c.IgnoreVLANs {
		b.jump(b.accept)
		return
	}
	length, isSnap := b.label(), b.label()
	b.test(bpf.JumpLessThan, minEtherType, length, b.other)
	b.place(length)
	b.load(at, 4)
	b.oneOf(isSnap, snap)
	// The service access point of IP: 06 06 03, and then an IP header.
	b.do(bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 8})
	b.test(bpf.JumpEqual, 0x060603, b.accept, b.other)
	b.place(isSnap)
	b.load(at+6, 2)
	b.oneOf(b.accept, etherIPv4, etherIPv6, etherPPPoE)
	b.oneOf(b.accept, etherMPLS...)
	if b.c.IgnoreVLANs {
		b.oneOf(b.refuse, etherTags...)
	} else {
		b.oneOf(b.accept, etherTags...)
	}
	b.jump(b.other)
}

// pppoe looks at the protocol behind a PPPoE header (RFC 2516 section 4), which may
// be compressed to one octet (RFC 1661 section 6.5).
func (b *builder) pppoe(at uint32) {
	if b.c.All {
		b.jump(b.accept)
		return
	}
	compressed, full := b.label(), b.label()
	b.load(at+6, 1)
	b.test(bpf.JumpBitsSet, 1, compressed, full)
	b.place(compressed)
	b.oneOf(b.accept, pppIPv4, pppIPv6)
	b.jump(b.other)
	b.place(full)
	b.load(at+6, 2)
	b.oneOf(b.accept, pppIPv4, pppIPv6, pppMPLS, pppMPLSM)
	b.jump(b.other)
}

// nibble goes by the version of IP where nothing else says it.
func (b *builder) nibble(v4, v6 bool) {
	is4, is6 := b.label(), b.label()
	b.load(0, 1)
	b.do(bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 4})
	if v4 {
		b.oneOf(is4, 4)
	}
	if v6 {
		b.oneOf(is6, 6)
	}
	b.jump(b.other)
	b.place(is4)
	b.ipv4(0, false)
	b.place(is6)
	b.ipv6(0, false)
}

// ipv4 accepts a packet whose IPv4 header is at offset at.
func (b *builder) ipv4(at uint32, shims bool) {
	if b.c.Length.kind <= fixed || shims {
		b.jump(b.accept)
		return
	}
	b.within(at + 1)
	least := at + ipv4HeaderLen + b.c.Length.transport()
	long, short := b.label(), b.label()
	b.do(
		bpf.LoadMemShift{Off: at}, // X = 4 * IHL
		bpf.TXA{},
		bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: at + b.c.Length.transport()},
	)
	b.test(bpf.JumpGreaterOrEqual, least, long, short)
	b.place(long)
	b.do(bpf.RetA{})
	b.place(short) // its header length lies: whoever decodes it should see so
	b.do(bpf.RetConstant{Val: least})
}

// ipv6 accepts a packet whose IPv6 header is at offset at. Extension headers have no
// length that a program without loops could add up; there is room for the usual.
func (b *builder) ipv6(at uint32, shims bool) {
	if b.c.Length.kind <= fixed || shims {
		b.jump(b.accept)
		return
	}
	n := at + b.c.Length.transport()
	if !b.c.Length.ipv6() {
		b.do(bpf.RetConstant{Val: n + ipv4HeaderLen})
		return
	}
	b.load(at+6, 1)
	b.oneOf(b.accept, 0, 43, 44, 51, 60)
	b.do(bpf.RetConstant{Val: n + ipv6HeaderLen})
}

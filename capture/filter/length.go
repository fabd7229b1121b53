package filter

import (
	"fmt"
	"strconv"

	"weir/capture"
)

// Length says how much of each packet is captured. The zero value is all of it.
type Length struct {
	kind  kind
	fixed uint32
}

type kind uint8

const (
	whole kind = iota
	fixed
	ipv4Header
	ipv4Transport
	ipv6Header
	ipv6Transport
)

// Minimal lengths: the link-layer header with its shims, the IP header with its
// options or extension headers, and, if it is to the transport, its header without
// options. Those for IPv4 cut packets of IPv6 as if they were IPv4.
var (
	MinimalIPv4Header    = Length{kind: ipv4Header}
	MinimalIPv4Transport = Length{kind: ipv4Transport}
	MinimalIPv6Header    = Length{kind: ipv6Header}
	MinimalIPv6Transport = Length{kind: ipv6Transport}
)

// Fixed is the first n octets, from the link-layer header on. 0 is all.
func Fixed(n uint32) Length {
	if n == 0 {
		return Length{}
	}
	return Length{kind: fixed, fixed: min(n, Whole)}
}

const (
	// Whole is the capture length that stands for all: what libpcap uses. The
	// largest super-packet has 512 KiB, but a ring's block cuts it before.
	Whole = 262144

	ipv4HeaderLen = 20
	ipv4MaxHeader = 60 // 15 words
	ipv6HeaderLen = 40

	// transportLen is a TCP header without options. Ports and flags end at octet
	// 14, but the data offset before them has to be trusted with what follows, and
	// UDP, ICMP and SCTP are no longer.
	transportLen = 20

	// extensionsLen is for IPv6 extension headers: hop-by-hop options, a routing
	// header with one address, a fragment header and destination options.
	extensionsLen = 8 + 24 + 8 + 24

	// shimsLen is for what stands between link layer and IP: two tags in line, a
	// PPPoE header and three labels, or LLC and SNAP.
	shimsLen = 8 + 8 + 12 + 4
)

// linkHeaders are the lengths of link-layer headers; all others have none.
var linkHeaders = map[capture.LinkType]uint32{
	capture.LinkEthernet: 14, capture.LinkLoopback: 14, capture.LinkSLL: 16, capture.LinkSLL2: 20,
	capture.LinkNull: 4, capture.LinkLoop: 4, capture.LinkPPP: 4, capture.LinkPPPSerial: 4,
	capture.LinkPPPoE: 8, capture.LinkCiscoHDLC: 4,
	capture.Link80211:      38,      // four addresses, QoS and HT control, LLC and SNAP are shims
	capture.Link80211Radio: 64 + 38, // radiotap has no fixed length; 64 is more than drivers fill
}

func (l Length) transport() uint32 {
	if l.kind == ipv4Transport || l.kind == ipv6Transport {
		return transportLen
	}
	return 0
}

func (l Length) ipv6() bool { return l.kind == ipv6Header || l.kind == ipv6Transport }

// Max returns the most octets that packets of a link type are cut to.
func (l Length) Max(link capture.LinkType) uint32 {
	switch l.kind {
	case whole:
		return Whole
	case fixed:
		return l.fixed
	}
	n := linkHeaders[link] + shimsLen + l.transport()
	if l.ipv6() {
		return n + ipv6HeaderLen + extensionsLen
	}
	return n + ipv4MaxHeader
}

var lengthNames = map[string]Length{
	"all": {}, "ipv4-header": MinimalIPv4Header, "ipv4-transport": MinimalIPv4Transport,
	"ipv6-header": MinimalIPv6Header, "ipv6-transport": MinimalIPv6Transport,
}

// String returns l as ParseLength takes it.
func (l Length) String() string {
	for name, n := range lengthNames {
		if n == l {
			return name
		}
	}
	return strconv.FormatUint(uint64(l.fixed), 10)
}

// ParseLength reads a number of octets or the name of a strategy.
func ParseLength(s string) (Length, error) {
	if l, ok := lengthNames[s]; ok {
		return l, nil
	}
	if n, err := strconv.ParseUint(s, 10, 32); err == nil && n > 0 && n <= Whole {
		return Fixed(uint32(n)), nil
	}
	return Length{}, fmt.Errorf("capture length %q is none of all, ipv4-header, ipv4-transport, ipv6-header, ipv6-transport, or a number of octets up to %d", s, Whole)
}

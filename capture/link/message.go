package link

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Messages are decoded here, and only what is needed of them, so that an interface
// with something unusual elsewhere, such as an address of one byte, is still listed.

var errShort = errors.New("message from the kernel is too short")

// linkRequest asks for links without their statistics, which are most of a message:
// struct ifinfomsg, then IFLA_EXT_MASK with RTEXT_FILTER_SKIP_STATS (linux/rtnetlink.h).
var linkRequest = func() []byte {
	const skipStats = 1 << 3
	e := netlink.NewAttributeEncoder()
	e.Uint32(unix.IFLA_EXT_MASK, skipStats)
	mask, err := e.Encode()
	if err != nil {
		panic(err) // four bytes always fit
	}
	return append(make([]byte, unix.SizeofIfInfomsg), mask...)
}()

// decodeLink decodes a struct ifinfomsg and the attributes after it.
func decodeLink(b []byte) (Link, error) {
	if len(b) < unix.SizeofIfInfomsg {
		return Link{}, errShort
	}
	flags := binary.NativeEndian.Uint32(b[8:])
	l := Link{
		Index:    linkIndex(b),
		Hardware: binary.NativeEndian.Uint16(b[2:]),
		Up:       flags&unix.IFF_UP != 0,
		Running:  flags&unix.IFF_RUNNING != 0,
	}
	d, err := netlink.NewAttributeDecoder(b[unix.SizeofIfInfomsg:])
	if err != nil {
		return Link{}, err
	}
	parent, elsewhere := 0, false
	for d.Next() {
		switch d.Type() {
		case unix.IFLA_IFNAME:
			l.Name = d.String()
		case unix.IFLA_MTU:
			l.MTU = int(d.Uint32())
		case unix.IFLA_MASTER:
			l.Master = int(d.Uint32())
		case unix.IFLA_LINK:
			parent = int(d.Uint32())
		case unix.IFLA_LINK_NETNSID:
			elsewhere = true // the parent's index means nothing here
		case unix.IFLA_LINKINFO:
			d.Nested(l.decodeInfo)
		}
	}
	if l.IsVLAN && !elsewhere {
		l.Parent = parent
	}
	return l, d.Err()
}

func (l *Link) decodeInfo(d *netlink.AttributeDecoder) error {
	for d.Next() {
		switch d.Type() {
		case unix.IFLA_INFO_KIND:
			l.Kind = d.String()
		case unix.IFLA_INFO_DATA:
			// The kind comes first (rtnl_link_info_fill in net/core/rtnetlink.c), and
			// what the data are depends on it.
			if l.Kind == "vlan" {
				d.Nested(l.decodeVLAN)
			}
		}
	}
	return nil // the caller asks d
}

func (l *Link) decodeVLAN(d *netlink.AttributeDecoder) error {
	for d.Next() {
		if d.Type() == unix.IFLA_VLAN_ID {
			l.IsVLAN, l.VLAN = true, d.Uint16()
		}
	}
	return nil
}

// linkIndex returns ifi_index of a struct ifinfomsg.
func linkIndex(b []byte) int { return int(int32(binary.NativeEndian.Uint32(b[4:]))) }

// decodeAddress decodes a struct ifaddrmsg and the attributes after it. The prefix is
// not valid if there is no IP address.
func decodeAddress(b []byte) (index int, p netip.Prefix, err error) {
	if len(b) < unix.SizeofIfAddrmsg {
		return 0, p, errShort
	}
	d, err := netlink.NewAttributeDecoder(b[unix.SizeofIfAddrmsg:])
	if err != nil {
		return 0, p, err
	}
	var local, address netip.Addr
	for d.Next() {
		switch d.Type() {
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(d.Bytes())
		case unix.IFA_ADDRESS:
			address, _ = netip.AddrFromSlice(d.Bytes())
		}
	}
	// Where there are two, IFA_ADDRESS is that of the far end (linux/if_addr.h).
	if !local.IsValid() {
		local = address
	}
	return int(binary.NativeEndian.Uint32(b[4:])), netip.PrefixFrom(local, int(b[1])), d.Err()
}

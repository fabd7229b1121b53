package link

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"weir/capture"
)

// Errors that callers branch on. What is returned wraps them.
var (
	ErrNotFound    = errors.New("no such interface")
	ErrDown        = errors.New("interface is down")
	ErrUnsupported = errors.New("unsupported link type")
)

// hardware says what a capture makes of an ARPHRD type.
type hardware struct {
	name   string
	link   capture.LinkType
	cooked bool
	why    string // it cannot be captured
}

const noIP = "carries no IP"

// types are the ARPHRD types (include/uapi/linux/if_arp.h) that need a word. All
// others are cooked: the kernel knows how long their header is.
//
// So are those whose drivers do not agree on whether there is a header at all: PPP,
// HDLC, and tunnels. GRE has a header only if the tunnel has no fixed far end
// (ipgre_header_ops in net/ipv4/ip_gre.c). libpcap takes the header off for the same
// reason (map_arphrd_to_dlt in pcap-linux.c).
var types = map[uint16]hardware{
	unix.ARPHRD_ETHER:              {name: "ETHER", link: capture.LinkEthernet},
	unix.ARPHRD_LOOPBACK:           {name: "LOOPBACK", link: capture.LinkLoopback},
	unix.ARPHRD_NONE:               {name: "NONE", link: capture.LinkNone},
	unix.ARPHRD_RAWIP:              {name: "RAWIP", link: capture.LinkRaw},
	unix.ARPHRD_IEEE80211:          {name: "IEEE80211", link: capture.Link80211},
	unix.ARPHRD_IEEE80211_RADIOTAP: {name: "IEEE80211_RADIOTAP", link: capture.Link80211Radio},
	unix.ARPHRD_PPP:                {name: "PPP", cooked: true},
	unix.ARPHRD_CISCO:              {name: "HDLC", cooked: true},
	unix.ARPHRD_TUNNEL:             {name: "TUNNEL", cooked: true},
	unix.ARPHRD_TUNNEL6:            {name: "TUNNEL6", cooked: true},
	unix.ARPHRD_SIT:                {name: "SIT", cooked: true},
	unix.ARPHRD_IPGRE:              {name: "IPGRE", cooked: true},
	unix.ARPHRD_IP6GRE:             {name: "IP6GRE", cooked: true},
	unix.ARPHRD_INFINIBAND:         {name: "INFINIBAND", cooked: true},
	unix.ARPHRD_SLIP:               {name: "SLIP", cooked: true},
	unix.ARPHRD_PIMREG:             {name: "PIMREG", cooked: true},
	unix.ARPHRD_CAN:                {name: "CAN", why: noIP},
	unix.ARPHRD_IRDA:               {name: "IRDA", why: noIP},
	unix.ARPHRD_IEEE80211_PRISM:    {name: "IEEE80211_PRISM", why: "has a header that is not read here; radiotap (803) is"},
	unix.ARPHRD_IEEE802154:         {name: "IEEE802154", why: noIP},
	unix.ARPHRD_IEEE802154_MONITOR: {name: "IEEE802154_MONITOR", why: noIP},
	unix.ARPHRD_NETLINK:            {name: "NETLINK", why: noIP},
	unix.ARPHRD_VSOCKMON:           {name: "VSOCKMON", why: noIP},
}

// LinkType returns how the interface's packets begin. If cooked, the kernel has to
// take their link-layer header off (SOCK_DGRAM of packet(7)). The error wraps
// ErrUnsupported and names the type.
func (l *Link) LinkType() (t capture.LinkType, cooked bool, err error) {
	h, known := types[l.Hardware]
	switch {
	case h.why != "":
		return 0, false, fmt.Errorf("%w %s, which %s", ErrUnsupported, l.HardwareName(), h.why)
	case h.cooked || !known:
		return capture.LinkCooked, true, nil
	}
	return h.link, false, nil
}

// HardwareName returns the name and the number of the interface's ARPHRD type, the
// number alone if it has no name here.
func (l *Link) HardwareName() string {
	n := strconv.Itoa(int(l.Hardware))
	if h, ok := types[l.Hardware]; ok {
		return h.name + " (" + n + ")"
	}
	return n
}

// Capturable returns why no packets can be captured here, nil if they can. The error
// wraps ErrDown or ErrUnsupported.
func (l *Link) Capturable() error {
	if _, _, err := l.LinkType(); err != nil {
		return err
	}
	if !l.Up {
		return fmt.Errorf("%w; ip link set %s up", ErrDown, shown(l.Name))
	}
	return nil
}

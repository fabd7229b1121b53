// Package link tells what network interfaces there are, and what becomes of them,
// as a capture needs to know it. It asks the kernel over rtnetlink(7), in the network
// namespace of the calling thread.
package link

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Link is a network interface as it was when it was asked for.
type Link struct {
	Index     int            // the kernel's number for it, from 1
	Name      string         // up to 15 bytes, of which only '/', ':' and white space are excluded
	Hardware  uint16         // ARPHRD_* (linux/if_arp.h)
	Kind      string         // of virtual ones: veth, vlan, bridge, tun, ...; empty for hardware
	Up        bool           // set up (IFF_UP)
	Running   bool           // there is a carrier (IFF_RUNNING)
	MTU       int            // octets
	Addresses []netip.Prefix // with the length of their network
	IsVLAN    bool           // a VLAN of another interface
	VLAN      uint16         // its id
	Parent    int            // index of the interface that it is a VLAN of, 0 if that is in another namespace
	Master    int            // index of the bridge or bond that it is a member of, 0 if none
}

// All returns all interfaces, in the order of their indexes.
func All() ([]Link, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	defer c.Close()
	return list(c)
}

func list(c *netlink.Conn) ([]Link, error) {
	messages, err := dump(c, unix.RTM_GETLINK, linkRequest)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	links := make([]Link, 0, len(messages))
	for _, m := range messages {
		l, err := decodeLink(m.Data)
		if err != nil {
			return nil, fmt.Errorf("list interfaces: %w", err)
		}
		links = append(links, l)
	}
	slices.SortFunc(links, byIndex)
	// An interrupted dump may have it twice.
	links = slices.CompactFunc(links, func(a, b Link) bool { return a.Index == b.Index })
	if messages, err = dump(c, unix.RTM_GETADDR, make([]byte, unix.SizeofIfAddrmsg)); err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, m := range messages {
		index, prefix, err := decodeAddress(m.Data)
		if err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		if l := find(links, index); l != nil && prefix.IsValid() {
			l.Addresses = append(l.Addresses, prefix)
		}
	}
	return links, nil
}

// dump returns the kernel's answer to a question for everything of a kind.
//
// It asks again if something changed between two parts of the answer, which then
// may lack something else (nl_dump_check_consistent in include/net/netlink.h). Where
// there are changes all the time the last answer has to do: a watch hears of each
// change anyway.
func dump(c *netlink.Conn, kind netlink.HeaderType, body []byte) (messages []netlink.Message, err error) {
	const attempts = 10
	for range attempts {
		messages, err = c.Execute(netlink.Message{
			Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Dump},
			Data:   body,
		})
		interrupted := func(m netlink.Message) bool { return m.Header.Flags&netlink.DumpInterrupted != 0 }
		if err != nil || !slices.ContainsFunc(messages, interrupted) {
			break
		}
	}
	return messages, err
}

func byIndex(a, b Link) int { return cmp.Compare(a.Index, b.Index) }

// find returns a pointer into links, which are sorted, or nil.
func find(links []Link, index int) *Link {
	i, ok := slices.BinarySearchFunc(links, index, func(l Link, index int) int { return cmp.Compare(l.Index, index) })
	if !ok {
		return nil
	}
	return &links[i]
}

// ByIndex returns the interface of that index. The error wraps ErrNotFound.
func ByIndex(i int) (Link, error) {
	links, err := All()
	if err != nil {
		return Link{}, err
	}
	if l := find(links, i); l != nil {
		return *l, nil
	}
	return Link{}, fmt.Errorf("%w with index %d", ErrNotFound, i)
}

// ByName returns the interface of that name. The error wraps ErrNotFound and says
// which names there are.
func ByName(name string) (Link, error) {
	links, err := All()
	if err != nil {
		return Link{}, err
	}
	return named(links, name)
}

func named(links []Link, name string) (Link, error) {
	for _, l := range links {
		if l.Name == name {
			return l, nil
		}
	}
	if len(links) == 0 {
		return Link{}, fmt.Errorf("%w %q; there are none", ErrNotFound, name)
	}
	// Those that begin alike come first: the reader looks for a slip of the finger.
	near := slices.Clone(links)
	slices.SortStableFunc(near, func(a, b Link) int { return alike(b.Name, name) - alike(a.Name, name) })
	const most = 16 // names in an error
	var names []string
	for _, l := range near[:min(len(near), most)] {
		names = append(names, shown(l.Name))
	}
	if len(near) > most {
		names = append(names, "...")
	}
	return Link{}, fmt.Errorf("%w %q; there are %s", ErrNotFound, name, strings.Join(names, ", "))
}

// alike returns how many bytes a and b have in common at their beginning.
func alike(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// shown returns a name as errors show it: in quotes if it holds what a terminal or a
// shell would take for something else. The kernel lets nearly every byte into a name
// (dev_valid_name in net/core/dev.c).
func shown(name string) string {
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("._-@+", c) >= 0:
		default:
			return strconv.QuoteToASCII(name)
		}
	}
	return name
}

// Package link tells what network interfaces there are, and what becomes of them,
// as a capture needs to know it. It asks the kernel over rtnetlink(7), in the network
// namespace of the calling thread.
package link

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/jsimonetti/rtnetlink/v2/driver"
	"golang.org/x/sys/unix"
)

// Link is a network interface as it was when it was asked for.
type Link struct {
	Index     int            // the kernel's number for it, from 1
	Name      string         // up to 15 bytes, of which only '/' and white space are excluded
	Hardware  uint16         // ARPHRD_* (linux/if_arp.h)
	Kind      string         // of virtual ones: veth, vlan, bridge, tun, ...; empty for hardware
	Up        bool           // set up (IFF_UP)
	Running   bool           // there is a carrier (IFF_RUNNING)
	MTU       int            // octets
	Addresses []netip.Prefix // with the length of their network
	IsVLAN    bool           // a VLAN of another interface
	VLAN      uint16         // its id
	Parent    int            // index of the interface that it is a VLAN of
	Master    int            // index of the bridge or bond that it is a member of, 0 if none
}

// All returns all interfaces, in the order of their indexes.
func All() ([]Link, error) {
	c, err := rtnetlink.Dial(nil)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	defer c.Close()
	return list(c)
}

func list(c *rtnetlink.Conn) ([]Link, error) {
	messages, err := c.Link.List()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	addresses, err := c.Address.List()
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	links := make([]Link, 0, len(messages))
	for i := range messages {
		links = append(links, convert(&messages[i]))
	}
	slices.SortFunc(links, func(a, b Link) int { return a.Index - b.Index })
	for _, a := range addresses {
		i, ok := slices.BinarySearchFunc(links, int(a.Index), func(l Link, index int) int { return l.Index - index })
		if p, valid := prefix(&a); ok && valid {
			links[i].Addresses = append(links[i].Addresses, p)
		}
	}
	return links, nil
}

// prefix returns an address. IFA_LOCAL is the interface's own where there are two,
// as the other is that of the far end (rtnetlink(7)).
func prefix(a *rtnetlink.AddressMessage) (netip.Prefix, bool) {
	if a.Attributes == nil {
		return netip.Prefix{}, false
	}
	ip := a.Attributes.Local
	if ip == nil {
		ip = a.Attributes.Address
	}
	address, ok := netip.AddrFromSlice(ip)
	return netip.PrefixFrom(address.Unmap(), int(a.PrefixLength)), ok
}

// convert takes over what a message says of an interface.
func convert(m *rtnetlink.LinkMessage) Link {
	l := Link{
		Index:    int(m.Index),
		Hardware: m.Type,
		Up:       m.Flags&unix.IFF_UP != 0,
		Running:  m.Flags&unix.IFF_RUNNING != 0,
	}
	a := m.Attributes
	if a == nil {
		return l
	}
	l.Name, l.MTU = a.Name, int(a.MTU)
	if a.Master != nil {
		l.Master = int(*a.Master)
	}
	if a.Info == nil {
		return l
	}
	l.Kind = a.Info.Kind
	if v, ok := a.Info.Data.(*driver.Vlan); ok && v.ID != nil {
		l.IsVLAN, l.VLAN, l.Parent = true, *v.ID, int(a.Type)
	}
	return l
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
	const most = 16 // names in an error
	var names []string
	for _, l := range links {
		if l.Name == name {
			return l, nil
		}
		if len(names) < most {
			names = append(names, l.Name)
		}
	}
	if len(links) > most {
		names = append(names, "...")
	}
	return Link{}, fmt.Errorf("%w %q; there are %s", ErrNotFound, name, strings.Join(names, ", "))
}

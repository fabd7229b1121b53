package agent

import (
	"errors"
	"slices"
	"strings"

	"weir/capture/link"
)

// Selection picks the interfaces to capture on by the patterns of [link.Selector].
// Without Include it picks all that can be captured on but loopback, and leaves out
// those whose packets pass another one that is picked: VLANs of a parent, members of
// a bridge or bond.
type Selection struct {
	Include, Exclude []string
}

// Validate returns an error that names a pattern which is none.
func (s Selection) Validate() error {
	return link.Selector{Include: s.Include, Exclude: s.Exclude}.Validate()
}

// Pick returns the interfaces to capture on. Named ones that are not there, or are
// down, may come later, so they are no error: see Missing.
func (s Selection) Pick(links []link.Link) []link.Link {
	include := slices.Clone(s.Include)
	for _, name := range s.Missing(links) {
		include = slices.DeleteFunc(include, func(p string) bool { return p == name })
	}
	if len(s.Include) > 0 && len(include) == 0 {
		return nil
	}
	picked, err := link.Selector{Include: include, Exclude: s.Exclude}.Select(links)
	if err != nil {
		return nil // Validate has said so
	}
	if len(s.Include) > 0 {
		return slices.DeleteFunc(picked, func(l link.Link) bool { return errors.Is(l.Capturable(), link.ErrDown) })
	}
	all := stack{links: map[int]link.Link{}, picked: map[int]bool{}}
	for _, l := range links {
		all.links[l.Index] = l
	}
	for _, l := range picked {
		all.picked[l.Index] = true
	}
	return slices.DeleteFunc(picked, func(l link.Link) bool { return all.elsewhere(l, maxNest) })
}

// stack is how interfaces lie above each other.
type stack struct {
	links  map[int]link.Link // by index
	picked map[int]bool
}

// maxNest is how far that may go (MAX_NEST_DEV in include/linux/netdevice.h).
const maxNest = 8

// elsewhere reports whether another one that is captured on sees l's packets.
func (s stack) elsewhere(l link.Link, nest int) bool {
	return s.above(l.Master, nest) || s.below(l.Parent, nest)
}

// above reports whether what the members of a bridge or bond receive is seen there, or
// further up.
func (s stack) above(index, nest int) bool {
	return index != 0 && nest > 0 && (s.picked[index] || s.above(s.links[index].Master, nest-1))
}

// below reports whether the packets of a parent's VLANs are seen there, or further
// down. A bridge does not see those of its members: a tagged packet reaches the VLAN
// before it would reach the bridge (__netif_receive_skb_core in net/core/dev.c).
func (s stack) below(index, nest int) bool {
	return index != 0 && nest > 0 &&
		(s.picked[index] && !s.elsewhere(s.links[index], nest-1) || s.below(s.links[index].Parent, nest-1))
}

// Missing returns the names in Include that no interface has.
func (s Selection) Missing(links []link.Link) (names []string) {
	for _, p := range s.Include {
		if p == link.AllUp || strings.HasPrefix(p, "/") {
			continue
		}
		if !slices.ContainsFunc(links, func(l link.Link) bool { return l.Name == p }) {
			names = append(names, p)
		}
	}
	return names
}

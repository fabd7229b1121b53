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
	captured := map[int]bool{}
	for _, l := range picked {
		captured[l.Index] = true
	}
	return slices.DeleteFunc(picked, func(l link.Link) bool { return captured[l.Parent] || captured[l.Master] })
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

package link

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// AllUp in a Selector stands for all interfaces that are up, loopback included. The
// kernel refuses it as a name (devinet_sysctl_register in net/ipv4/devinet.c).
const AllUp = "all"

// Selector picks interfaces by patterns: a name, a regular expression between two
// slashes (such as /^eth/), or "all" for those that are up.
type Selector struct {
	// Include says which to pick. Empty: all that are up and can be captured on,
	// but for loopback.
	Include []string
	// Exclude says which of them not to.
	Exclude []string
}

// Validate returns an error that names the pattern which is none.
func (s Selector) Validate() error {
	for _, p := range slices.Concat(s.Include, s.Exclude) {
		if _, err := compile(p); err != nil {
			return err
		}
	}
	return nil
}

// Select returns those of links that s picks. A name that is not among them is an
// error that wraps ErrNotFound; a regular expression that fits none is not.
func (s Selector) Select(links []Link) ([]Link, error) {
	var picked []Link
	for _, p := range s.Include {
		match, err := compile(p)
		if err != nil {
			return nil, err
		}
		if isName(p) {
			if _, err := named(links, p); err != nil {
				return nil, err
			}
		}
		for _, l := range links {
			if match(&l) && !slices.ContainsFunc(picked, func(m Link) bool { return m.Index == l.Index }) {
				picked = append(picked, l)
			}
		}
	}
	if len(s.Include) == 0 {
		for _, l := range links {
			if l.Capturable() == nil && types[l.Hardware].name != "LOOPBACK" {
				picked = append(picked, l)
			}
		}
	}
	for _, p := range s.Exclude {
		match, err := compile(p)
		if err != nil {
			return nil, err
		}
		picked = slices.DeleteFunc(picked, func(l Link) bool { return match(&l) })
	}
	slices.SortFunc(picked, byIndex)
	return picked, nil
}

func isName(pattern string) bool { return pattern != AllUp && !strings.HasPrefix(pattern, "/") }

func compile(pattern string) (func(*Link) bool, error) {
	switch {
	case pattern == "":
		return nil, fmt.Errorf("interface pattern %q is empty", pattern)
	case pattern == AllUp:
		return func(l *Link) bool { return l.Up }, nil
	case isName(pattern):
		return func(l *Link) bool { return l.Name == pattern }, nil
	}
	expression, ok := strings.CutSuffix(pattern[1:], "/")
	if !ok {
		return nil, fmt.Errorf("interface pattern %q: a regular expression ends with a slash as it begins with one", pattern)
	}
	re, err := regexp.Compile(expression)
	if err != nil {
		return nil, fmt.Errorf("interface pattern %q: %w", pattern, err)
	}
	return func(l *Link) bool { return re.MatchString(l.Name) }, nil
}

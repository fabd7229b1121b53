package agent_test

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"weir/agent"
	"weir/capture/link"
)

// some are interfaces of all kinds. Those whose names begin with down are.
func some() []link.Link {
	links := []link.Link{
		{Index: 1, Name: "lo", Hardware: unix.ARPHRD_LOOPBACK},
		{Index: 2, Name: "eth0"},
		{Index: 3, Name: "eth0.5", Kind: "vlan", IsVLAN: true, VLAN: 5, Parent: 2},
		{Index: 4, Name: "eth0.5.7", Kind: "vlan", IsVLAN: true, VLAN: 7, Parent: 3},
		{Index: 5, Name: "br0", Kind: "bridge"},
		{Index: 6, Name: "veth0", Kind: "veth", Master: 5},
		{Index: 7, Name: "bond0", Kind: "bond"},
		{Index: 8, Name: "eth1", Master: 7},
		{Index: 9, Name: "down0"},
		{Index: 10, Name: "down0.6", Kind: "vlan", IsVLAN: true, VLAN: 6, Parent: 9},
		{Index: 11, Name: "far.8", Kind: "vlan", IsVLAN: true, VLAN: 8}, // its parent is in another namespace
		{Index: 12, Name: "downbr", Kind: "bridge"},
		{Index: 13, Name: "tap0", Kind: "tun", Master: 12},
		{Index: 14, Name: "can0", Hardware: unix.ARPHRD_CAN},
	}
	for i := range links {
		if links[i].Hardware == 0 {
			links[i].Hardware = unix.ARPHRD_ETHER
		}
		links[i].Up = !strings.HasPrefix(links[i].Name, "down")
	}
	return links
}

func TestPick(t *testing.T) {
	for _, c := range []struct {
		about            string
		include, exclude string
		want, missing    string
	}{
		{about: "defaults", want: "eth0 br0 bond0 down0.6 far.8 tap0"},
		{about: "members of an excluded bridge and bond", exclude: "br0 bond0", want: "eth0 veth0 eth1 down0.6 far.8 tap0"},
		{about: "VLANs of an excluded parent", exclude: "eth0", want: "eth0.5 br0 bond0 down0.6 far.8 tap0"},
		{about: "exclude a pattern", exclude: "/^(eth|br|bond)/ tap0", want: "veth0 down0.6 far.8"},
		{about: "a VLAN by name", include: "eth0.5", want: "eth0.5"},
		{about: "a VLAN and its parent by name", include: "eth0.5 eth0", want: "eth0 eth0.5"},
		{about: "a member by name", include: "veth0 eth1", want: "veth0 eth1"},
		{about: "loopback by name", include: "lo", want: "lo"},
		{about: "down by name", include: "down0 eth0", want: "eth0"},
		{about: "a pattern", include: `/^eth0(\.|$)/`, want: "eth0 eth0.5 eth0.5.7"},
		{about: "a pattern of those that are down", include: "/^down/", want: "down0.6", exclude: ""},
		{about: "a pattern that fits none", include: "/^wlan/", want: ""},
		{about: "all but", include: "all", exclude: "/^eth/ can0", want: "lo br0 veth0 bond0 down0.6 far.8 tap0"},
		{about: "what carries no IP, by name: opening says why not", include: "can0", want: "can0"},
		{about: "named twice", include: "eth0 /^eth0$/ eth0", want: "eth0"},
		{about: "included and excluded", include: "eth0 eth1", exclude: "eth1", want: "eth0"},
		{about: "missing", include: "eth9 eth0 wlan0", want: "eth0", missing: "eth9 wlan0"},
		{about: "nothing but missing", include: "eth9", want: "", missing: "eth9"},
		{about: "missing to exclude", include: "eth0", exclude: "eth9", want: "eth0"},
		{about: "missing besides a pattern", include: "eth9 /^br/", want: "br0", missing: "eth9"},
	} {
		s := agent.Selection{Include: strings.Fields(c.include), Exclude: strings.Fields(c.exclude)}
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", c.about, err)
		}
		links := some()
		links[9].Up = true // down0.6
		var got []string
		for _, l := range s.Pick(links) {
			got = append(got, l.Name)
		}
		if !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%s: picked %v, want %s", c.about, got, c.want)
		}
		if missing := s.Missing(links); !slices.Equal(missing, strings.Fields(c.missing)) {
			t.Errorf("%s: missing %v, want %s", c.about, missing, c.missing)
		}
		if !slices.EqualFunc(links, some(), func(a, b link.Link) bool { return a.Index == b.Index && a.Name == b.Name }) {
			t.Errorf("%s: the links were changed", c.about)
		}
		if !slices.Equal(s.Include, strings.Fields(c.include)) {
			t.Errorf("%s: Include became %v", c.about, s.Include)
		}
	}
}

// TestPickStacks holds that of interfaces above each other those are left out whose
// packets are seen elsewhere, and no others.
func TestPickStacks(t *testing.T) {
	for _, c := range []struct{ about, want string }{
		{"vlan of a member", "br0 eth0.5 | br0=1 eth0=2,m1 eth0.5=3,p2"},
		{"vlan of a vlan of a member", "br0 eth0.5 | br0=1 eth0=2,m1 eth0.5=3,p2 eth0.5.7=4,p3"},
		{"vlan of a bond", "bond0 | bond0=1 eth0=2,m1 bond0.5=3,p1"},
		{"vlan of a bond in a bridge", "br0 bond0.5 | br0=1 bond0=2,m1 eth0=3,m2 bond0.5=4,p2"},
		{"vlan in a bridge", "eth0 br5 | eth0=1 eth0.5=2,p1,m3 br5=3"},
		{"vlan in a bridge of an excluded parent", "br5 | eth0.5=2,p1,m3 br5=3"},
		{"vlan of a vlan", "eth0 | eth0.5.7=4,p3 eth0=1 eth0.5=3,p1"},
		{"its own master", "eth0 | eth0=1,m2 eth1=2,m1"}, // cannot be; must end
	} {
		want, layout, _ := strings.Cut(c.want, " | ")
		var links []link.Link
		for _, f := range strings.Fields(layout) {
			name, rest, _ := strings.Cut(f, "=")
			l := link.Link{Name: name, Hardware: unix.ARPHRD_ETHER, Up: true}
			for i, n := range strings.Split(rest, ",") {
				number := int(n[len(n)-1] - '0')
				switch {
				case i == 0:
					l.Index = number
				case n[0] == 'm':
					l.Master = number
				case n[0] == 'p':
					l.Parent, l.IsVLAN = number, true
				}
			}
			links = append(links, l)
		}
		var got []string
		for _, l := range (agent.Selection{}).Pick(links) {
			got = append(got, l.Name)
		}
		slices.Sort(got)
		names := strings.Fields(want)
		slices.Sort(names)
		if c.about != "its own master" && !slices.Equal(got, names) {
			t.Errorf("%s: picked %v, want %v", c.about, got, names)
		}
	}
}

func TestPatterns(t *testing.T) {
	for _, p := range []string{"", "/(/", "/^eth"} {
		if err := (agent.Selection{Include: []string{p}}).Validate(); err == nil {
			t.Errorf("%q may be included", p)
		}
		if err := (agent.Selection{Exclude: []string{p}}).Validate(); err == nil {
			t.Errorf("%q may be excluded", p)
		}
	}
	if got := (agent.Selection{Include: []string{"/(/"}}).Pick(some()); got != nil {
		t.Errorf("picked %v", got)
	}
}

package link

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var host = []Link{
	{Index: 1, Name: "lo", Hardware: unix.ARPHRD_LOOPBACK, Up: true},
	{Index: 2, Name: "eth0", Hardware: unix.ARPHRD_ETHER, Up: true},
	{Index: 3, Name: "eth1", Hardware: unix.ARPHRD_ETHER},
	{Index: 5, Name: "tun0", Hardware: unix.ARPHRD_NONE, Up: true},
	{Index: 6, Name: "nlmon0", Hardware: unix.ARPHRD_NETLINK, Up: true},
	{Index: 9, Name: "a.b", Hardware: unix.ARPHRD_ETHER, Up: true},
}

func TestSelector(t *testing.T) {
	for _, c := range []struct{ include, exclude, want string }{
		{"", "", "eth0 tun0 a.b"},
		{"", "tun0", "eth0 a.b"},
		{"", "/^eth/ /b$/", "tun0"},
		{"", "all", ""},
		{"", "none /none/", "eth0 tun0 a.b"},
		{"all", "", "lo eth0 tun0 nlmon0 a.b"},
		{"all", "lo /^nlmon/", "eth0 tun0 a.b"},
		{"eth1", "", "eth1"}, // asked for by name: the caller hears why not
		{"tun0 eth0 tun0 /0$/", "", "eth0 tun0 nlmon0"},
		{"/^eth/", "", "eth0 eth1"},
		{"/eth/ lo", "eth1", "lo eth0"},
		{"//", "", "lo eth0 eth1 tun0 nlmon0 a.b"},
		{"/none/", "", ""},
		{"a.b", "", "a.b"},
		{"eth0", "eth0", ""},
	} {
		s := Selector{strings.Fields(c.include), strings.Fields(c.exclude)}
		if err := s.Validate(); err != nil {
			t.Errorf("%v: %v", s, err)
		}
		links, err := s.Select(host)
		var names []string
		for _, l := range links {
			names = append(names, l.Name)
		}
		if got := strings.Join(names, " "); err != nil || got != c.want {
			t.Errorf("%+v: %q, %v; want %q", s, got, err, c.want)
		}
	}
}

func TestSelectorErrors(t *testing.T) {
	for _, p := range []string{"", "/", "/eth", "/(/", "/eth0/x"} {
		for _, s := range []Selector{{Include: []string{p}}, {Exclude: []string{"lo", p}}} {
			err := s.Validate()
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", p)) {
				t.Errorf("%+v: %v", s, err)
			}
			if _, err := s.Select(host); err == nil {
				t.Errorf("%+v selects", s)
			}
		}
	}
	before := slices.Clone(host)
	_, err := Selector{Include: []string{"lo", "eth2"}}.Select(host)
	if !errors.Is(err, ErrNotFound) || !strings.HasSuffix(err.Error(), `"eth2"; there are eth0, eth1, lo, tun0, nlmon0, a.b`) {
		t.Errorf("%v", err)
	}
	if _, err := (Selector{Include: []string{"lo"}}).Select(nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
	if !slices.EqualFunc(before, host, func(a, b Link) bool { return a.Name == b.Name }) {
		t.Errorf("the caller's links were changed: %+v", host)
	}
}

func ExampleSelector() {
	links := []Link{
		{Index: 1, Name: "lo", Hardware: unix.ARPHRD_LOOPBACK, Up: true},
		{Index: 2, Name: "eth0", Hardware: unix.ARPHRD_ETHER, Up: true},
		{Index: 3, Name: "eth1", Hardware: unix.ARPHRD_ETHER, Up: true},
		{Index: 4, Name: "veth3f2a", Hardware: unix.ARPHRD_ETHER, Up: true},
	}
	s := Selector{Include: []string{"lo", "/^eth/"}, Exclude: []string{"eth1"}}
	picked, err := s.Select(links)
	if err != nil {
		fmt.Println(err)
	}
	for _, l := range picked {
		fmt.Println(l.Index, l.Name)
	}
	// Output:
	// 1 lo
	// 2 eth0
}

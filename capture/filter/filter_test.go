package filter_test

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"weir/capture"
	"weir/capture/filter"
	"weir/capture/pcap"
	"weir/flows"
)

// configs calls f with all there are for the link types.
func configs(links []capture.LinkType, f func(filter.Config)) {
	for _, link := range links {
		for _, length := range lengths {
			for _, ignore := range []bool{false, true} {
				for _, all := range []bool{false, true} {
					f(filter.Config{LinkType: link, Length: length, IgnoreVLANs: ignore, All: all})
				}
			}
		}
	}
}

var ethernets = []capture.LinkType{capture.LinkEthernet, capture.LinkLoopback}

func TestAccepts(t *testing.T) {
	configs(ethernets, func(c filter.Config) {
		_, vm := assemble(t, c)
		for _, s := range samples() {
			for _, meta := range []bool{false, true} {
				p := s.p
				if meta { // a tag with id 0 that the hardware took out
					p.VLANTPID = 0x8100
				}
				n := vm.Run(p.Data, metadata(&p))
				want := s.ip || c.All
				if c.IgnoreVLANs && (s.tagged || meta) {
					want = false
				}
				name := fmt.Sprintf("%s, %v, ignore %v, all %v, metadata %v", s.name, c.Length, c.IgnoreVLANs, c.All, meta)
				if (n > 0) != want {
					t.Errorf("%s: %d octets", name, n)
				}
				if limit := c.Length.Max(c.LinkType); n > limit {
					t.Errorf("%s: %d octets, at most %d expected", name, n, limit)
				}
				if n > 0 && s.ip {
					checkCut(t, name, &p, n, c.Length)
				}
			}
		}
	})
}

// TestRunts cuts every sample to every length up to 60 octets. With All nothing is
// refused but tags that are seen, and nothing is longer than it may be. Without it,
// what is refused has no flow.
func TestRunts(t *testing.T) {
	configs(ethernets, func(c filter.Config) {
		_, vm := assemble(t, c)
		for _, s := range samples() {
			for size := range 61 {
				p := s.p
				p.LinkType = c.LinkType
				p.Data = p.Data[:size]
				p.WireLen = uint32(size)
				n := vm.Run(p.Data, metadata(&p))
				var h flows.Headers
				switch verdict := h.Decode(&p); {
				case c.IgnoreVLANs && s.tagged && size >= 14 && s.name != "SNAP tag":
					if n != 0 {
						t.Errorf("%s of %d octets, %+v: accepted", s.name, size, c)
					}
				case c.IgnoreVLANs && s.tagged:
				case c.All && n == 0, verdict == flows.OK && n == 0:
					t.Errorf("%s of %d octets, %+v: refused (%v)", s.name, size, c, verdict)
				case !c.All && size < 14 && n != 0:
					t.Errorf("%s of %d octets, %+v: accepted without a whole header", s.name, size, c)
				}
				if n > c.Length.Max(c.LinkType) {
					t.Errorf("%s of %d octets, %+v: %d octets", s.name, size, c, n)
				}
			}
		}
	})
}

// TestMinimal pins how little of the usual packets is captured.
func TestMinimal(t *testing.T) {
	for _, c := range []struct {
		sample string
		length filter.Length
		want   uint32
	}{
		{"IPv4", filter.MinimalIPv4Header, 34}, {"IPv4", filter.MinimalIPv4Transport, 54}, {"IPv4", filter.MinimalIPv6Transport, 54},
		{"IPv4 options", filter.MinimalIPv4Header, 74}, {"IPv4 options", filter.MinimalIPv6Transport, 94},
		{"IPv6", filter.MinimalIPv6Header, 54}, {"IPv6", filter.MinimalIPv6Transport, 74}, {"IPv6", filter.MinimalIPv4Transport, 54},
		{"IPv6 extensions", filter.MinimalIPv6Transport, 170},
	} {
		_, vm := assemble(t, filter.Config{LinkType: capture.LinkEthernet, Length: c.length})
		for _, s := range samples() {
			if s.name == c.sample {
				if n := vm.Run(s.p.Data, metadata(&s.p)); n != c.want {
					t.Errorf("%s, %v: %d octets, want %d", c.sample, c.length, n, c.want)
				}
			}
		}
	}
}

var withoutHeader = []capture.LinkType{
	capture.LinkNone, capture.LinkRaw, capture.LinkRaw12, capture.LinkRaw14, capture.LinkTunnel, capture.LinkTunnel6,
	capture.LinkSIT, capture.LinkGRE, capture.LinkGRE6, capture.LinkIPv4, capture.LinkIPv6, capture.LinkCooked,
}

// TestOtherLinkTypes does the same where packets begin otherwise.
func TestOtherLinkTypes(t *testing.T) {
	for _, link := range withoutHeader {
		configs([]capture.LinkType{link}, func(c filter.Config) {
			length := c.Length
			_, vm := assemble(t, c)
			for i, data := range [][]byte{v4, v4opts, v6, v6hop, v6frag, payload, {}} {
				p := capture.Packet{Data: data, WireLen: uint32(len(data)), LinkType: link}
				ip := i < 5 && !(link == capture.LinkIPv4 && i > 1) && !(link == capture.LinkIPv6 && i < 2)
				if link == capture.LinkCooked {
					p.Protocol = []uint16{0x0800, 0x0800, 0x86dd, 0x86dd, 0x86dd, 0x0806, 0x0004}[i]
				}
				n := vm.Run(p.Data, metadata(&p))
				name := fmt.Sprintf("%v, %v, packet %d", link, length, i)
				if (n > 0) != (ip || c.All) || n > length.Max(link) {
					t.Errorf("%s, %+v: %d octets", name, c, n)
				}
				if ip {
					checkCut(t, name, &p, n, length)
				}
				m := metadata(&p)
				m.VLANPresent = true // with id 0
				if tagged := vm.Run(p.Data, m); c.IgnoreVLANs && tagged != 0 || !c.IgnoreVLANs && tagged != n {
					t.Errorf("%s, %+v: %d octets with a tag in metadata", name, c, tagged)
				}
			}
		})
	}
	// Cooked packets with tags in line begin with the first one's value.
	configs([]capture.LinkType{capture.LinkCooked}, func(c filter.Config) {
		_, vm := assemble(t, c)
		for _, s := range samples() {
			p := s.p
			p.LinkType, p.Protocol, p.Data = capture.LinkCooked, binary.BigEndian.Uint16(p.Data[12:]), p.Data[14:]
			p.WireLen -= 14
			n := vm.Run(p.Data, metadata(&p))
			ip := s.ip && p.Protocol >= 0x0600 // LLC has no EtherType in metadata
			if want := (ip || c.All) && !(s.tagged && c.IgnoreVLANs && p.Protocol >= 0x0600); (n > 0) != want {
				t.Errorf("cooked %s, %+v: %d octets", s.name, c, n)
			}
			if n > 0 && ip {
				checkCut(t, "cooked "+s.name, &p, n, c.Length)
			}
		}
	})
	for _, link := range []capture.LinkType{capture.Link80211, capture.Link80211Radio, capture.LinkSLL} {
		_, vm := assemble(t, filter.Config{LinkType: link, Length: filter.MinimalIPv6Transport})
		if n := vm.Run(payload, filter.Metadata{}); n == 0 {
			t.Errorf("%v: refused", link)
		}
	}
	if _, err := (filter.Config{LinkType: 4711}).Assemble(); err == nil || !strings.Contains(err.Error(), "4711") {
		t.Error(err)
	}
}

// TestCaptures filters every capture of testdata: what has a flow passes, and flows
// sees the same of it.
func TestCaptures(t *testing.T) {
	paths, err := filepath.Glob("../../testdata/*.pcap*")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d captures, %v", len(paths), err)
	}
	for _, path := range paths {
		for _, length := range lengths {
			r, err := pcap.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			vms := map[capture.LinkType]*filter.VM{}
			for i := 1; ; {
				batch, err := r.NextBatch()
				if err != nil {
					break // the end, or the damage of cut.pcap
				}
				for _, p := range batch {
					if vms[p.LinkType] == nil {
						_, vms[p.LinkType] = assemble(t, filter.Config{LinkType: p.LinkType, Length: length})
					}
					var h flows.Headers
					n := vms[p.LinkType].Run(p.Data, metadata(&p))
					if v := h.Decode(&p); v == flows.OK {
						name := fmt.Sprintf("%s: packet %d, %v", path, i, length)
						if n == 0 {
							t.Errorf("%s: refused", name)
						}
						checkCut(t, name, &p, n, length)
					}
					i++
				}
			}
			r.Close()
		}
	}
}

func TestParseLength(t *testing.T) {
	for _, l := range append(lengths, filter.Fixed(1), filter.Fixed(filter.Whole)) {
		got, err := filter.ParseLength(l.String())
		if err != nil || got != l {
			t.Errorf("%v: %v, %v", l, got, err)
		}
	}
	for _, s := range []string{"", "0", "-1", "262145", "ipv5", "99999999999"} {
		if l, err := filter.ParseLength(s); err == nil {
			t.Errorf("%q: %v", s, l)
		}
	}
}

func BenchmarkAssemble(b *testing.B) {
	for b.Loop() {
		if _, err := (filter.Config{LinkType: capture.LinkEthernet, Length: filter.MinimalIPv6Transport, IgnoreVLANs: true}).Assemble(); err != nil {
			b.Fatal(err)
		}
	}
}

// TestHeaderLengthLies holds that an IPv4 header which says that it is shorter than
// can be is neither refused nor cut.
func TestHeaderLengthLies(t *testing.T) {
	for _, link := range []capture.LinkType{capture.LinkNone, capture.LinkEthernet} {
		for _, length := range lengths {
			_, vm := assemble(t, filter.Config{LinkType: link, Length: length})
			data := make([]byte, 100)
			at := 0
			if link == capture.LinkEthernet {
				at, data[12] = 14, 8
			}
			for ihl := range byte(5) {
				data[at] = 4<<4 | ihl
				if n := vm.Run(data, filter.Metadata{Protocol: 0x0800, Len: 100}); n < uint32(at)+20 {
					t.Errorf("%v, %v, IHL %d: %d octets", link, length, ihl, n)
				}
			}
		}
	}
}

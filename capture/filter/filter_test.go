package filter_test

func TestAccepts(t *testing.T) {
	for _, length := range lengths {
		for _, ignore := range []bool{false, true} {
			for _, all := range []bool{false, true} {
				c := filter.Config{LinkType: capture.LinkEthernet, Length: length, IgnoreVLANs: ignore, All: all}
				_, vm := assemble(t, c)
				for _, s := range samples() {
					for _, meta := range []bool{false, true} {
						p := s.p
						if meta { // a tag with id 0 that the hardware took out
							p.VLANTPID = 0x8100
						}
						n := vm.Run(p.Data, metadata(&p))
						want := s.ip || all && len(p.Data) >= 14
						if ignore && (s.tagged || meta) {
							want = false
						}
						name := fmt.Sprintf("%s, %v, ignore %v, all %v, metadata %v", s.name, length, ignore, all, meta)
						if (n > 0) != want {
							t.Errorf("%s: %d octets", name, n)
						}
						if n > length.Max(c.LinkType) {
							t.Errorf("%s: %d octets, at most %d expected", name, n, length.Max(c.LinkType))
						}
						if n > 0 && s.ip {
							checkCut(t, name, &p, n, length)
						}
					}
				}
			}
		}
	}
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

// TestOtherLinkTypes does the same where packets begin otherwise.
func TestOtherLinkTypes(t *testing.T) {
	for _, link := range []capture.LinkType{capture.LinkNone, capture.LinkRaw, capture.LinkTunnel, capture.LinkGRE, capture.LinkIPv4, capture.LinkIPv6, capture.LinkCooked} {
		for _, length := range lengths {
			_, vm := assemble(t, filter.Config{LinkType: link, Length: length})
			for i, data := range [][]byte{v4, v4opts, v6, v6hop, v6frag, payload, {}} {
				p := capture.Packet{Data: data, WireLen: uint32(len(data)), LinkType: link}
				ip := i < 5 && !(link == capture.LinkIPv4 && i > 1) && !(link == capture.LinkIPv6 && i < 2)
				if link == capture.LinkCooked {
					p.Protocol = []uint16{0x0800, 0x0800, 0x86dd, 0x86dd, 0x86dd, 0x0806, 0x0004}[i]
				}
				n := vm.Run(p.Data, metadata(&p))
				name := fmt.Sprintf("%v, %v, packet %d", link, length, i)
				if (n > 0) != ip {
					t.Errorf("%s: %d octets", name, n)
				}
				if ip {
					checkCut(t, name, &p, n, length)
				}
			}
		}
	}
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
		r, err := pcap.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		vms := map[capture.LinkType]*filter.VM{}
		for i := 0; ; {
			batch, err := r.NextBatch()
			if err != nil {
				break // the end, or the damage of cut.pcap
			}
			for _, p := range batch {
				i++
				if vms[p.LinkType] == nil {
					_, vms[p.LinkType] = assemble(t, filter.Config{LinkType: p.LinkType, Length: filter.MinimalIPv6Transport})
				}
				var h flows.Headers
				n := vms[p.LinkType].Run(p.Data, metadata(&p))
				if v := h.Decode(&p); v == flows.OK {
					checkCut(t, fmt.Sprintf("%s: packet %d", path, i), &p, n, filter.MinimalIPv6Transport)
				}
			}
		}
		r.Close()
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

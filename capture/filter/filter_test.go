package filter_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"weir/capture"
	"weir/capture/capturetest"
	"weir/capture/filter"
	"weir/capture/link"
	"weir/capture/pcap"
	"weir/flows"
)

var lengths = []filter.Length{
	{}, filter.Fixed(96), filter.MinimalIPv4Header, filter.MinimalIPv4Transport, filter.MinimalIPv6Header, filter.MinimalIPv6Transport,
}

func be(values ...uint16) (b []byte) {
	for _, v := range values {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b
}

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// Layers of the samples.
var (
	macs    = make([]byte, 12)
	payload = make([]byte, 200)
	tcp     = cat(be(1000, 443), make([]byte, 8), []byte{0x50, 0x12}, make([]byte, 6))
	v4      = cat([]byte{0x45, 0}, be(240), make([]byte, 5), []byte{6, 0, 0, 10, 99, 0, 1, 10, 99, 0, 2}, tcp, payload)
	v4opts  = cat([]byte{0x4f, 0}, be(280), make([]byte, 5), []byte{6, 0, 0, 10, 99, 0, 1, 10, 99, 0, 2}, make([]byte, 40), tcp, payload)
	v6head  = func(next byte, size int) []byte {
		return cat([]byte{0x60, 0, 0, 0}, be(uint16(size)), []byte{next, 64}, make([]byte, 31), []byte{1}, []byte{15: 2})[:40]
	}
	v6     = cat(v6head(6, 220), tcp, payload)
	v6hop  = cat(v6head(0, 244), []byte{43, 0, 0, 0, 0, 0, 0, 0}, []byte{6, 1, 0, 0}, make([]byte, 12), tcp, payload)
	v6frag = cat(v6head(44, 228), []byte{6, 0, 0, 1, 0, 0, 0, 9}, tcp, payload)
)

// sample is a packet, and whether it is IP, and tagged.
type sample struct {
	name       string
	p          capture.Packet
	ip, tagged bool
}

func samples() (all []sample) {
	add := func(name string, ip, tagged bool, data ...[]byte) {
		p := capture.Packet{Data: cat(data...), LinkType: capture.LinkEthernet}
		p.WireLen = uint32(len(p.Data))
		all = append(all, sample{name, p, ip, tagged})
	}
	add("IPv4", true, false, macs, be(0x0800), v4)
	add("IPv4 options", true, false, macs, be(0x0800), v4opts)
	add("IPv6", true, false, macs, be(0x86dd), v6)
	add("IPv6 extensions", true, false, macs, be(0x86dd), v6hop)
	add("IPv6 fragment", true, false, macs, be(0x86dd), v6frag)
	for _, tpid := range []uint16{0x8100, 0x88a8, 0x9100, 0x9200} {
		add(fmt.Sprintf("tag %#x IPv4", tpid), true, true, macs, be(tpid, 7, 0x0800), v4)
		add(fmt.Sprintf("tag %#x IPv6", tpid), true, true, macs, be(tpid, 7, 0x86dd), v6hop)
		add(fmt.Sprintf("tag %#x ARP", tpid), false, true, macs, be(tpid, 7, 0x0806), payload)
	}
	add("two tags", true, true, macs, be(0x88a8, 7, 0x8100, 8, 0x86dd), v6)
	add("three tags", true, true, macs, be(0x88a8, 7, 0x8100, 8, 0x8100, 9, 0x0800), v4opts)
	add("two tags ARP", false, true, macs, be(0x88a8, 7, 0x8100, 8, 0x0806), payload)
	add("MPLS", true, false, macs, be(0x8847, 0, 0x0140), v4opts)
	add("PPPoE IPv4", true, false, macs, be(0x8864, 0x1100, 1, 250, 0x0021), v4)
	add("PPPoE IPv6", true, false, macs, be(0x8864, 0x1100, 1, 250, 0x0057), v6hop)
	add("PPPoE compressed", true, false, macs, be(0x8864, 0x1100, 1, 250), []byte{0x21}, v4)
	add("PPPoE LCP", false, false, macs, be(0x8864, 0x1100, 1, 250, 0xc021), payload)
	add("PPPoE discovery", false, false, macs, be(0x8863, 0x1109, 0, 4, 0), payload)
	add("tagged PPPoE", true, true, macs, be(0x8100, 7, 0x8864, 0x1100, 1, 250, 0x0021), v4)
	add("SNAP", true, false, macs, be(300), []byte{0xaa, 0xaa, 3, 0, 0, 0}, be(0x0800), v4)
	add("SNAP ARP", false, false, macs, be(300), []byte{0xaa, 0xaa, 3, 0, 0, 0}, be(0x0806), payload)
	add("LLC IP", true, false, macs, be(300), []byte{6, 6, 3}, v4)
	add("STP", false, false, macs, be(60), []byte{0x42, 0x42, 3}, payload)
	add("ARP", false, false, macs, be(0x0806), payload)
	add("LLDP", false, false, macs, be(0x88cc), payload)
	for n := range 14 {
		add(fmt.Sprintf("runt of %d", n), false, false, macs[:min(n, 12)], be(0x0800)[:max(n-12, 0)])
	}
	return all
}

func assemble(t testing.TB, c filter.Config) ([]bpf.RawInstruction, *filter.VM) {
	t.Helper()
	program, err := c.Assemble()
	if err != nil {
		t.Fatalf("%+v: %v", c, err)
	}
	vm, err := filter.NewVM(program)
	if err != nil {
		t.Fatalf("%+v: %v", c, err)
	}
	return program, vm
}

func metadata(p *capture.Packet) filter.Metadata {
	m := filter.Metadata{PacketType: uint8(p.Type), VLANPresent: p.VLANTPID != 0, VLANTCI: p.VLANTCI, Len: p.WireLen, Protocol: p.Protocol}
	if len(p.Data) >= 14 && p.LinkType == capture.LinkEthernet {
		m.Protocol = binary.BigEndian.Uint16(p.Data[12:])
	}
	return m
}

// checkCut holds that flows sees the same of a packet cut to n octets, as far as the
// length promises it.
func checkCut(t *testing.T, name string, p *capture.Packet, n uint32, length filter.Length) {
	t.Helper()
	headers := length == filter.MinimalIPv4Header || length == filter.MinimalIPv6Header || length == filter.MinimalIPv4Transport
	if length == filter.Fixed(96) || length == filter.MinimalIPv4Header && p.Network().Version == 6 {
		return
	}
	var whole, part flows.Headers
	verdict := whole.Decode(p)
	cut := *p
	cut.Data = p.Data[:min(int(n), len(p.Data))]
	if v := part.Decode(&cut); v != verdict || v == flows.OK && !headers && (part.Key != whole.Key || part.TCPFlags != whole.TCPFlags || part.Octets != whole.Octets) {
		t.Errorf("%s: cut to %d of %d octets: %v, not %v", name, n, len(p.Data), v, verdict)
	}
}

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

// tcpdump returns a program that tcpdump made.
func tcpdump(t testing.TB, expression string) []bpf.RawInstruction {
	t.Helper()
	out, err := exec.Command("tcpdump", "-y", "EN10MB", "-ddd", expression).Output()
	if err != nil {
		if os.Getenv("CI") == "" {
			t.Skip("tcpdump is not installed")
		}
		t.Fatal(err)
	}
	program, err := filter.ParseDDD(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// TestExtra counts packets with programs of tcpdump's, and with tcpdump.
func TestExtra(t *testing.T) {
	const path = "../../testdata/web.pcap"
	for _, expression := range []string{"tcp port 443", "udp", "ip6", "tcp[tcpflags] & tcp-syn != 0", "len > 500", "not tcp and not udp", "host 10.99.1.10 or greater 1000"} {
		program := tcpdump(t, expression)
		out, err := exec.Command("tcpdump", "-nr", path, "--count", expression).Output()
		if err != nil {
			t.Fatal(err)
		}
		var want int
		if _, err := fmt.Sscanf(string(out), "%d", &want); err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		for _, length := range lengths {
			_, vm := assemble(t, filter.Config{LinkType: capture.LinkEthernet, Length: length, All: true, Extra: program})
			r, err := pcap.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			got := 0
			for {
				batch, err := r.NextBatch()
				if err != nil {
					break
				}
				for _, p := range batch {
					if vm.Run(p.Data, metadata(&p)) > 0 {
						got++
					}
				}
			}
			r.Close()
			if got != want {
				t.Errorf("%q, %v: %d packets, tcpdump has %d", expression, length, got, want)
			}
		}
	}
}

// TestFarJumps puts a program before ours that its jumps cannot cross in one step.
func TestFarJumps(t *testing.T) {
	var extra []bpf.RawInstruction
	for i := range 2000 { // refuse packets whose octet 40 is 2000..., which is none
		extra = append(extra, bpf.RawInstruction{Op: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 40},
			bpf.RawInstruction{Op: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 0, Jf: 1, K: uint32(2000 + i)},
			bpf.RawInstruction{Op: unix.BPF_RET | unix.BPF_K, K: 0})
		if len(extra) > 3000 {
			break
		}
	}
	extra = append(extra, bpf.RawInstruction{Op: unix.BPF_LD | unix.BPF_IMM, K: 5}, bpf.RawInstruction{Op: unix.BPF_RET | unix.BPF_A})
	_, vm := assemble(t, filter.Config{LinkType: capture.LinkEthernet, Length: filter.MinimalIPv4Transport, Extra: extra})
	p := samples()[0].p
	if n := vm.Run(p.Data, metadata(&p)); n != 54 {
		t.Fatalf("%d octets", n)
	}
	if _, err := (filter.Config{LinkType: capture.LinkEthernet, Extra: append(extra, extra...)}).Assemble(); err == nil {
		t.Fatal("a program that the kernel does not take")
	}
}

func TestParseDDD(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "empty",
		"x":                      "line 1",
		"0\n":                    "line 1",
		"5000\n":                 "line 1",
		"1\n6 0 0\n":             "line 2",
		"1\n6 0 0 1 9\n":         "line 2",
		"2\n6 0 0 1\n":           "ends after 1 of the 2",
		"1\n6 0 0 1\n6 0 0 1":    "line 3",
		"1\n999 0 0 1\n":         "code 999",
		"2\n21 5 0 1\n6 0 0 1\n": "jumps out",
		"2\n5 0 0 1\n6 0 0 1\n":  "jumps out",
		"2\n52 0 0 0\n6 0 0 1\n": "divides by zero",
		"2\n2 0 0 16\n6 0 0 1\n": "scratch",
		"1\n0 0 0 1\n":           "return",
	} {
		if _, err := filter.ParseDDD(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
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

func TestVMAllocates(t *testing.T) {
	_, vm := assemble(t, filter.Config{LinkType: capture.LinkEthernet, Length: filter.MinimalIPv6Transport, IgnoreVLANs: true})
	p := samples()[0].p
	m := metadata(&p)
	if n := testing.AllocsPerRun(100, func() { vm.Run(p.Data, m) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// TestKernel runs the same programs in the kernel, on a socket that sees the
// samples, and compares what passes and how much of it.
func TestKernel(t *testing.T) {
	capturetest.Namespace(t)
	left, right := capturetest.Cable(t, "left", "right")
	send := capturetest.NewSender(t, left)
	for _, length := range lengths {
		for _, all := range []bool{false, true} {
			for _, extra := range []string{"", "tcp", "vlan"} {
				c := filter.Config{LinkType: capture.LinkEthernet, Length: length, All: all}
				if extra != "" {
					c.Extra = tcpdump(t, extra)
				}
				program, vm := assemble(t, c)
				fd := open(t, right, program)
				for _, s := range samples() {
					if len(s.p.Data) < 14 {
						continue // cannot be sent
					}
					if s.name == "MPLS" || strings.HasPrefix(s.name, "tag") || strings.HasPrefix(s.name, "two") || strings.HasPrefix(s.name, "three") {
						if s.name != "MPLS" {
							continue // the kernel takes the tag out: TestVLAN of afring
						}
					}
					if err := send.Send(s.p.Data); err != nil {
						t.Fatal(err)
					}
					want := min(int(vm.Run(s.p.Data, metadata(&s.p))), len(s.p.Data))
					buf := make([]byte, 2048)
					n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
					if err == unix.EAGAIN {
						n = 0
					} else if err != nil {
						t.Fatal(err)
					}
					if n != want {
						t.Errorf("%s, %v, all %v, extra %q: %d octets in the kernel, %d in the VM", s.name, length, all, extra, n, want)
					}
				}
				unix.Close(fd)
			}
		}
	}
}

func open(t *testing.T, l link.Link, program []bpf.RawInstruction) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		t.Fatal(err)
	}
	var f []unix.SockFilter
	for _, in := range program {
		f = append(f, unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K})
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: l.Index}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// FuzzParseDDD gives the parser anything; what it takes can be assembled and run.
func FuzzParseDDD(f *testing.F) {
	f.Add("1\n6 0 0 262144\n")
	f.Add("4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0\n")
	f.Add("3\n32 0 0 4294963200\n2 0 0 3\n22 0 0 0\n")
	data := samples()[0].p
	f.Fuzz(func(t *testing.T, text string) {
		program, err := filter.ParseDDD(strings.NewReader(text))
		if err != nil {
			return
		}
		own, err := filter.Config{LinkType: capture.LinkEthernet, Length: filter.MinimalIPv6Transport}.Assemble()
		if err != nil {
			t.Fatal(err)
		}
		both, err := filter.Config{LinkType: capture.LinkEthernet, Length: filter.MinimalIPv6Transport, Extra: program}.Assemble()
		if err != nil {
			if len(program) > 1000 {
				return // too long with what is ours
			}
			t.Fatal(err)
		}
		results := map[string]uint32{}
		for name, p := range map[string][]bpf.RawInstruction{"extra": program, "own": own, "both": both} {
			vm, err := filter.NewVM(p)
			if err != nil {
				return // an extension or instruction that is not simulated
			}
			results[name] = vm.Run(data.Data, metadata(&data))
		}
		if want := results["own"]; results["extra"] == 0 && results["both"] != 0 || results["extra"] != 0 && results["both"] != want {
			t.Fatalf("%v", results)
		}
	})
}

func BenchmarkVM(b *testing.B) {
	_, vm := assemble(b, filter.Config{LinkType: capture.LinkEthernet, Length: filter.MinimalIPv6Transport})
	p := samples()[0].p
	m := metadata(&p)
	b.ReportAllocs()
	for b.Loop() {
		vm.Run(p.Data, m)
	}
}

func BenchmarkAssemble(b *testing.B) {
	for b.Loop() {
		if _, err := (filter.Config{LinkType: capture.LinkEthernet, Length: filter.MinimalIPv6Transport, IgnoreVLANs: true}).Assemble(); err != nil {
			b.Fatal(err)
		}
	}
}

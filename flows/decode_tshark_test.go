package flows_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"weir/capture"
	"weir/capture/pcap"
	"weir/flows"
	"weir/internal/lack"
)

// tsharkFields is what a flow is made of, as Wireshark calls it. Each may occur
// several times in a frame that has headers within headers.
var tsharkFields = []string{
	"frame.protocols", "frame.interface_id", "frame.packet_flags_direction", "sll.pkttype",
	"vlan.id", "ieee8021ad.id",
	"ip.src", "ip.dst", "ip.proto", "ip.len",
	"ipv6.src", "ipv6.dst", "ipv6.nxt", "ipv6.plen", "ipv6.opt.jumbo",
	"ipv6.hopopts.nxt", "ipv6.routing.nxt", "ipv6.fraghdr.nxt", "ipv6.fraghdr.offset", "ipv6.dstopts.nxt", "ah.next_header",
	"tcp.srcport", "tcp.dstport", "tcp.flags", "udp.srcport", "udp.dstport", "sctp.srcport", "sctp.dstport",
	"dccp.srcport", "dccp.dstport", "icmp.type", "icmp.code", "icmpv6.type", "icmpv6.code",
}

// dissection is one frame as tshark sees it: all occurrences of each field.
type dissection map[string][]string

// first returns a field's first occurrence, that of the outermost header, or "".
func (d dissection) first(field string) string {
	if len(d[field]) == 0 {
		return ""
	}
	return d[field][0]
}

// number returns a field's first occurrence as a number, 0 if it does not occur.
func (d dissection) number(t *testing.T, field string) uint64 { return d.nth(t, field, 0) }

// nth returns a field's occurrence n, counted from 0, as a number, 0 if there is none.
func (d dissection) nth(t *testing.T, field string, n int) uint64 {
	t.Helper()
	if n >= len(d[field]) {
		return 0
	}
	v, err := strconv.ParseUint(d[field][n], 0, 64)
	if err != nil {
		t.Fatalf("tshark's %s: %v", field, err)
	}
	return v
}

// dissect has tshark take a capture apart, frame by frame: nothing is reassembled
// and no frame is read in the light of others.
func dissect(t *testing.T, path string) []dissection {
	t.Helper()
	if _, err := exec.LookPath("tshark"); err != nil {
		const what = "tshark is needed as an independent decoder: apt-get install tshark"
		lack.Of(t, what)
	}
	const separator = "|" // not in any of these fields
	args := []string{"-n", "-r", path, "-T", "fields", "-E", "occurrence=a", "-E", "aggregator=" + separator,
		"-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE",
		"-o", "tcp.desegment_tcp_streams:FALSE", "-o", "sctp.reassembly:FALSE",
		"-o", "ip.tso_support:TRUE", "-o", "ipv6.tso_support:TRUE"} // length 0 is what was captured
	for _, f := range tsharkFields {
		args = append(args, "-e", f)
	}
	cmd := exec.Command("tshark", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	// A file that ends within a packet is read up to there; that the reader does
	// so too is tested in capture/pcap.
	if err != nil && !strings.Contains(stderr.String(), "cut short") {
		t.Fatalf("%v: %v\n%s", cmd, err, stderr.String())
	}
	var frames []dissection
	pcapng := strings.HasSuffix(path, "ng")
	for line := range strings.Lines(string(out)) {
		values := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(values) != len(tsharkFields) {
			t.Fatalf("tshark said %q", line)
		}
		d := dissection{}
		for i, v := range values {
			if v != "" {
				d[tsharkFields[i]] = strings.Split(v, separator)
			}
		}
		// In pcapng custom blocks are frames to tshark, too, but of no interface.
		if !pcapng || d.first("frame.interface_id") != "" {
			frames = append(frames, d)
		}
	}
	return frames
}

// flow says what flow the frame belongs to, in the words of describe, by the rules
// of flows and the fields of tshark. below are the protocols under the outermost IP.
func (d dissection) flow(t *testing.T) (flow string, below []string) {
	t.Helper()
	stack := strings.Split(d.first("frame.protocols"), ":")
	at := slices.IndexFunc(stack, func(s string) bool { return s == "ip" || s == "ipv6" })
	if at < 0 {
		return "not IP", stack
	}
	below, version, above := stack[:at], stack[at], stack[at+1:]

	var octets uint64
	proto := d.number(t, "ip.proto")
	switch {
	case version == "ip":
		octets = d.number(t, "ip.len")
	case d.first("ipv6.opt.jumbo") != "":
		octets = d.number(t, "ipv6.opt.jumbo") + 40
	default:
		octets = d.number(t, "ipv6.plen") + 40
	}
	if version == "ipv6" {
		proto, above = d.upper(t, above)
	}

	names := map[uint64]string{1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 58: "icmpv6", 132: "sctp", 136: "udplite"}
	var source, destination, flags uint64
	if len(above) > 0 && above[0] == names[proto] {
		name := strings.TrimSuffix(above[0], "lite")
		switch name {
		case "icmp", "icmpv6":
			destination = d.number(t, name+".type")<<8 | d.number(t, name+".code")
		default:
			source, destination = d.number(t, name+".srcport"), d.number(t, name+".dstport")
		}
		if name == "tcp" {
			flags = d.number(t, "tcp.flags") & 0xff // above CWR there are reserved bits and AE
		}
	}
	return fmt.Sprintf("%s %d > %s %d proto %d flags %02x octets %d vlan %d %s",
		d.first(version+".src"), source, d.first(version+".dst"), destination, proto, flags, octets,
		d.vlan(t, below), d.direction(t)), below
}

// upper walks the IPv6 extension headers at the beginning of above, which are
// those after the outermost IPv6 header. It returns the protocol and what is left.
func (d dissection) upper(t *testing.T, above []string) (proto uint64, rest []string) {
	t.Helper()
	next := map[string]string{"ipv6.hopopts": "ipv6.hopopts.nxt", "ipv6.routing": "ipv6.routing.nxt",
		"ipv6.fraghdr": "ipv6.fraghdr.nxt", "ipv6.dstopts": "ipv6.dstopts.nxt", "ah": "ah.next_header"}
	proto = d.number(t, "ipv6.nxt")
	seen := map[string]int{}
	for len(above) > 0 && next[above[0]] != "" {
		field := next[above[0]]
		proto = d.nth(t, field, seen[field])
		seen[field]++
		if above[0] == "ipv6.fraghdr" && d.number(t, "ipv6.fraghdr.offset") != 0 {
			return proto, nil
		}
		above = above[1:]
	}
	return proto, above
}

// vlan returns the outermost VLAN id below IP.
func (d dissection) vlan(t *testing.T, below []string) uint64 {
	t.Helper()
	for _, name := range below {
		if name == "vlan" || name == "ieee8021ad" {
			return d.number(t, name+".id")
		}
	}
	return 0
}

// direction returns what epb_flags or the cooked header say.
func (d dissection) direction(t *testing.T) flows.Direction {
	t.Helper()
	switch d.number(t, "frame.packet_flags_direction") {
	case 1:
		return flows.DirectionIn
	case 2:
		return flows.DirectionOut
	}
	switch {
	case d.first("sll.pkttype") == "":
		return flows.DirectionUnknown
	case d.number(t, "sll.pkttype") == uint64(capture.PacketOutgoing):
		return flows.DirectionOut
	}
	return flows.DirectionIn
}

// describe says what Decode made of a packet.
func describe(v flows.Verdict, h *flows.Headers) string {
	switch {
	case v.IsError():
		return "error: " + v.String()
	case v != flows.OK:
		return "not IP"
	}
	k := &h.Key
	return fmt.Sprintf("%v %d > %v %d proto %d flags %02x octets %d vlan %d %v",
		k.Src(), k.SrcPort(), k.Dst(), k.DstPort(), k.Proto(), h.TCPFlags, h.Octets, k.VLAN(), k.Direction())
}

// shims are what tshark takes off before an IP header and Decode does not: the
// frame is not IP to it, counted as an unknown EtherType. flows.md names the shims
// that are stripped.
var shims = map[string]string{
	"nsh": "network service header (RFC 8300): a tunnel of service chains, not an access network's shim",
	"cmd": "Cisco MetaData, security group tags: proprietary, its format is not published",
}

// readPackets returns all packets of a capture, up to where it is damaged.
func readPackets(t testing.TB, path string) []capture.Packet {
	t.Helper()
	r, err := pcap.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all []capture.Packet
	for {
		batch, err := r.NextBatch()
		var damaged *pcap.DamagedError
		if err == io.EOF || errors.As(err, &damaged) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range batch {
			p.Data = slices.Clone(p.Data)
			all = append(all, p)
		}
	}
}

// captureFiles returns the project's captures, and those of others if they lie
// beside the repository.
func captureFiles(t testing.TB) []string {
	t.Helper()
	own, err := filepath.Glob("../testdata/*.pcap*")
	if err != nil {
		t.Fatal(err)
	}
	if len(own) == 0 {
		t.Fatal("no captures in ../testdata")
	}
	others, err := filepath.Glob("../../shared/captures/*.pcap*")
	if err != nil {
		t.Fatal(err)
	}
	return append(own, others...)
}

// TestDecodeAgainstTshark compares Decode with Wireshark's dissectors, packet by
// packet.
func TestDecodeAgainstTshark(t *testing.T) {
	for _, path := range captureFiles(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			packets, frames := readPackets(t, path), dissect(t, path)
			if len(packets) != len(frames) || len(packets) == 0 {
				t.Fatalf("%d packets, tshark has %d frames", len(packets), len(frames))
			}
			var h flows.Headers
			for i := range packets {
				v := h.Decode(&packets[i])
				got := describe(v, &h)
				want, below := frames[i].flow(t)
				if slices.ContainsFunc(below, func(s string) bool { return shims[s] != "" }) {
					if v != flows.NotIPEtherType {
						t.Errorf("packet %d: %v, should be an unknown EtherType", i+1, v)
					}
					continue
				}
				if got != want {
					t.Errorf("packet %d (%s):\ngot  %s\nwant %s", i+1, frames[i].first("frame.protocols"), got, want)
				}
			}
		})
	}
}

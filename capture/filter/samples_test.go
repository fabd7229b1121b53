package filter_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/net/bpf"

	"weir/capture"
	"weir/capture/filter"
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
	add("four tags", true, true, macs, be(0x88a8, 7, 0x8100, 8, 0x8100, 9, 0x8100, 10, 0x0800), v4opts)
	add("five tags", true, true, macs, be(0x88a8, 7, 0x8100, 8, 0x8100, 9, 0x8100, 10, 0x8100, 11, 0x86dd), v6)
	add("PPPoE compressed IPv6", true, false, macs, be(0x8864, 0x1100, 1, 250), []byte{0x57}, v6)
	add("PPPoE MPLS", true, false, macs, be(0x8864, 0x1100, 1, 250, 0x0281, 0, 0x0140), v4)
	add("tagged PPPoE", true, true, macs, be(0x8100, 7, 0x8864, 0x1100, 1, 250, 0x0021), v4)
	add("SNAP", true, false, macs, be(300), []byte{0xaa, 0xaa, 3, 0, 0, 0}, be(0x0800), v4)
	add("SNAP IPv6", true, false, macs, be(300), []byte{0xaa, 0xaa, 3, 0, 0, 0}, be(0x86dd), v6hop)
	add("SNAP tag", true, true, macs, be(300), []byte{0xaa, 0xaa, 3, 0, 0, 0}, be(0x8100, 7, 0x0800), v4)
	add("SNAP ARP", false, false, macs, be(300), []byte{0xaa, 0xaa, 3, 0, 0, 0}, be(0x0806), payload)
	add("LLC IP", true, false, macs, be(300), []byte{6, 6, 3}, v4)
	add("STP", false, false, macs, be(60), []byte{0x42, 0x42, 3}, payload)
	add("ARP", false, false, macs, be(0x0806), payload)
	add("LLDP", false, false, macs, be(0x88cc), payload)
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
	v6 := p.Network().Version == 6
	headers := length == filter.MinimalIPv4Header || length == filter.MinimalIPv6Header || length == filter.MinimalIPv4Transport && v6
	if length == filter.Fixed(96) || length == filter.MinimalIPv4Header && v6 {
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

package flows_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"weir/capture"
	"weir/flows"
)

// FuzzDecode gives Decode anything. Its seeds are the samples of decode_*_test.go
// and the first packets of each capture.
func FuzzDecode(f *testing.F) {
	add := func(p *capture.Packet) {
		f.Add(p.Data, uint32(p.LinkType), p.WireLen, p.VLANTPID, p.VLANTCI, p.GSOSize, p.GSOHeader, p.Protocol, uint8(p.Type), uint16(len(p.Data)/2))
	}
	for _, s := range samples() {
		add(&s.packet)
	}
	for _, path := range captureFiles(f) {
		packets := readPackets(f, path)
		for i := range min(len(packets), 16) {
			add(&packets[i])
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, link, wire uint32, tpid, tci, gso, header, protocol uint16, kind uint8, cut uint16) {
		p := capture.Packet{
			Data: slices.Clip(data), WireLen: wire, LinkType: capture.LinkType(link), Time: 1,
			VLANTPID: tpid, VLANTCI: tci, GSOSize: gso, GSOHeader: header, Protocol: protocol, Type: capture.PacketType(kind),
		}
		var h flows.Headers
		v := h.Decode(&p)

		for _, used := range []flows.Headers{dirty(false), dirty(true)} {
			if again := used.Decode(&p); again != v || v == flows.OK && used != h {
				t.Fatalf("after another packet %v %+v, else %v %+v", again, used, v, h)
			}
		}
		if (v == flows.ErrorLinkType) == p.LinkType.Supported() {
			t.Fatalf("link type %v: %v", p.LinkType, v)
		}
		if v.String() == "" {
			t.Fatalf("verdict %d has no name", v)
		}
		checkPrefix(t, &p, &h, v, int(cut))
		if v == flows.OK {
			checkDecoded(t, &p, &h)
		}
	})
}

// checkPrefix decodes the first cut octets of p.
func checkPrefix(t *testing.T, p *capture.Packet, whole *flows.Headers, v flows.Verdict, cut int) {
	q := *p
	q.Data = slices.Clip(p.Data[:min(cut, len(p.Data))])
	q.WireLen = max(p.WireLen, uint32(len(p.Data)))
	h := dirty(false)
	if h.Decode(&q) != flows.OK {
		return
	}
	if v != flows.OK {
		t.Fatalf("%d of %d octets are a flow, but all are %v", cut, len(p.Data), v)
	}
	if err := contradiction(&h, whole); err != "" {
		t.Fatalf("%d octets of %d: %s: %s; whole: %s", cut, len(p.Data), err, brief(flows.OK, &h), brief(v, whole))
	}
}

// checkDecoded holds h against the octets of p, without walking headers as the
// decoder does: the addresses must be there, with an IP header around them that
// has h's length, and ports behind it and within that length.
func checkDecoded(t *testing.T, p *capture.Packet, h *flows.Headers) {
	k := &h.Key
	if h.Packets == 0 || h.Octets == 0 || h.Time != p.Time {
		t.Fatalf("packets %d, octets %d, time %d", h.Packets, h.Octets, h.Time)
	}
	if k.VLAN() > 4095 || k.Direction() > flows.DirectionOut {
		t.Fatalf("VLAN %d, direction %d", k.VLAN(), k.Direction())
	}
	if p.VLANTPID != 0 && k.VLAN() != p.VLANTCI&0xfff {
		t.Fatalf("VLAN %d, the outermost is %d", k.VLAN(), p.VLANTCI&0xfff)
	}
	if p.GSOSize == 0 && h.Packets != 1 {
		t.Fatalf("%d packets without segments", h.Packets)
	}
	if p.GSOHeader != 0 && int(h.Packets) != p.Segments() {
		t.Fatalf("%d packets of %d segments", h.Packets, p.Segments())
	}
	if h.TCPFlags != 0 && k.Proto() != 6 {
		t.Fatalf("TCP flags of protocol %d", k.Proto())
	}

	// Octets as IP has them, not as segments.
	plain := *p
	plain.GSOSize = 0
	var single flows.Headers
	single.Decode(&plain)
	if single.Key != h.Key || single.TCPFlags != h.TCPFlags || single.Octets > h.Octets || single.Packets > h.Packets {
		t.Fatalf("as segments %s, as one packet %s", brief(flows.OK, h), brief(flows.OK, &single))
	}

	for at := range p.Data {
		end, ok := headerAt(p, at, &single)
		if ok && portsWithin(p.Data[at:end], k) && indifferentBehind(p, h, end) {
			return
		}
	}
	t.Fatalf("no IP packet there of which all this would be: %s", brief(flows.OK, h))
}

// headerAt reports whether an IP header of h may begin at p.Data[at:], and where
// the IP packet ends within what is captured.
func headerAt(p *capture.Packet, at int, h *flows.Headers) (end int, ok bool) {
	b := p.Data[at:]
	src, dst := h.Key.Src(), h.Key.Dst()
	stated, wire := uint64(0), uint64(max(int(p.WireLen)-at, len(b)))
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		if !bytes.Equal(b[12:16], src.AsSlice()) || !bytes.Equal(b[16:20], dst.AsSlice()) {
			return 0, false
		}
		stated = uint64(binary.BigEndian.Uint16(b[2:]))
	case len(b) >= 40 && b[0]>>4 == 6:
		s, d := h.Key.Src16(), h.Key.Dst16()
		if !bytes.Equal(b[8:24], s[:]) || !bytes.Equal(b[24:40], d[:]) {
			return 0, false
		}
		if n := uint64(binary.BigEndian.Uint16(b[4:])); n != 0 {
			stated = n + 40
		} else if b[6] == 0 && h.Octets > 0xffff+40 {
			stated = h.Octets // by a jumbo option, or else by the wire
		}
	default:
		return 0, false
	}
	if stated == 0 {
		stated = wire
	}
	return at + int(min(stated, uint64(len(b)))), stated == h.Octets
}

// portsWithin reports whether the ports in k are zero or among the octets of ip.
func portsWithin(ip []byte, k *flows.Key) bool {
	src, dst := k.SrcPort(), k.DstPort()
	switch {
	case src == 0 && dst == 0:
		return true
	case k.Proto() == 1 || k.Proto() == 58:
		return src == 0 && bytes.Contains(ip[20:], be16(dst))
	}
	return slices.Contains([]uint8{6, 17, 33, 132, 136}, k.Proto()) && bytes.Contains(ip[20:], join(be16(src), be16(dst)))
}

// indifferentBehind reports whether p decodes to h whatever lies behind the end of
// its IP packet.
func indifferentBehind(p *capture.Packet, h *flows.Headers, end int) bool {
	q := *p
	q.Data = slices.Clone(p.Data)
	for i := end; i < len(q.Data); i++ {
		q.Data[i] ^= 0xff
	}
	var other flows.Headers
	return other.Decode(&q) == flows.OK && other == *h
}

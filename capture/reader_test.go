package capture_test

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"testing"

	"weir/capture"
	"weir/capture/pcap"
)

// list is a source of given packets, in batches of at most three, with an idle tick
// before each.
type list struct {
	packets   []capture.Packet
	next      int
	tick      bool
	endless   bool
	unblocked bool
	batch     int
}

func (l *list) NextBatch() ([]capture.Packet, error) {
	if l.unblocked {
		l.unblocked = false
		return nil, capture.ErrUnblocked
	}
	if l.tick = !l.tick; l.tick && !l.endless {
		return nil, nil
	}
	if l.endless {
		l.next = 0
	}
	if l.next == len(l.packets) {
		return nil, io.EOF
	}
	n := min(max(l.batch, 3), len(l.packets)-l.next)
	l.next += n
	return l.packets[l.next-n : l.next], nil
}
func (l *list) Interfaces() []capture.Interface {
	return []capture.Interface{{Name: "test0", LinkType: capture.LinkEthernet}}
}
func (l *list) Stats() capture.Stats { return capture.Stats{Packets: uint64(l.next)} }
func (l *list) Unblock() error       { l.unblocked = true; return nil }
func (l *list) Close() error         { return nil }

func ethernet(etherType uint16, body ...byte) capture.Packet {
	data := append([]byte{11: 0, 12: byte(etherType >> 8), 13: byte(etherType)}, body...)
	return capture.Packet{Data: data, WireLen: uint32(len(data)) + 4, LinkType: capture.LinkEthernet, Type: capture.PacketHost, Time: int64(len(data))}
}

// samples has runts and lies among packets that carry IP.
func samples() []capture.Packet {
	return []capture.Packet{
		ethernet(0x0800, bytes.Repeat([]byte{0x45}, 40)...),
		ethernet(0x0800), // 14 octets that promise IP
		ethernet(0x86dd, bytes.Repeat([]byte{0x60}, 50)...),
		ethernet(0x86dd, 0x45), // of the other version
		{LinkType: capture.LinkEthernet},
		{Data: []byte{1, 2, 3}, LinkType: capture.LinkEthernet},
		ethernet(0x0806, make([]byte, 46)...),
		ethernet(0x8100, 0, 7, 0x08, 0, 0x45, 1, 2),
		{Data: []byte{0x45, 9}, LinkType: capture.LinkNone},
		{Data: []byte{0x60, 9}, LinkType: capture.LinkCooked, Protocol: 0x86dd},
		{Data: []byte{0x60, 9}, LinkType: 4711},
	}
}

// carriers are the indexes of those that carry IP, and where it begins.
var carriers = map[int]int{0: 14, 2: 14, 7: 18, 8: 0, 9: 0}

// TestReader reads the same packets by each of the calls.
func TestReader(t *testing.T) {
	packets := samples()
	calls := map[string]struct {
		ip   bool
		call func(r *capture.Reader) (data []byte, kind capture.PacketType, wire uint32, err error)
	}{
		"Next": {false, func(r *capture.Reader) ([]byte, capture.PacketType, uint32, error) {
			p, err := r.Next()
			if err != nil {
				return nil, 0, 0, err
			}
			return p.Data, p.Type, p.WireLen, nil
		}},
		"NextPacket": {false, func(r *capture.Reader) ([]byte, capture.PacketType, uint32, error) {
			var p capture.Packet
			err := r.NextPacket(&p)
			return p.Data, p.Type, p.WireLen, err
		}},
		"NextPacket in place": {false, func(r *capture.Reader) ([]byte, capture.PacketType, uint32, error) {
			p := r.NewPacket()
			err := r.NextPacket(&p)
			return p.Data, p.Type, p.WireLen, err
		}},
		"NextPacketFn": {false, func(r *capture.Reader) (data []byte, kind capture.PacketType, wire uint32, err error) {
			err = r.NextPacketFn(func(p *capture.Packet) error {
				data, kind, wire = p.Data, p.Type, p.WireLen
				return nil
			})
			return
		}},
		"NextPayload": {false, func(r *capture.Reader) ([]byte, capture.PacketType, uint32, error) { return r.NextPayload(nil) }},
		"NextPayload in place": {false, func(r *capture.Reader) ([]byte, capture.PacketType, uint32, error) {
			return r.NextPayload(make([]byte, 1500))
		}},
		"NextPayload, too small": {false, func(r *capture.Reader) ([]byte, capture.PacketType, uint32, error) {
			return r.NextPayload(make([]byte, 3))
		}},
		"NextPayloadZeroCopy": {false, (*capture.Reader).NextPayloadZeroCopy},
		"NextIPPacket":        {true, func(r *capture.Reader) ([]byte, capture.PacketType, uint32, error) { return r.NextIPPacket(nil) }},
		"NextIPPacket in place": {true, func(r *capture.Reader) ([]byte, capture.PacketType, uint32, error) {
			return r.NextIPPacket(make([]byte, 1500))
		}},
		"NextIPPacketZeroCopy": {true, (*capture.Reader).NextIPPacketZeroCopy},
	}
	for name, c := range calls {
		t.Run(name, func(t *testing.T) {
			r := capture.NewReader(&list{packets: samples()})
			skipped := uint64(0)
			for i, want := range packets {
				data := want.Data
				if at, ok := carriers[i]; c.ip && !ok {
					skipped++
					continue
				} else if c.ip {
					data = data[at:]
				}
				got, kind, wire, err := c.call(r)
				if err != nil || !bytes.Equal(got, data) || kind != want.Type || wire != want.WireLen {
					t.Fatalf("packet %d: % x, %v, %d, %v; want % x, %v, %d", i, got, kind, wire, err, data, want.Type, want.WireLen)
				}
			}
			if _, _, _, err := c.call(r); err != io.EOF {
				t.Fatalf("at the end: %v", err)
			}
			if r.Skipped() != skipped {
				t.Fatalf("%d skipped, want %d", r.Skipped(), skipped)
			}
		})
	}
}

// TestNextPacketKeepsAll holds that a copied packet is the packet, and stays.
func TestNextPacketKeepsAll(t *testing.T) {
	want := capture.Packet{Data: []byte{1, 2}, Time: 3, WireLen: 4, Interface: 5, LinkType: 6, VLANTCI: 7, VLANTPID: 8,
		GSOSize: 9, GSOHeader: 10, RxHash: 11, Protocol: 12, Type: 13}
	src := &list{packets: []capture.Packet{want}}
	var p capture.Packet
	if err := capture.NewReader(src).NextPacket(&p); err != nil {
		t.Fatal(err)
	}
	src.packets[0].Data[0] = 99
	want.Data = []byte{1, 2}
	if !bytes.Equal(p.Data, want.Data) {
		t.Fatalf("% x", p.Data)
	}
	p.Data = nil
	want.Data = nil
	if got, want := (struct{ p any }{p}), (struct{ p any }{want}); !equal(got.p.(capture.Packet), want.p.(capture.Packet)) {
		t.Fatalf("%+v, want %+v", got, want)
	}
}

func equal(a, b capture.Packet) bool {
	return a.Time == b.Time && a.WireLen == b.WireLen && a.Interface == b.Interface && a.LinkType == b.LinkType && a.VLANTCI == b.VLANTCI &&
		a.VLANTPID == b.VLANTPID && a.GSOSize == b.GSOSize && a.GSOHeader == b.GSOHeader && a.RxHash == b.RxHash && a.Protocol == b.Protocol && a.Type == b.Type
}

func TestReaderUnblockAndErrors(t *testing.T) {
	r := capture.NewReader(&list{packets: samples()})
	if l := r.Link(); l.Name != "test0" {
		t.Fatalf("link %+v", l)
	}
	if err := r.Unblock(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); !errors.Is(err, capture.ErrUnblocked) {
		t.Fatal(err)
	}
	mine := errors.New("mine")
	if err := r.NextPacketFn(func(*capture.Packet) error { return mine }); err != mine {
		t.Fatal(err)
	}
	n := 0
	for _, err := range r.Packets() {
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != len(samples())-1 {
		t.Fatalf("%d packets", n)
	}
}

func TestSegments(t *testing.T) {
	for _, c := range []struct {
		wire         uint32
		size, header uint16
		want         int
	}{
		{1514, 0, 0, 1}, {66 + 1448, 1448, 66, 1}, {66 + 1449, 1448, 66, 2}, {66 + 2*1448, 1448, 66, 2},
		{65226, 1448, 66, 45}, {178594, 1428, 86, 126}, {60, 1448, 66, 1}, {66, 1448, 66, 1}, {1000, 500, 0, 2},
	} {
		p := capture.Packet{WireLen: c.wire, GSOSize: c.size, GSOHeader: c.header}
		if got := p.Segments(); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

// TestReaderAllocates holds what each call may allocate.
func TestReaderAllocates(t *testing.T) {
	for name, c := range readerCalls {
		r := capture.NewReader(&list{packets: many(), endless: true, batch: 256})
		call := c.call(r)
		if got := testing.AllocsPerRun(1000, call); got != c.allocations {
			t.Errorf("%s: %v allocations, want %v", name, got, c.allocations)
		}
	}
}

func many() []capture.Packet {
	var m []capture.Packet
	for range 256 {
		m = append(m, ethernet(0x0800, bytes.Repeat([]byte{0x45}, 50)...))
	}
	return m
}

var sum int

// readerCalls are the calls that are measured.
var readerCalls = map[string]struct {
	allocations float64
	call        func(r *capture.Reader) func()
}{
	"Next":                {0, func(r *capture.Reader) func() { return func() { p, _ := r.Next(); sum += len(p.Data) } }},
	"NextPacketFn":        {0, func(r *capture.Reader) func() { return func() { r.NextPacketFn(add) } }},
	"NextPayloadZeroCopy": {0, func(r *capture.Reader) func() { return func() { b, _, _, _ := r.NextPayloadZeroCopy(); sum += len(b) } }},
	"NextIPPacketZeroCopy": {0, func(r *capture.Reader) func() {
		return func() { b, _, _, _ := r.NextIPPacketZeroCopy(); sum += len(b) }
	}},
	"NextPacketInPlace": {0, func(r *capture.Reader) func() { p := r.NewPacket(); return func() { r.NextPacket(&p) } }},
	"NextPayloadInPlace": {0, func(r *capture.Reader) func() {
		b := make([]byte, 2048)
		return func() { b, _, _, _ = r.NextPayload(b) }
	}},
	"NextIPPacketInPlace": {0, func(r *capture.Reader) func() {
		b := make([]byte, 2048)
		return func() { b, _, _, _ = r.NextIPPacket(b) }
	}},
	"NextPacket":   {1, func(r *capture.Reader) func() { return func() { kept = capture.Packet{}; r.NextPacket(&kept) } }},
	"NextPayload":  {1, func(r *capture.Reader) func() { return func() { kept.Data, _, _, _ = r.NextPayload(nil) } }},
	"NextIPPacket": {1, func(r *capture.Reader) func() { return func() { kept.Data, _, _, _ = r.NextIPPacket(nil) } }},
}

var kept capture.Packet

func add(p *capture.Packet) error { sum += len(p.Data); return nil }

// FuzzNetwork gives Network anything: it must not fault, and what it finds is within
// the packet and is what it says.
func FuzzNetwork(f *testing.F) {
	for _, p := range samples() {
		f.Add(p.Data, uint32(p.LinkType), p.VLANTPID, p.Protocol)
	}
	files, err := filepath.Glob("../testdata/*.pcap*")
	if err != nil || len(files) == 0 {
		f.Fatalf("%d captures, %v", len(files), err)
	}
	for _, path := range files {
		r, err := pcap.Open(path)
		if err != nil {
			f.Fatal(err)
		}
		if batch, err := r.NextBatch(); err == nil {
			for _, p := range batch[:min(len(batch), 16)] {
				f.Add(bytes.Clone(p.Data), uint32(p.LinkType), p.VLANTPID, p.Protocol)
			}
		}
		r.Close()
	}
	f.Fuzz(func(t *testing.T, data []byte, link uint32, tpid, protocol uint16) {
		p := capture.Packet{Data: data[:len(data):len(data)], LinkType: capture.LinkType(link), VLANTPID: tpid, Protocol: protocol, Type: capture.PacketUnknown}
		n := p.Network()
		ip := p.IP()
		if n.Cause != capture.OK {
			if ip != nil {
				t.Fatalf("no IP by cause %d, but % x", n.Cause, ip)
			}
			return
		}
		if n.Offset < 0 || n.Offset >= len(data) || len(ip) != len(data)-n.Offset || ip[0]>>4 != n.Version || n.Version != 4 && n.Version != 6 {
			t.Fatalf("%+v of %d octets, IP % x", n, len(data), ip)
		}
		if tpid != 0 && !n.Tagged {
			t.Fatal("the tag in the metadata is gone")
		}
	})
}

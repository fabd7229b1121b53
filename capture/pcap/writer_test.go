package pcap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"weir/capture"
)

func TestWriteAndRead(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, capture.LinkEthernet, 100)
	if err != nil {
		t.Fatal(err)
	}
	const lastTime = math.MaxUint32*1_000_000_000 + 999_999_999
	tag := func(n int, tail ...byte) []byte { return append(bytesUpTo(n), tail...) }
	for i, c := range []struct{ in, want capture.Packet }{
		{capture.Packet{Data: bytesUpTo(60), Time: 1700000000123456789, WireLen: 60}, capture.Packet{Data: bytesUpTo(60), Time: 1700000000123456789, WireLen: 60}},
		{capture.Packet{Data: bytesUpTo(100), WireLen: 1514}, capture.Packet{Data: bytesUpTo(100), WireLen: 1514}},
		{capture.Packet{Data: bytesUpTo(101), WireLen: 101}, capture.Packet{Data: bytesUpTo(100), WireLen: 101}},
		{capture.Packet{Data: bytesUpTo(20), WireLen: 3}, capture.Packet{Data: bytesUpTo(20), WireLen: 20}},
		{capture.Packet{}, capture.Packet{}},
		{capture.Packet{Time: -5}, capture.Packet{}},
		{capture.Packet{Time: lastTime}, capture.Packet{Time: lastTime}},
		{capture.Packet{Time: lastTime + 1}, capture.Packet{Time: lastTime}},
		{capture.Packet{Time: capture.MaxTime}, capture.Packet{Time: lastTime}},
		{capture.Packet{WireLen: math.MaxUint32}, capture.Packet{WireLen: math.MaxUint32}},
		{capture.Packet{Data: bytesUpTo(14), WireLen: 14, VLANTPID: 0x8100, VLANTCI: 0x2005}, capture.Packet{Data: tag(12, 0x81, 0x00, 0x20, 0x05, 13, 14), WireLen: 18}},
		{capture.Packet{Data: bytesUpTo(13), WireLen: 1514, VLANTPID: 0x8100}, capture.Packet{Data: tag(12, 0x81, 0x00, 0, 0, 13), WireLen: 1518}},
		{capture.Packet{Data: bytesUpTo(12), WireLen: 12, VLANTPID: 0x88a8}, capture.Packet{Data: tag(12, 0x88, 0xa8, 0, 0), WireLen: 16}},
		{capture.Packet{Data: bytesUpTo(98), WireLen: math.MaxUint32, VLANTPID: 0x8100, VLANTCI: 1}, capture.Packet{Data: append(tag(12, 0x81, 0, 0, 1), bytesUpTo(96)[12:]...), WireLen: math.MaxUint32}},
		{capture.Packet{Data: bytesUpTo(11), WireLen: 11, VLANTPID: 0x8100}, capture.Packet{Data: bytesUpTo(11), WireLen: 11}}, // no place for a tag
	} {
		b.Reset()
		if i == 0 {
			if w, err = NewWriter(&b, capture.LinkEthernet, 100); err != nil {
				t.Fatal(err)
			}
		} else {
			b.Write(fileHeader(binary.LittleEndian, magicNanoseconds, 100, 1))
		}
		c.in.LinkType = capture.LinkEthernet
		c.want.LinkType, c.want.Type = capture.LinkEthernet, capture.PacketUnknown
		if err := w.Write(&c.in); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		got, err := readFrom(t, &b)
		if err != io.EOF {
			t.Fatalf("%d: %v", i, err)
		}
		if d := equalPackets(got, []capture.Packet{c.want}); d != "" {
			t.Errorf("%d: %s", i, d)
		}
	}
}

// A snapshot length may end within the tag that is put back.
func TestWriteSnaplenWithinTag(t *testing.T) {
	tagged := append(bytesUpTo(12), 0x81, 0x00, 0x0f, 0xff, 13, 14, 15)
	for snaplen := 1; snaplen <= len(tagged); snaplen++ {
		var b bytes.Buffer
		w, err := NewWriter(&b, capture.LinkLoopback, uint32(snaplen))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(&capture.Packet{Data: bytesUpTo(15), WireLen: 15, LinkType: capture.LinkLoopback, VLANTPID: 0x8100, VLANTCI: 0xfff}); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		got, err := readFrom(t, &b)
		if err != io.EOF {
			t.Fatal(err)
		}
		if d := equalPackets(got, []capture.Packet{{Data: tagged[:snaplen], WireLen: 19, LinkType: capture.LinkEthernet, Type: capture.PacketUnknown}}); d != "" {
			t.Errorf("snaplen %d: %s", snaplen, d)
		}
	}
}

func TestWriteHeader(t *testing.T) {
	for _, c := range []struct {
		link    capture.LinkType
		snaplen uint32
		want    []byte
	}{
		{capture.LinkSLL2, 96, fileHeader(binary.LittleEndian, magicNanoseconds, 96, 276)},
		{capture.LinkEthernet, 0, fileHeader(binary.LittleEndian, magicNanoseconds, 262144, 1)},
		{capture.LinkNone, 1, fileHeader(binary.LittleEndian, magicNanoseconds, 1, 101)},
		{capture.LinkGRE6, 1, fileHeader(binary.LittleEndian, magicNanoseconds, 1, 101)},
		{capture.LinkLoopback, 1, fileHeader(binary.LittleEndian, magicNanoseconds, 1, 1)},
	} {
		var b bytes.Buffer
		w, err := NewWriter(&b, c.link, c.snaplen)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b.Bytes(), c.want) {
			t.Errorf("%v: got % x, want % x", c.link, b.Bytes(), c.want)
		}
	}
	if _, err := NewWriter(io.Discard, 65536, 0); err == nil || !strings.Contains(err.Error(), "65536") {
		t.Errorf("link type of 17 bits: %v", err)
	}
}

func TestWriteErrors(t *testing.T) {
	w, err := NewWriter(io.Discard, capture.LinkEthernet, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(&capture.Packet{LinkType: capture.LinkSLL}); err == nil || !strings.Contains(err.Error(), "LINUX_SLL") {
		t.Errorf("another link type: %v", err)
	}
	if err := w.Write(&capture.Packet{LinkType: capture.LinkEthernet, Data: make([]byte, maxRecord)}); err == nil || !strings.Contains(err.Error(), "16777216 bytes") {
		t.Errorf("a packet too long to be read: %v", err)
	}
	pr, pw := io.Pipe()
	cause := errors.New("no space left")
	pr.CloseWithError(cause)
	if w, err = NewWriter(pw, capture.LinkEthernet, 0); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(&capture.Packet{LinkType: capture.LinkEthernet, Data: make([]byte, 1<<20)}); !errors.Is(err, cause) {
		t.Errorf("Write: %v", err)
	}
	if err := w.Write(&capture.Packet{LinkType: capture.LinkEthernet}); !errors.Is(err, cause) {
		t.Errorf("second Write: %v", err)
	}
	if err := w.Flush(); !errors.Is(err, cause) {
		t.Errorf("Flush: %v", err)
	}
}

func TestWriteDoesNotAllocate(t *testing.T) {
	w, err := NewWriter(io.Discard, capture.LinkEthernet, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := capture.Packet{Data: bytesUpTo(200), WireLen: 200, LinkType: capture.LinkEthernet}
	if n := testing.AllocsPerRun(5000, func() {
		p.VLANTPID ^= 0x8100 // with and without a tag
		if err := w.Write(&p); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for each packet", n)
	}
}

// TestWriterCooked holds that a cooked packet is read back with its protocol and
// direction, cut within the header or not.
func TestWriterCooked(t *testing.T) {
	for _, snaplen := range []uint32{0, 20, 10} {
		var file bytes.Buffer
		w, err := NewWriter(&file, capture.LinkCooked, snaplen)
		if err != nil {
			t.Fatal(err)
		}
		ip := append([]byte{0x60}, make([]byte, 59)...)
		if err := w.Write(&capture.Packet{Data: ip, WireLen: 90, Time: 5, LinkType: capture.LinkCooked, Protocol: 0x86dd, Type: capture.PacketOutgoing}); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		r, err := NewReader(&file, "cooked")
		if err != nil {
			t.Fatal(err)
		}
		packets, err := r.NextBatch()
		if err != nil || len(packets) != 1 {
			t.Fatalf("%d packets, %v", len(packets), err)
		}
		p := packets[0]
		whole := append([]byte{0, 4, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x86, 0xdd}, ip...)
		if snaplen != 0 {
			whole = whole[:snaplen]
		}
		if !bytes.Equal(p.Data, whole) || p.WireLen != 106 || p.LinkType != capture.LinkSLL {
			t.Fatalf("snaplen %d: %+v", snaplen, p)
		}
		if n := p.Network(); snaplen == 0 && (n.Cause != capture.OK || n.Version != 6 || n.Type != capture.PacketOutgoing) {
			t.Fatalf("%+v", n)
		}
	}
}

// TestRecordLen holds that a file grows by what RecordLen says.
func TestRecordLen(t *testing.T) {
	for _, link := range []capture.LinkType{capture.LinkEthernet, capture.LinkCooked, capture.LinkNone} {
		for _, snaplen := range []uint32{0, 14, 40} {
			for _, size := range []int{0, 11, 12, 60} {
				for _, tpid := range []uint16{0, 0x8100} {
					var file bytes.Buffer
					w, err := NewWriter(&file, link, snaplen)
					if err != nil {
						t.Fatal(err)
					}
					p := capture.Packet{Data: make([]byte, size), WireLen: uint32(size), LinkType: link, VLANTPID: tpid}
					if err := w.Write(&p); err != nil {
						t.Fatal(err)
					}
					if err := w.Flush(); err != nil {
						t.Fatal(err)
					}
					if want := FileHeaderLen + w.RecordLen(&p); uint64(file.Len()) != want {
						t.Errorf("%v, snaplen %d, %d octets, tag %#x: the file has %d octets, want %d", link, snaplen, size, tpid, file.Len(), want)
					}
				}
			}
		}
	}
}

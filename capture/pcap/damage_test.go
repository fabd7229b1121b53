package pcap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"

	"weir/capture"
)

// A capture that is cut after any byte gives the packets before the cut, and then
// names where the record began that was cut.
func TestCutAnywhere(t *testing.T) {
	for _, s := range samples() {
		for n := 1; n <= len(s.content); n++ {
			got, err := readFrom(t, bytes.NewReader(s.content[:n]))
			if n < 4 {
				if !errors.Is(err, ErrNotCapture) {
					t.Fatalf("%s cut after %d bytes: %v", s.name, n, err)
				}
				continue
			}
			last, packets := 0, 0 // before the cut
			for i, end := range s.ends {
				if end <= n {
					last, packets = end, s.packetsAt[i]
				}
			}
			if d := equalPackets(got, s.packets[:packets]); d != "" {
				t.Fatalf("%s cut after %d bytes: %s", s.name, n, d)
			}
			if n == last {
				if err != io.EOF {
					t.Errorf("%s cut after %d bytes, between records: %v", s.name, n, err)
				}
				continue
			}
			var d *DamagedError
			if !errors.As(err, &d) || !errors.Is(err, io.ErrUnexpectedEOF) || d.Offset != int64(last) || d.Name != "test" {
				t.Fatalf("%s cut after %d bytes, in what begins at %d: %#v", s.name, n, last, err)
			}
		}
	}
}

// hostile are captures of one good packet, something bad, and another good packet.
// Each yields the first packet and then an error at the bad place.
func hostile() map[string]struct {
	content []byte
	offset  int
	says    string
} {
	type h = struct {
		content []byte
		offset  int
		says    string
	}
	all := map[string]h{}
	for _, o := range []byteOrder{binary.LittleEndian, binary.BigEndian} {
		for _, magic := range []uint32{magicMicroseconds, magicNanoseconds, magicModified} {
			for _, size := range []uint32{maxRecord - modifiedRecordHeaderLen + 1, 1 << 31, 1<<32 - 1, 1<<32 - 24} {
				b := fileHeader(o, magic, 0, 1)
				good := record(nil, o, 1, 2, bytesUpTo(4), 4)
				if magic == magicModified {
					good = modifiedRecord(nil, o, 1, 2, bytesUpTo(4), 4, 0, 0, 0)
				}
				b = append(b, good...)
				at := len(b)
				bad := bytes.Clone(good)
				o.PutUint32(bad[8:], size)
				b = append(append(b, bad...), good...)
				all["pcap with captured length "+fmt.Sprintf("%#x", size)+" "+fmt.Sprintf("%#x", magic)+" "+orderName(o)] = h{b, at, "captured bytes"}
			}
		}

		good := enhancedBlock(nil, o, 0, 1, bytesUpTo(4), 4, nil)
		put := func(name string, bad []byte, says string) {
			b := interfaceBlock(sectionBlock(nil, o), o, 1, 0, nil)
			b = append(b, good...)
			at := len(b)
			all["pcapng with "+name+" "+orderName(o)] = h{append(append(b, bad...), good...), at, says}
		}
		with := func(b []byte, at int, v uint32) []byte {
			b = bytes.Clone(b)
			o.PutUint32(b[at:], v)
			return b
		}
		for _, size := range []uint32{0, 1, 4, 8, 11, 13, 35, 38, 1<<32 - 1} {
			put("a packet block of length "+fmt.Sprintf("%#x", size), with(good, 4, size), "not a multiple of 4")
			put("an unknown block of length "+fmt.Sprintf("%#x", size), with(block(nil, o, 99, nil), 4, size), "not a multiple of 4")
		}
		for _, size := range []uint32{0, 12, 24, 30, 1<<32 - 1} {
			put("a section header of length "+fmt.Sprintf("%#x", size), with(sectionBlock(nil, o), 4, size), "not a multiple of 4 from 28 on")
		}
		for _, kind := range []uint32{blockEnhanced, blockPacket, blockSimple, blockInterface} {
			for _, size := range []uint32{maxRecord + 4, 1 << 31, 1<<32 - 4} {
				put("a block of type "+fmt.Sprintf("%#x", kind)+" and length "+fmt.Sprintf("%#x", size), with(with(good, 0, kind), 4, size), "is plausible")
			}
			put("a short block of type "+fmt.Sprintf("%#x", kind), block(nil, o, kind, nil), "too short")
		}
		put("a packet block that ends before its lengths", block(nil, o, blockEnhanced, make([]byte, 16)), "too short")
		for _, size := range []uint32{5, 1 << 24, 1 << 31, 1<<32 - 1, 1<<32 - 3} {
			put("captured length "+fmt.Sprintf("%#x", size), with(good, 20, size), "captured bytes in a block with room for 4")
		}
		for _, id := range []uint32{1, 1 << 16, 1 << 31, 1<<32 - 1} {
			put("interface "+fmt.Sprintf("%#x", id), with(good, 8, id), "its section has declared 1")
		}
		put("a packet block with another length at its end", with(good, len(good)-4, 0), "at its end")
		unknown := block(nil, o, 99, bytesUpTo(400))
		put("an unknown block with another length at its end", with(unknown, len(unknown)-4, 0), "at its end")
		put("a section without byte-order magic", with(sectionBlock(nil, o), 8, 0), "byte-order magic 00 00 00 00")
		version := sectionBlock(nil, o)
		o.PutUint16(version[12:], 2)
		put("a section of version 2", version, "version 2.0")
		section := sectionBlock(nil, o)
		put("a section with another length at its end", with(section, len(section)-4, 32), "at its end")
	}
	return all
}

func TestHostile(t *testing.T) {
	for name, h := range hostile() {
		got, err := readFrom(t, bytes.NewReader(h.content))
		if len(got) != 1 || !bytes.Equal(got[0].Data, bytesUpTo(4)) {
			t.Errorf("%s: got %d packets, want the one before", name, len(got))
		}
		var d *DamagedError
		if !errors.As(err, &d) || d.Offset != int64(h.offset) || !strings.Contains(d.Reason, h.says) || d.Name != "test" {
			t.Errorf("%s: got the error %v, want one at %d with %q", name, err, h.offset, h.says)
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: the error says that the capture is cut: %v", name, err)
		}
	}
}

// Packets of a section cannot be of the interfaces of the section before.
func TestSectionForgetsInterfaces(t *testing.T) {
	o := byteOrder(binary.LittleEndian)
	before := sectionBlock(interfaceBlock(sectionBlock(nil, o), o, 1, 0, nil), o)
	for name, b := range map[string][]byte{
		"enhanced": enhancedBlock(nil, o, 0, 1, nil, 0, nil),
		"obsolete": obsoleteBlock(nil, o, 0, 0, 1, nil, 0, nil),
		"simple":   simpleBlock(nil, o, 0, nil),
	} {
		got, err := readFrom(t, bytes.NewReader(append(bytes.Clone(before), b...)))
		if d := new(DamagedError); !errors.As(err, &d) || d.Offset != int64(len(before)) || !strings.Contains(d.Reason, "declared") || len(got) != 0 {
			t.Errorf("%s: %d packets, %v", name, len(got), err)
		}
	}
}

func TestTooManyInterfaces(t *testing.T) {
	o := byteOrder(binary.LittleEndian)
	var b []byte
	for range 4 {
		b = sectionBlock(b, o)
		for range maxInterfaces / 4 {
			b = interfaceBlock(b, o, 1, 0, nil)
		}
	}
	b = enhancedBlock(b, o, maxInterfaces/4-1, 0, nil, 0, nil)
	got, err := readFrom(t, bytes.NewReader(b))
	if err != io.EOF || len(got) != 1 || got[0].Interface != maxInterfaces-1 {
		t.Errorf("as many as allowed: %v, %v", got, err)
	}
	_, err = readFrom(t, bytes.NewReader(interfaceBlock(b, o, 1, 0, nil)))
	if d := new(DamagedError); !errors.As(err, &d) || d.Offset != int64(len(b)) {
		t.Errorf("one more: %v", err)
	}
}

// endless yields a start and then zeros, and counts them.
type endless struct {
	start io.Reader
	zeros int64
	limit int64
}

func (e *endless) Read(p []byte) (int, error) {
	if n, _ := e.start.Read(p); n > 0 {
		return n, nil
	}
	if e.zeros >= e.limit {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), e.limit-e.zeros)]
	clear(p)
	e.zeros += int64(len(p))
	return len(p), nil
}

// Memory grows with what arrives, up to the bound, and not with what lengths claim.
func TestMemoryBounded(t *testing.T) {
	o := byteOrder(binary.LittleEndian)
	section := interfaceBlock(sectionBlock(nil, o), o, 1, 0, nil)
	longest := fileHeader(o, magicMicroseconds, 0, 1)
	longest = append(longest, record(nil, o, 0, 0, nil, 0)...)
	o.PutUint32(longest[len(longest)-8:], maxRecord-modifiedRecordHeaderLen)
	longBlock := func(kind, size uint32) []byte {
		b := block(bytes.Clone(section), o, kind, make([]byte, 20))
		o.PutUint32(b[len(section)+4:], size)
		return b[:len(b)-4]
	}
	longSection := sectionBlock(nil, o)
	o.PutUint32(longSection[4:], 1<<32-4)
	for name, c := range map[string]struct {
		start   []byte
		zeros   int64
		most    int   // bytes of the window
		packets int   // delivered
		offset  int64 // of the damage
	}{
		"cut short after a large claim":     {longest, 10, windowSize, 0, 24},
		"largest record, cut in the middle": {longest, maxRecord / 2, maxRecord, 0, 24},
		"large packet block, cut":           {longBlock(blockEnhanced, maxRecord), 10, windowSize, 0, int64(len(section))},
		"gigabytes of an unknown block":     {longBlock(99, 1<<32-4), 3 << 30, windowSize, 0, int64(len(section))},
		"gigabytes of a section header":     {longSection[:24], 3 << 30, windowSize, 0, 0},
	} {
		r, err := NewReader(&endless{start: bytes.NewReader(c.start), limit: c.zeros}, name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readAll(t, r)
		var d *DamagedError
		if !errors.As(err, &d) || d.Offset != c.offset || !errors.Is(err, io.ErrUnexpectedEOF) || len(got) != c.packets {
			t.Errorf("%s: %d packets, %v", name, len(got), err)
		}
		if n := len(r.window.buf); n > c.most {
			t.Errorf("%s: the window grew to %d bytes, at most %d are needed", name, n, c.most)
		}
	}
}

// The largest record that is allowed can be read, and the window is no larger.
func TestLargestRecord(t *testing.T) {
	o := byteOrder(binary.LittleEndian)
	data := make([]byte, maxRecord-modifiedRecordHeaderLen)
	classic := record(fileHeader(o, magicMicroseconds, 0, 1), o, 1, 0, data, 1)
	classic = record(classic, o, 2, 0, bytesUpTo(5), 5)
	section := interfaceBlock(sectionBlock(nil, o), o, 1, 0, nil)
	section = enhancedBlock(section, o, 0, 1e6, make([]byte, maxRecord-32), 1, nil)
	section = enhancedBlock(section, o, 0, 2e6, bytesUpTo(5), 5, nil)
	for name, content := range map[string][]byte{"pcap": classic, "pcapng": section} {
		r, err := NewReader(bytes.NewReader(content), name)
		if err != nil {
			t.Fatal(err)
		}
		var sizes []int
		for {
			batch, err := r.NextBatch()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for _, p := range batch {
				sizes = append(sizes, len(p.Data))
			}
		}
		if len(sizes) != 2 || sizes[0] < maxRecord-40 || sizes[1] != 5 {
			t.Errorf("%s: packets of %d bytes", name, sizes)
		}
		if len(r.window.buf) > maxRecord {
			t.Errorf("%s: the window grew to %d bytes", name, len(r.window.buf))
		}
	}
}

// A small compressed file can be a very long capture. It must not take its memory.
func TestCompressionBomb(t *testing.T) {
	o := byteOrder(binary.LittleEndian)
	start := block(interfaceBlock(sectionBlock(nil, o), o, 1, 0, nil), o, 99, nil)
	o.PutUint32(start[len(start)-8:], 64<<20+12)
	bomb := append(start[:len(start)-4], make([]byte, 64<<20)...)
	bomb = o.AppendUint32(bomb, 64<<20+12)
	bomb = enhancedBlock(bomb, o, 0, 5, nil, 0, nil)
	for name, content := range map[string][]byte{"gzip": gzipped(t, bomb), "zstd": zstandard(t, bomb)} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := readFrom(t, bytes.NewReader(content))
		runtime.ReadMemStats(&after)
		if err != io.EOF || len(got) != 1 || got[0].Time != 5000 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
			t.Errorf("%s: %d bytes allocated for %d bytes that hold 64 MiB", name, n, len(content))
		}
	}
}

func TestDamagedErrorText(t *testing.T) {
	o := byteOrder(binary.LittleEndian)
	b := record(fileHeader(o, magicMicroseconds, 0, 1), o, 0, 0, bytesUpTo(9), 9)
	_, err := readFrom(t, bytes.NewReader(b[:45]))
	const want = "test: damaged at byte 24: the capture is cut off after 45 bytes, within the record that begins here"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// Options that do not fit their block cost nothing but the options: the block says
// where the next one begins.
func TestBadOptions(t *testing.T) {
	for _, o := range []byteOrder{binary.LittleEndian, binary.BigEndian} {
		long := o.AppendUint32(nil, 0xffffffff)
		outgoing := o.AppendUint32(nil, 2)
		b := interfaceBlock(sectionBlock(nil, o, long...), o, 1, 0, long)
		b = interfaceBlock(b, o, 1, 0, slices.Concat(
			option(o, optionResol, []byte{9, 9}), option(o, optionOffset, []byte{1}), long))
		var want []capture.Packet
		for i, opts := range [][]byte{
			long,
			slices.Concat(option(o, optionFlags, []byte{2, 2}), option(o, 77, nil)),         // too short to be flags
			slices.Concat(option(o, 77, []byte{1, 2, 3}), option(o, optionFlags, outgoing)), // no end mark
			slices.Concat(options(o), option(o, optionFlags, outgoing)),                     // behind the end mark
		} {
			b = enhancedBlock(b, o, 1, 7, bytesUpTo(i), 8, opts)
			p := capture.Packet{Data: bytesUpTo(i), Time: 7000, WireLen: 8, Interface: 1, LinkType: 1, Type: capture.PacketUnknown}
			if i == 2 {
				p.Type = capture.PacketOutgoing
			}
			want = append(want, p)
		}
		got, err := readFrom(t, bytes.NewReader(b))
		if err != io.EOF {
			t.Errorf("%s: %v", orderName(o), err)
		}
		if d := equalPackets(got, want); d != "" {
			t.Errorf("%s: %s", orderName(o), d)
		}
	}
}

package pcap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"weir/capture"
)

func TestSamples(t *testing.T) {
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			for name, in := range map[string]io.Reader{
				"at once":          bytes.NewReader(s.content),
				"byte by byte":     iotest.OneByteReader(bytes.NewReader(s.content)),
				"halves":           iotest.HalfReader(bytes.NewReader(s.content)),
				"end with data":    iotest.DataErrReader(bytes.NewReader(s.content)),
				"often nothing":    &hesitant{r: bytes.NewReader(s.content)},
				"one byte and end": iotest.DataErrReader(iotest.OneByteReader(bytes.NewReader(s.content))),
			} {
				got, err := readFrom(t, in)
				if err != io.EOF {
					t.Errorf("%s: error %v, want EOF", name, err)
				}
				if d := equalPackets(got, s.packets); d != "" {
					t.Errorf("%s: %s", name, d)
				}
			}
		})
	}
}

// hesitant returns no bytes and no error every other time.
type hesitant struct {
	r    io.Reader
	odd  bool
	only bool
}

func (h *hesitant) Read(p []byte) (int, error) {
	if h.odd = !h.odd; h.odd || h.only {
		return 0, nil
	}
	return h.r.Read(p[:min(len(p), 5)])
}

// The reserved bits above the link type mean nothing to us. tshark would refuse them.
func TestReservedBits(t *testing.T) {
	r, err := NewReader(bytes.NewReader(fileHeader(binary.BigEndian, magicMicroseconds, 0, 0x03ff0071)), "pcap")
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Interfaces()[0].LinkType; got != capture.LinkSLL {
		t.Errorf("link type %v", got)
	}
}

// Versions before 2.4 may have the lengths the other way round.
func TestOldVersions(t *testing.T) {
	o := binary.LittleEndian
	b := fileHeader(o, magicMicroseconds, 65535, 1)
	o.PutUint16(b[6:], 2)
	b = o.AppendUint32(b, 1)
	b = o.AppendUint32(b, 0)
	b = o.AppendUint32(b, 100) // on the wire
	b = o.AppendUint32(b, 4)   // captured
	b = append(b, 1, 2, 3, 4)
	b = record(b, o, 2, 0, []byte{5, 6}, 2)
	got, err := readFrom(t, bytes.NewReader(b))
	if err != io.EOF {
		t.Fatal(err)
	}
	if d := equalPackets(got, []capture.Packet{
		{Data: []byte{1, 2, 3, 4}, Time: 1e9, WireLen: 100, LinkType: 1, Type: capture.PacketUnknown},
		{Data: []byte{5, 6}, Time: 2e9, WireLen: 2, LinkType: 1, Type: capture.PacketUnknown},
	}); d != "" {
		t.Error(d)
	}
}

func TestInterfaces(t *testing.T) {
	for _, s := range sectionSamples() {
		r, err := NewReader(bytes.NewReader(s.content), s.name)
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, r)
		one := []capture.Interface{
			{Name: "", LinkType: capture.LinkEthernet},
			{Name: "eth0", LinkType: capture.LinkRaw},
			{Name: "name with an end", LinkType: capture.LinkSLL},
		}
		want := one
		if s.name == "pcapng mixed" {
			want = append(append(append([]capture.Interface(nil), one...), one...), one...)
		}
		if got := r.Interfaces(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", s.name, got, want)
		}
	}
	r, err := NewReader(bytes.NewReader(fileHeader(binary.BigEndian, magicMicroseconds, 0, 113)), "pcap")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := r.Interfaces(), []capture.Interface{{LinkType: capture.LinkSLL}}; !reflect.DeepEqual(got, want) {
		t.Errorf("pcap: got %v, want %v", got, want)
	}
}

func TestInterfaceNames(t *testing.T) {
	o := binary.LittleEndian
	for _, c := range []struct{ in, want string }{
		{strings.Repeat("x", 300), strings.Repeat("x", maxNameLen)},
		{strings.Repeat("é", 128), strings.Repeat("é", 127)}, // 256 bytes: the last letter is cut in two
		{"a\xffb", "ab"},
		{"", ""},
	} {
		b := interfaceBlock(sectionBlock(nil, o), o, 1, 0, options(o, option(o, optionName, []byte(c.in))))
		r, err := NewReader(bytes.NewReader(b), "names")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readAll(t, r); err != io.EOF {
			t.Fatal(err)
		}
		if got := r.Interfaces()[0].Name; got != c.want {
			t.Errorf("%q became %q, want %q", c.in, got, c.want)
		}
	}
}

// Packets of a pipe must come out as soon as they are in it.
func TestFollowsPipe(t *testing.T) {
	pr, pw := io.Pipe()
	defer pr.Close()
	o := binary.LittleEndian
	steps := make(chan []byte)
	go func() {
		for b := range steps {
			pw.Write(b)
		}
		pw.Close()
	}()
	go func() { steps <- fileHeader(o, magicMicroseconds, 0, 1) }()
	r, err := NewReader(pr, "pipe")
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint32(3) {
		steps <- record(nil, o, i, 0, bytesUpTo(10), 10)
		batch, err := r.NextBatch()
		if err != nil || len(batch) != 1 || batch[0].Time != int64(i)*1e9 {
			t.Fatalf("after packet %d: got %v, %v", i, batch, err)
		}
	}
	close(steps)
	if _, err := r.NextBatch(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

// More packets than a window and a batch hold, with lengths so that records lie
// across every boundary, and large ones among them.
func TestManyPackets(t *testing.T) {
	for _, large := range []bool{false, true} {
		o := binary.LittleEndian
		b := fileHeader(o, magicNanoseconds, 0, 1)
		var want []capture.Packet
		size := 1
		for i := range uint32(20000) {
			size = (size*31 + 7) % 211
			if large && i%4000 == 3999 {
				size = 3 * windowSize
			}
			data := bytes.Repeat([]byte{byte(i)}, size)
			b = record(b, o, i, i, data, uint32(size))
			want = append(want, capture.Packet{Data: data, Time: int64(i) * (1e9 + 1), WireLen: uint32(size), LinkType: 1, Type: capture.PacketUnknown})
		}
		for name, in := range map[string]io.Reader{"at once": bytes.NewReader(b), "halves": iotest.HalfReader(bytes.NewReader(b))} {
			got, err := readFrom(t, in)
			if err != io.EOF {
				t.Fatalf("%s: %v", name, err)
			}
			if d := equalPackets(got, want); d != "" {
				t.Errorf("%s: %s", name, d)
			}
		}
	}
}

func TestNoAllocationPerPacket(t *testing.T) {
	for name, content := range map[string][]byte{
		"pcap":   benchPcap(binary.LittleEndian),
		"pcapng": benchPcapng(binary.LittleEndian, options(binary.LittleEndian, option(binary.LittleEndian, optionFlags, []byte{1, 0, 0, 0}))),
	} {
		r, err := NewReader(bytes.NewReader(content), name)
		if err != nil {
			t.Fatal(err)
		}
		packets := 0
		if n := testing.AllocsPerRun(100, func() {
			batch, err := r.NextBatch()
			if err != nil {
				t.Fatal(err)
			}
			packets += len(batch)
		}); n != 0 {
			t.Errorf("%s: %v allocations for each batch", name, n)
		}
		if packets < 101*batchSize/2 {
			t.Errorf("%s: only %d packets were read", name, packets)
		}
	}
}

func TestStandardInput(t *testing.T) {
	s := classicSamples()[0]
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	defer func(old *os.File) { os.Stdin = old }(os.Stdin)
	os.Stdin = pr
	go func() {
		pw.Write(s.content)
		pw.Close()
	}()
	r, err := Open("-")
	if err != nil {
		t.Fatal(err)
	}
	got, err := readAll(t, r)
	if err != io.EOF {
		t.Error(err)
	}
	if d := equalPackets(got, s.packets); d != "" {
		t.Error(d)
	}
	if r.Size() != 0 || r.Offset() != int64(len(s.content)) {
		t.Errorf("Size %d and Offset %d, want 0 and %d", r.Size(), r.Offset(), len(s.content))
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpen(t *testing.T) {
	s := classicSamples()[0]
	path := filepath.Join(t.TempDir(), "a.pcap")
	if err := os.WriteFile(path, s.content, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Size(); got != int64(len(s.content)) {
		t.Errorf("Size is %d, want %d", got, len(s.content))
	}
	got, err := readAll(t, r)
	if d := equalPackets(got, s.packets); d != "" || err != io.EOF {
		t.Error(d, err)
	}
	if r.Offset() != r.Size() {
		t.Errorf("at the end Offset is %d and Size %d", r.Offset(), r.Size())
	}
	if err := r.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := r.NextBatch(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("NextBatch after Close: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// Offset and Size are for another goroutine; the race detector has its say here.
func TestProgress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.pcap.gz")
	if err := os.WriteFile(path, gzipped(t, benchPcap(binary.LittleEndian)), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	done, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for last := int64(0); ; {
			select {
			case <-done:
				return
			default:
			}
			offset := r.Offset()
			if offset < last || offset > r.Size() {
				t.Errorf("Offset went from %d to %d of %d", last, offset, r.Size())
			}
			last = offset
			runtime.Gosched()
		}
	}()
	packets, err := readAll(t, r)
	close(done)
	<-watched
	if err != io.EOF || len(packets) != benchPackets || r.Offset() != r.Size() {
		t.Errorf("%d packets, %v, Offset %d of %d", len(packets), err, r.Offset(), r.Size())
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := Open(dir); err == nil || err.Error() != "read "+dir+": is a directory" {
		t.Errorf("directory: %v", err)
	}
	closed := 0
	if _, err := newReader(&input{r: strings.NewReader("no capture")}, "x", func() error { closed++; return nil }); err == nil || closed != 1 {
		t.Errorf("what is no capture: %v, closed %d times", err, closed)
	}
}

func TestNotCapture(t *testing.T) {
	o := binary.LittleEndian
	odd := fileHeader(o, magicMicroseconds, 0, 1)
	odd[4] = 3
	for name, c := range map[string]struct {
		content []byte
		says    string
	}{
		"empty":                {nil, "it is empty"},
		"one byte":             {[]byte{0xd4}, `it begins with the bytes d4`},
		"text":                 {[]byte("Hello, this is a text"), `48 65 6c 6c 6f 2c 20 74 ("Hello, t")`},
		"line ends":            {[]byte("\n\r\r\nThis is a text, too"), "byte-order magic"},
		"unknown version":      {odd, "version 3.4"},
		"text in gzip":         {gzipped(t, []byte("Hello")), `("Hello")`},
		"nothing in gzip":      {gzipped(t, nil), "it is empty"},
		"text in zstd":         {zstandard(t, []byte("Hello")), `("Hello")`},
		"gzip in gzip":         {gzipped(t, gzipped(t, odd)), "gzip data compressed once more with gzip"},
		"zstd in gzip":         {gzipped(t, zstandard(t, odd)), "zstd data compressed once more with gzip"},
		"almost gzip":          {[]byte("\x1f\x8b that was not it at all"), "its header is invalid"},
		"half a magic, gzip":   {gzipped(t, []byte{0xd4, 0xc3}), "d4 c3"},
		"half a magic number":  {[]byte{0xd4, 0xc3, 0xb2}, "d4 c3 b2"},
		"half of pcapng magic": {[]byte{0x0a, 0x0d, 0x0d}, "0a 0d 0d"},
	} {
		_, err := NewReader(bytes.NewReader(c.content), "some name")
		if !errors.Is(err, ErrNotCapture) || !strings.HasPrefix(err.Error(), "some name: ") || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got the error %q, want one with %q", name, err, c.says)
		}
	}
}

// An input that fails is not a damaged capture.
func TestReadError(t *testing.T) {
	cause := errors.New("the disk is on fire")
	for _, s := range samples() {
		for _, pack := range []func(testing.TB, []byte) []byte{nil, gzipped, zstandard} {
			content := s.content
			if pack != nil {
				content = pack(t, content)
			}
			for n := range len(content) {
				if pack != nil && n%7 != 0 {
					continue // the same again
				}
				_, err := readFrom(t, io.MultiReader(bytes.NewReader(content[:n]), iotest.ErrReader(cause)))
				var d *DamagedError
				if !errors.Is(err, cause) || errors.As(err, &d) || !strings.HasPrefix(err.Error(), "read test: ") {
					t.Fatalf("%s, after %d bytes: %v", s.name, n, err)
				}
			}
		}
	}
	// A reader may say it with the last bytes, and only once.
	for _, s := range samples() {
		got, err := readFrom(t, &failsOnce{content: s.content, err: cause})
		if d := equalPackets(got, s.packets); d != "" || !errors.Is(err, cause) {
			t.Errorf("%s: %s, %v", s.name, d, err)
		}
	}
	if _, err := readFrom(t, &hesitant{only: true}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a reader that gives nothing: %v", err)
	}
}

// failsOnce returns its content and an error, then the end.
type failsOnce struct {
	content []byte
	err     error
}

func (f *failsOnce) Read(p []byte) (int, error) {
	n, err := copy(p, f.content), f.err
	if f.content = f.content[n:]; len(f.content) > 0 {
		return n, nil
	}
	f.err = io.EOF
	return n, err
}

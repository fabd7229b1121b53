package pcap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"

	"weir/capture"
)

// batchSize is how many packets NextBatch returns at most.
const batchSize = 256

// Reader reads a capture file. It is a [capture.Source]: batches are borrowed until
// the next call, and only Offset and Size may be called from other goroutines.
type Reader struct {
	name      string
	in        *input
	window    window
	format    format
	batch     [batchSize]capture.Packet
	packets   atomic.Uint64
	unblocked atomic.Bool
	err       error // what NextBatch returns from now on

	decompressor string // "gzip", "zstd" or empty
	closers      []func() error
}

var _ capture.Source = (*Reader)(nil)

// format is what differs between pcap and pcapng.
type format interface {
	// parse uses up whole records of the window and describes their packets in
	// batch. It returns their number, and the error that comes after them. Without
	// packets and error it needs the window filled.
	parse(w *window, batch []capture.Packet) (int, error)
	// unfinished returns where the record begins that the window's last bytes
	// belong to. ok is false between two records.
	unfinished(w *window) (offset int64, ok bool)
	// interfaces returns the interfaces seen so far.
	interfaces() []capture.Interface
}

// Open opens the capture file at path; "-" is standard input. Closing the reader
// closes the file, but not standard input. The error wraps [ErrNotCapture] if the
// file is no capture, and is a [*DamagedError] if it is cut off before its first
// record.
func Open(path string) (*Reader, error) {
	if path == "-" {
		return NewReader(os.Stdin, "standard input")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err // has operation, path and cause
	}
	var size int64
	if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
		size = st.Size()
	}
	return newReader(&input{r: f, size: size}, path, f.Close)
}

// NewReader reads a capture from r, which stays the caller's to close. The name
// stands for r in errors. NewReader reads up to the file header, with the errors
// of [Open].
func NewReader(r io.Reader, name string) (*Reader, error) {
	return newReader(&input{r: r}, name)
}

// newReader takes over closers also if it fails.
func newReader(in *input, name string, closers ...func() error) (*Reader, error) {
	r := &Reader{name: name, in: in, closers: closers, window: window{src: in, size: windowSize}}
	if err := r.detect(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// detect finds out the format by the first bytes, below compression if there is any.
func (r *Reader) detect() error {
	head, err := r.window.peek(4)
	if err != nil && err != io.EOF {
		return r.failed(err)
	}
	if kind := compression(head); kind != "" {
		if err := r.decompress(kind); err != nil {
			return err
		}
		head, err = r.window.peek(4)
		if err != nil && err != io.EOF {
			return r.failed(err)
		}
		if kind := compression(head); kind != "" {
			return notCapture(r.name, "it holds %s data compressed once more with %s; decompress it first", kind, r.decompressor)
		}
	}
	if len(head) == 0 {
		return notCapture(r.name, "it is empty")
	}
	if len(head) >= 4 {
		if binary.LittleEndian.Uint32(head) == blockSection {
			return r.detectSection()
		}
		if f := newClassic(head); f != nil {
			return r.classicHeader(f)
		}
	}
	head = head[:min(len(head), 8)]
	return notCapture(r.name, "it begins with the bytes % x (%q)", head, head)
}

// classicHeader reads the header of a pcap file.
func (r *Reader) classicHeader(f *classic) error {
	head, err := r.window.peek(fileHeaderLen)
	if err != nil {
		return r.failed(err)
	}
	if major, minor := f.version(head); major != 2 {
		return notCapture(r.name, "it says that it is pcap version %d.%d; only version 2 is known", major, minor)
	}
	f.readHeader(head)
	r.window.lo += fileHeaderLen
	r.format = f
	return nil
}

// detectSection makes sure that a pcapng file is one. Its magic number alone, a few
// line ends, could begin a text.
func (r *Reader) detectSection() error {
	head, err := r.window.peek(12)
	if err != nil {
		return r.failed(err)
	}
	if _, ok := sectionOrder(head); !ok {
		return notCapture(r.name, "it begins like pcapng, but its byte-order magic is % x", head[8:12])
	}
	r.format = new(sections)
	return nil
}

// NextBatch returns the next packets, at most 256. See [capture.Source] for their
// ownership. After the last packet the error is io.EOF, or a [*DamagedError], or
// that of reading the file; it comes alone and from then on always.
func (r *Reader) NextBatch() ([]capture.Packet, error) {
	if r.unblocked.Load() && r.unblocked.Swap(false) {
		return nil, fmt.Errorf("read %s: %w", r.name, capture.ErrUnblocked)
	}
	for r.err == nil {
		n, err := r.format.parse(&r.window, r.batch[:])
		if err != nil {
			r.err = r.named(err)
		}
		if n > 0 {
			r.packets.Add(uint64(n))
			return r.batch[:n], nil
		}
		if r.err == nil {
			if err := r.window.fill(); err != nil {
				r.err = r.failed(err)
			}
		}
	}
	return nil, r.err
}

// named puts the input's name into an error of a format.
func (r *Reader) named(err error) error {
	if d, ok := errors.AsType[*DamagedError](err); ok {
		d.Name = r.name
	}
	return err
}

// failed says what it means that the window could not be filled.
func (r *Reader) failed(err error) error {
	if r.in.err != nil && !errors.Is(r.in.err, io.ErrUnexpectedEOF) {
		err = r.in.err
		if p, ok := errors.AsType[*fs.PathError](err); ok {
			err = p.Err // names the same operation and file
		}
		return fmt.Errorf("read %s: %w", r.name, err)
	}
	offset, inside := r.window.offset(), len(r.window.unread()) > 0
	if r.format != nil {
		offset, inside = r.format.unfinished(&r.window)
	}
	d := &DamagedError{Name: r.name, Offset: offset, Err: io.ErrUnexpectedEOF}
	switch {
	case err == io.EOF && !inside:
		return io.EOF
	case err == io.EOF:
		d.Reason = fmt.Sprintf("the capture is cut off after %d bytes, within the record that begins here", r.window.base+int64(r.window.hi))
	case errors.Is(err, io.ErrUnexpectedEOF):
		d.Reason = "the input is cut off"
		if r.decompressor != "" {
			d.Reason = "the " + r.decompressor + " data are cut off"
		}
	case r.decompressor != "":
		d.Reason, d.Err = "the "+r.decompressor+" data are damaged", err
	default:
		return fmt.Errorf("read %s: %w", r.name, err)
	}
	return d
}

// Interfaces returns the interfaces that the file has declared up to the last
// batch. A pcap file has one, without a name. Names are cut to 255 bytes of valid
// UTF-8 and may hold control characters.
func (r *Reader) Interfaces() []capture.Interface { return r.format.interfaces() }

// Stats returns the number of packets so far. Files do not lose packets; what was
// lost when they were made is not counted here.
func (r *Reader) Stats() capture.Stats {
	n := r.packets.Load()
	return capture.Stats{Packets: n, Received: n}
}

// Unblock makes the next call of NextBatch return capture.ErrUnblocked. It does not
// interrupt a read of the input that is under way. It is safe for concurrent use.
func (r *Reader) Unblock() error {
	r.unblocked.Store(true)
	return nil
}

// Offset returns how many bytes of the input are read, compressed if it is. It runs
// ahead of the packets by what is buffered. It is safe for concurrent use.
func (r *Reader) Offset() int64 { return r.in.read.Load() }

// Size returns what Offset will be at the end, 0 if that is unknown as for standard
// input. It is safe for concurrent use.
func (r *Reader) Size() int64 { return r.in.size }

// Close closes what Open opened and frees the memory of the last batch.
func (r *Reader) Close() error {
	var errs []error
	for _, c := range r.closers {
		errs = append(errs, c())
	}
	r.closers, r.window.buf, r.window.lo, r.window.hi = nil, nil, 0, 0
	r.err = fmt.Errorf("read %s: %w", r.name, fs.ErrClosed)
	return errors.Join(errs...)
}

// input counts what is read, and keeps apart the errors of reading from those of
// decompression.
type input struct {
	r    io.Reader
	read atomic.Int64
	size int64
	err  error // other than io.EOF
}

func (in *input) Read(p []byte) (int, error) {
	n, err := in.r.Read(p)
	in.read.Add(int64(n))
	if err != nil && err != io.EOF {
		in.err = err
	}
	return n, err
}

package pcap

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxZstdWindow bounds the memory that a zstd frame may ask for. It is what the
// zstd program itself allows unless --long says otherwise (zstd(1)).
const maxZstdWindow = 128 << 20

// compression returns how data that begin with head are compressed, if they are.
func compression(head []byte) string {
	if len(head) >= 2 && head[0] == 0x1f && head[1] == 0x8b { // RFC 1952 section 2.3.1
		return "gzip"
	}
	if len(head) >= 4 {
		// RFC 8878 sections 3.1.1 and 3.1.2: a frame, or a skippable one before it.
		if m := binary.LittleEndian.Uint32(head); m == 0xfd2fb528 || m&^0xf == 0x184d2a50 {
			return "zstd"
		}
	}
	return ""
}

// decompress puts a decompressor between the input and the window, which must not
// have been used yet. The decompressor works within the calls of NextBatch: a
// goroutine of its own could still sit in a read of standard input when Close wants
// to end it.
func (r *Reader) decompress(kind string) error {
	r.decompressor = kind
	src := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(r.window.unread()), r.in), windowSize)
	var plain io.Reader
	switch kind {
	case "gzip":
		z, err := gzip.NewReader(src)
		if errors.Is(err, gzip.ErrHeader) {
			return notCapture(r.name, "it begins like gzip, but its header is invalid")
		}
		if err != nil {
			r.window = window{}
			return r.failed(eofIsCut(err))
		}
		z.Multistream(false)
		plain = gzipReader{z, src}
	case "zstd":
		z, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(maxZstdWindow), zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return fmt.Errorf("decompress %s: %w", r.name, err)
		}
		r.closers = append(r.closers, func() error { z.Close(); return nil })
		plain = zstdReader{z}
	}
	r.window = window{src: plain, size: windowSize}
	return nil
}

// gzipReader reads the members of a gzip file one after the other (RFC 1952 section
// 2.2). gzip.Reader does so, too, but takes a cut within the file name in the header
// of a later member for the end of the file.
type gzipReader struct {
	z   *gzip.Reader
	src *bufio.Reader
}

func (r gzipReader) Read(p []byte) (int, error) {
	for {
		n, err := r.z.Read(p)
		if n > 0 && err == io.EOF {
			return n, nil
		}
		if err != io.EOF {
			return n, err
		}
		if _, err := r.src.Peek(1); err != nil {
			return 0, err // io.EOF, if between two members
		}
		if err := r.z.Reset(r.src); err != nil {
			return 0, eofIsCut(err)
		}
		r.z.Multistream(false)
	}
}

// eofIsCut turns the end of the input within a member's header into what it is.
func eofIsCut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// zstdReader adds to one error what to do about it.
type zstdReader struct{ z *zstd.Decoder }

func (r zstdReader) Read(p []byte) (int, error) {
	n, err := r.z.Read(p)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		err = fmt.Errorf("%w: it needs more than %d MiB; decompress it with zstd -d --long=31 first", err, maxZstdWindow>>20)
	}
	return n, err
}

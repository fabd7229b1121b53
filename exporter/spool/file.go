package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
)

// A file holds one flush. All numbers are little-endian.
//
//	magic       8 octets, the last of them the version of the format
//	length      4 octets, of the header
//	header      what is below, varints and texts with their lengths
//	checksum    xxHash64 of all above
//	bodies      of the blocks, in order; the header has their lengths and checksums
//
// The header names tables, columns and their types, so that a file can be sent by another
// version of the program than wrote it.
var magic = [8]byte{'w', 'e', 'i', 'r', 's', 'p', 'l', 1}

const (
	headLength = len(magic) + 4
	sumLength  = 8

	// Bounds of what is believed of a file.
	maxHeader  = 16 << 20
	maxBlocks  = 1 << 14
	maxColumns = 256
	maxWidths  = 512 // of all columns of a block: a small file cannot ask for much memory
	maxText    = 1024
	// MaxRows bounds the rows of a block.
	MaxRows = 1 << 16
	// maxHeads bounds what stands before the data of a column.
	maxHeads = 64 << 20
	// maxBody bounds a body: a file may have holes, and be longer than what was written.
	maxBody = maxHeads + MaxRows*maxWidths + maxColumns*(2+maxWidth)
)

var (
	errTorn     = errors.New("the file is cut")
	errFormat   = errors.New("this is no file of a spool, or one of another version")
	errChecksum = errors.New("the checksum is wrong: the disk has changed octets")
	errContent  = errors.New("the file contradicts itself")
)

// header is what a file says of its flush.
type header struct {
	spool    uint64 // its number, random
	run      uint64 // of the process that wrote it, random
	group    uint64 // sequence of the first flush of the batch
	sequence uint64
	written  time.Time // to the millisecond
	reason   Reason    // why the other blocks are gone, if they are
	blocks   []packed
}

// packed is a block as it is stored.
type packed struct {
	table   string
	part    uint32
	insert  uint32 // which insert of the batch it is part of, table by table
	kept    bool
	rows    int
	columns []columnHeader
	length  int // of body
	sum     uint64
	body    []byte // nil if it is in a file
}

type columnHeader struct {
	name, typ string
	width     int
	head      int // length
}

// rows returns how many rows can be given up.
func (h *header) rows() (n int) {
	for i := range h.blocks {
		if !h.blocks[i].kept {
			n += h.blocks[i].rows
		}
	}
	return n
}

// size returns how long the bodies are.
func (h *header) size() (n int64) {
	for i := range h.blocks {
		n += int64(h.blocks[i].length)
	}
	return n
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// appendHeader appends all that stands before the bodies.
func appendHeader(dst []byte, h *header) []byte {
	from := len(dst)
	dst = append(dst, magic[:]...)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(dst, h.spool), h.run)
	for _, n := range []uint64{h.group, h.sequence, uint64(max(h.written.UnixMilli(), 0)), uint64(h.reason), uint64(len(h.blocks))} {
		dst = binary.AppendUvarint(dst, n)
	}
	for i := range h.blocks {
		b := &h.blocks[i]
		dst = appendText(dst, b.table)
		kept := uint64(0)
		if b.kept {
			kept = 1
		}
		for _, n := range []uint64{uint64(b.part), uint64(b.insert), kept, uint64(b.rows), uint64(b.length), uint64(len(b.columns))} {
			dst = binary.AppendUvarint(dst, n)
		}
		dst = binary.LittleEndian.AppendUint64(dst, b.sum)
		for _, c := range b.columns {
			dst = appendText(appendText(dst, c.name), c.typ)
			dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(c.width)), uint64(c.head))
		}
	}
	binary.LittleEndian.PutUint32(dst[from+len(magic):], uint32(len(dst)-from-headLength))
	return binary.LittleEndian.AppendUint64(dst, xxhash.Sum64(dst[from:]))
}

// readHeader reads the header of a file of that size, and where its bodies begin. A header
// that is whole is returned also with an error, that of a file of another size.
func readHeader(r io.ReaderAt, size int64) (h *header, bodies int64, err error) {
	var head [headLength]byte
	if size < int64(headLength) {
		return nil, 0, errTorn
	}
	if err := readAt(r, head[:], 0); err != nil {
		return nil, 0, err
	}
	if [8]byte(head[:8]) != magic {
		return nil, 0, errFormat
	}
	length := int64(binary.LittleEndian.Uint32(head[8:]))
	bodies = int64(headLength) + length + sumLength
	if length > maxHeader {
		return nil, 0, errContent
	}
	if size < bodies {
		return nil, 0, errTorn
	}
	text := make([]byte, bodies)
	if err := readAt(r, text, 0); err != nil {
		return nil, 0, err
	}
	if end := len(text) - sumLength; xxhash.Sum64(text[:end]) != binary.LittleEndian.Uint64(text[end:]) {
		return nil, 0, errChecksum
	}
	if h, err = parseHeader(text[headLength : len(text)-sumLength]); err != nil {
		return nil, 0, err
	}
	switch want := bodies + h.size(); {
	case size < want:
		return h, bodies, errTorn
	case size > want:
		return h, bodies, errContent
	}
	return h, bodies, nil
}

func readAt(r io.ReaderAt, p []byte, at int64) error {
	n, err := r.ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return errTorn
	}
	return err
}

// parser takes a header apart. After an error it yields zeroes.
type parser struct {
	text []byte
	err  error
}

func (p *parser) fail() { p.text, p.err = nil, errContent }

func (p *parser) number(most uint64) uint64 {
	n, used := binary.Uvarint(p.text)
	if used <= 0 || n > most {
		p.fail()
		return 0
	}
	p.text = p.text[used:]
	return n
}

func (p *parser) word() uint64 {
	if len(p.text) < 8 {
		p.fail()
		return 0
	}
	n := binary.LittleEndian.Uint64(p.text)
	p.text = p.text[8:]
	return n
}

func (p *parser) string() string {
	n := p.number(maxText)
	if uint64(len(p.text)) < n {
		p.fail()
		return ""
	}
	s := string(p.text[:n])
	p.text = p.text[n:]
	return s
}

func parseHeader(text []byte) (*header, error) {
	p := &parser{text: text}
	const any64, any32 = 1<<64 - 1, 1<<32 - 1
	h := &header{spool: p.word(), run: p.word(), group: p.number(any64), sequence: p.number(any64)}
	h.written = time.UnixMilli(int64(p.number(1 << 50)))
	h.reason = Reason(p.number(uint64(numReasons) - 1))
	for n := p.number(maxBlocks); n > 0 && p.err == nil; n-- {
		b := packed{table: p.string(), part: uint32(p.number(any32)), insert: uint32(p.number(any32)), kept: p.number(1) == 1,
			rows: int(p.number(MaxRows)), length: int(p.number(maxBody))}
		columns := p.number(maxColumns)
		b.sum = p.word()
		heads, widths := 0, 0
		for ; columns > 0 && p.err == nil; columns-- {
			c := columnHeader{name: p.string(), typ: p.string(), width: int(p.number(maxWidth)), head: int(p.number(maxHeads))}
			if heads, widths = heads+c.head, widths+c.width; heads > b.length || widths > maxWidths {
				p.fail()
			}
			b.columns = append(b.columns, c)
		}
		h.blocks = append(h.blocks, b)
	}
	if p.err == nil && (len(p.text) > 0 || h.group > h.sequence) {
		p.fail()
	}
	return h, p.err
}

// readBody reads the body of a block into memory that is used again.
func readBody(r io.ReaderAt, b *packed, at int64, body []byte) ([]byte, error) {
	body = slices.Grow(body[:0], b.length)[:b.length]
	if err := readAt(r, body, at); err != nil {
		return body, err
	}
	if xxhash.Sum64(body) != b.sum {
		return body, errChecksum
	}
	return body, nil
}

// unpack takes a body apart into a block, whose memory is used again.
func (b *packed) unpack(body []byte, into *Block) error {
	into.Table, into.Part, into.Kept, into.Rows = b.table, b.part, b.kept, b.rows
	for len(into.Columns) < len(b.columns) {
		into.Columns = append(into.Columns, Column{})
	}
	into.Columns = into.Columns[:len(b.columns)]
	for i, c := range b.columns {
		to := &into.Columns[i]
		to.Name, to.Type, to.Width = c.name, c.typ, c.width
		if len(body) < c.head {
			return errContent
		}
		to.Head = append(to.Head[:0], body[:c.head]...)
		body = body[c.head:]
		to.Data = to.Data[:0]
		if c.width == 0 {
			continue
		}
		n := c.width * b.rows
		if cap(to.Data) < n {
			to.Data = make([]byte, n)
		}
		to.Data = to.Data[:n]
		var err error
		if body, err = planes(to.Data, body, c.width, b.rows); err != nil {
			return err
		}
	}
	if len(body) > 0 {
		return errContent
	}
	return nil
}

// pack makes of a block what is stored.
func pack(b *Block, body []byte) (packed, error) {
	p := packed{table: b.Table, part: b.Part, kept: b.Kept, rows: b.Rows}
	if b.Rows > MaxRows || len(b.Columns) > maxColumns {
		return p, fmt.Errorf("a block of %d rows and %d columns: at most %d and %d are stored", b.Rows, len(b.Columns), MaxRows, maxColumns)
	}
	for i := range b.Columns {
		c := &b.Columns[i]
		if len(c.Data) != c.Width*b.Rows || c.Width > maxWidth || len(c.Head) > maxHeads || len(c.Name) > maxText || len(c.Type) > maxText {
			return p, fmt.Errorf("column %s of %s cannot be stored: %d octets and %d of width %d for %d rows", c.Name, b.Table, len(c.Head), len(c.Data), c.Width, b.Rows)
		}
		p.columns = append(p.columns, columnHeader{c.Name, c.Type, c.Width, len(c.Head)})
		body = append(body, c.Head...)
		if c.Width > 0 {
			body = appendPlanes(body, c.Data, c.Width)
		}
	}
	if len(body) > maxBody {
		return p, fmt.Errorf("a block of %s has %d octets: at most %d are stored", b.Table, len(body), maxBody)
	}
	p.length, p.sum, p.body = len(body), xxhash.Sum64(body), body
	return p, nil
}

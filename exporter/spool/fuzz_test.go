package spool

import (
	"bytes"
	"slices"
	"testing"
)

// FuzzFile holds that any octets are a flush or an error, never a panic and never more
// memory than their length allows.
func FuzzFile(f *testing.F) {
	flush := flushOf(f, 0, 250, 3)
	h := &header{spool: 1, run: 2, group: 3, sequence: 4, reason: Full, blocks: flush.blocks}
	whole := appendHeader(nil, h)
	for i := range h.blocks {
		whole = append(whole, h.blocks[i].body...)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(appendHeader(nil, &header{}))
	f.Fuzz(func(t *testing.T, text []byte) {
		r := bytes.NewReader(text)
		h, at, err := readHeader(r, int64(len(text)))
		if err != nil {
			return
		}
		if again := appendHeader(nil, h); !slices.Equal(again[:headLength], text[:headLength]) && len(again) > int(at) {
			t.Errorf("a header of %d octets became %d", at, len(again))
		}
		var block Block
		var body []byte
		for i := range h.blocks {
			if body, err = readBody(r, &h.blocks[i], at, body); err != nil {
				return
			}
			at += int64(h.blocks[i].length)
			if h.blocks[i].unpack(body, &block) == nil && len(block.Columns) != len(h.blocks[i].columns) {
				t.Error("columns are missing")
			}
		}
	})
}

// FuzzHeader gets past the checksum.
func FuzzHeader(f *testing.F) {
	flush := flushOf(f, 0, 250, 3)
	whole := appendHeader(nil, &header{group: 3, sequence: 4, blocks: flush.blocks})
	f.Add(whole[headLength : len(whole)-sumLength])
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := parseHeader(text)
		if err != nil {
			return
		}
		again := appendHeader(nil, h)
		h2, err := parseHeader(again[headLength : len(again)-sumLength])
		if err != nil || len(h2.blocks) != len(h.blocks) || h2.sequence != h.sequence {
			t.Errorf("%v", err)
		}
	})
}

// FuzzBlock gets past the checksums: bodies that are not what the header says.
func FuzzBlock(f *testing.F) {
	f.Add([]byte("dictionary\x00\x00\x07"), 10, 2, 5)
	f.Add(appendPlanes(nil, make([]byte, 64), 16), 0, 16, 4)
	f.Fuzz(func(t *testing.T, body []byte, head, width, rows int) {
		if head < 0 || width < 0 || width > maxWidth || rows < 0 || rows > MaxRows {
			return
		}
		p := packed{rows: rows, columns: []columnHeader{{"a", "A", width, head}, {"b", "B", 1, 0}}}
		var block Block
		if p.unpack(body, &block) == nil && len(block.Columns[0].Data) != width*rows {
			t.Errorf("%d octets for %d of %d", len(block.Columns[0].Data), rows, width)
		}
	})
}

package clickhouse

import (
	"encoding/binary"
	"slices"

	"weir/exporter/spool"
)

// Types of columns, in the server's words.
const (
	typeText   = "LowCardinality(String)"
	typeCounts = "Map(LowCardinality(String), UInt64)"
)

// builder makes a block row by row, of tables that have few. All rows have the same columns.
type builder struct {
	block   spool.Block
	columns map[string]*built
	order   []string
}

// built is a column of a builder.
type built struct {
	typ   string
	width int
	data  []byte
	dictionary
	offsets, values []byte // of a map; data are the indexes of its keys
}

// dictionary has the words of a text column; the first is the default.
type dictionary struct {
	words []string
	index map[string]uint16
}

func newDictionary() dictionary {
	return dictionary{words: []string{""}, index: map[string]uint16{"": 0}}
}

// word returns the index of a word.
func (d *dictionary) word(s string) uint16 {
	if i, ok := d.index[s]; ok {
		return i
	}
	i := uint16(len(d.words))
	d.words = append(d.words, s)
	d.index[s] = i
	return i
}

func newBuilder(table string) *builder {
	return &builder{block: spool.Block{Table: table}, columns: map[string]*built{}}
}

func (b *builder) row() { b.block.Rows++ }

func (b *builder) column(name, typ string, width int) *built {
	c := b.columns[name]
	if c == nil {
		c = &built{typ: typ, width: width}
		if typ == typeText || typ == typeCounts {
			c.dictionary = newDictionary()
		}
		b.columns[name] = c
		b.order = append(b.order, name)
	}
	return c
}

func (b *builder) uint32(name, typ string, v uint32) {
	c := b.column(name, typ, 4)
	c.data = binary.LittleEndian.AppendUint32(c.data, v)
}

func (b *builder) uint64(name, typ string, v uint64) {
	c := b.column(name, typ, 8)
	c.data = binary.LittleEndian.AppendUint64(c.data, v)
}

func (b *builder) text(name, s string) {
	c := b.column(name, typeText, 2)
	c.data = binary.LittleEndian.AppendUint16(c.data, c.word(s))
}

// counts adds a value of a map: where its keys end, the keys, the values
// (SerializationMap.cpp).
func (b *builder) counts(name string, keys []string, values []uint64) {
	c := b.column(name, typeCounts, 0)
	for i, k := range keys {
		c.data = binary.LittleEndian.AppendUint16(c.data, c.word(k))
		c.values = binary.LittleEndian.AppendUint64(c.values, values[i])
	}
	c.offsets = binary.LittleEndian.AppendUint64(c.offsets, uint64(len(c.values)/8))
}

// finish returns the block.
func (b *builder) finish() *spool.Block {
	slices.Sort(b.order) // maps have none
	for _, name := range b.order {
		c := b.columns[name]
		to := spool.Column{Name: name, Type: c.typ, Width: c.width, Data: c.data}
		switch c.typ {
		case typeText:
			to.Head = appendDictionary(nil, c.words, b.block.Rows)
		case typeCounts:
			to.Head, to.Data = c.offsets, nil
			if n := len(c.values) / 8; n > 0 {
				to.Head = append(append(appendDictionary(to.Head, c.words, n), c.data...), c.values...)
			}
		}
		b.block.Columns = append(b.block.Columns, to)
	}
	return &b.block
}

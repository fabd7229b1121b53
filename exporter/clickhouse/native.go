package clickhouse

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/cespare/xxhash/v2"

	"weir/exporter"
	"weir/exporter/spool"
	"weir/flows"
)

// rows holds records as columns in ClickHouse's native format, which is what goes
// over the wire: little-endian numbers one after the other, and dictionary
// indexes for text. The memory is kept from batch to batch.
//
// The driver's own Append takes typed slices, value by value: it looks up words,
// checks enums and converts times. Its columns also decode the native format, for
// which they copy memory, in a fifteenth of the time (BenchmarkDriver). So that is
// the way in.
type rows struct {
	columns []nativeColumn
	n       int
	filler  *filler
	head    []byte // what goes before a column's data
}

type nativeColumn struct {
	exporter.Column
	typ  string
	size int    // bytes a value
	data []byte // n values; of a dictionary, n indexes
	dictionary
}

// maxWords bounds the dictionary of a text column; its indexes have 16 bits.
const maxWords = 1 << 16

func newRows() *rows {
	r := &rows{filler: newFiller()}
	for _, c := range exporter.Select(exporter.Stored, false) {
		n := nativeColumn{Column: c, typ: columnType(c)}
		switch c.Kind {
		case exporter.Text:
			n.size, n.dictionary = 2, newDictionary()
		case exporter.Addr:
			n.size = 16
		case exporter.Time:
			n.size = 4
		case exporter.Enum:
			n.size = 1
		default:
			n.size = int(c.Bits / 8)
		}
		r.columns = append(r.columns, n)
	}
	r.reset()
	return r
}

// reset forgets the rows and keeps the memory.
func (r *rows) reset() {
	r.n = 0
	for i := range r.columns {
		c := &r.columns[i]
		c.data = c.data[:0]
		if c.index != nil {
			clear(c.index)
			c.words = append(c.words[:0], "") // the first word of a dictionary is the default
			c.index[""] = 0
		}
	}
}

// fits reports whether the batch's text still has room in the dictionaries.
func (r *rows) fits() bool {
	for i := range r.columns {
		if len(r.columns[i].words) >= maxWords {
			return false
		}
	}
	return true
}

// leastRows is how many rows there is room for at first.
const leastRows = 1 << 13

// append adds records, which are some of b's; there will be most rows at the most.
func (r *rows) append(b *flows.Batch, records []flows.Record, most int) {
	r.n += len(records)
	for i := range r.columns {
		// In few steps, for each leaves as much to the garbage collector as there was; and
		// not all at once, for the runtime clears what it gives, and an agent that sends a
		// few thousand rows at a time needs no more.
		if c := &r.columns[i]; cap(c.data) < r.n*c.size {
			room := min(max(4*cap(c.data)/c.size, leastRows), most)
			c.data = slices.Grow(c.data, max(room, r.n)*c.size-len(c.data))
		}
		r.columns[i].append(b, records)
	}
}

func (c *nativeColumn) append(b *flows.Batch, records []flows.Record) {
	d := c.data
	switch {
	case c.Kind == exporter.Text:
		d = repeat16(d, c.word(c.Text(b)), len(records))
	case c.Kind == exporter.Time:
		for i := range records {
			d = binary.LittleEndian.AppendUint32(d, exporter.Seconds(c.Time(b, &records[i])))
		}
	case c.Kind == exporter.Addr:
		for i := range records {
			a := c.Addr(&records[i])
			d = append(d, a[:]...)
		}
	case c.Kind == exporter.Int:
		for i := range records {
			d = binary.LittleEndian.AppendUint64(d, uint64(c.Int(b, &records[i])))
		}
	case c.Kind == exporter.Enum:
		for i := range records {
			d = append(d, byte(min(c.Uint(b, &records[i]), uint64(len(c.Names)-1))))
		}
	case c.size == 1:
		for i := range records {
			d = append(d, byte(c.Uint(b, &records[i])))
		}
	case c.size == 2:
		for i := range records {
			d = binary.LittleEndian.AppendUint16(d, uint16(c.Uint(b, &records[i])))
		}
	case c.size == 4:
		for i := range records {
			d = binary.LittleEndian.AppendUint32(d, uint32(c.Uint(b, &records[i])))
		}
	default:
		for i := range records {
			d = binary.LittleEndian.AppendUint64(d, c.Uint(b, &records[i]))
		}
	}
	c.data = d
}

func repeat16(dst []byte, v uint16, n int) []byte {
	for range n {
		dst = binary.LittleEndian.AppendUint16(dst, v)
	}
	return dst
}

// sum hashes exactly what is going to be sent.
func (r *rows) sum() uint64 {
	h := xxhash.New()
	var length [8]byte
	for i := range r.columns {
		c := &r.columns[i]
		binary.LittleEndian.PutUint64(length[:], uint64(len(c.data)))
		h.Write(length[:])
		h.Write(c.data)
		for _, w := range c.words {
			binary.LittleEndian.PutUint64(length[:], uint64(len(w)))
			h.Write(length[:])
			h.WriteString(w)
		}
	}
	return h.Sum64()
}

// names lists the columns for the INSERT statement.
func (r *rows) names() []string {
	names := make([]string, len(r.columns))
	for i := range r.columns {
		names[i] = r.columns[i].Name
	}
	return append(names, flowsExtras...)
}

// fill puts rows from..to into the driver's columns, which are those of names, in
// order and empty. Batch is the value of the last one.
func (r *rows) fill(into []column.Interface, from, to int, batch uint64) error {
	if len(into) != len(r.columns)+1 {
		return fmt.Errorf("server wants %d columns, not %d", len(into), len(r.columns)+1)
	}
	for i := range r.columns {
		c := &r.columns[i]
		r.head = r.head[:0]
		if c.words != nil {
			r.head = appendDictionary(r.head, c.words, to-from)
		}
		if err := r.filler.column(into[i], c.typ, c.Name, to-from, r.head, c.data[from*c.size:to*c.size]); err != nil {
			return err
		}
	}
	return r.filler.same(into[len(r.columns)], "UInt64", "batch", to-from, 8, batch)
}

// block lends the rows as a block of a spool's, until the next append or reset.
func (r *rows) block(into *spool.Block) *spool.Block {
	into.Table, into.Rows = flowsTable, r.n
	if into.Columns == nil {
		into.Columns = make([]spool.Column, len(r.columns))
	}
	for i := range r.columns {
		c, to := &r.columns[i], &into.Columns[i]
		to.Name, to.Type, to.Width, to.Data = c.Name, c.typ, c.size, c.data
		if c.words != nil {
			to.Head = appendDictionary(to.Head[:0], c.words, r.n)
		}
	}
	return into
}

// dictionaryFlags say that the indexes have 16 bits (1), and that the dictionary comes
// with them (hasAdditionalKeys, needUpdate).
const dictionaryFlags = 1 | 1<<9 | 1<<10

// appendDictionary appends what stands before the indexes of a LowCardinality
// column (SerializationLowCardinality.cpp): the version of the indexes with the
// flags that the dictionary comes with them, the dictionary, the number of rows.
func appendDictionary(dst []byte, words []string, n int) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, dictionaryFlags)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(len(words)))
	for _, w := range words {
		dst = append(binary.AppendUvarint(dst, uint64(len(w))), w...)
	}
	return binary.LittleEndian.AppendUint64(dst, uint64(n))
}

package clickhouse

import (
	"runtime"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"

	"weir/exporter/spool"
)

// blockFrom makes a block of octets: what a file could hold whose checksums are right.
func blockFrom(text []byte) *spool.Block {
	take := func(n int) []byte {
		n = min(n, len(text))
		p := text[:n:n]
		text = text[n:]
		return p
	}
	octet := func() int {
		if p := take(1); len(p) > 0 {
			return int(p[0])
		}
		return 0
	}
	types := []string{typeText, typeCounts, "UInt8", "UInt16", "UInt32", "UInt64", "Int64", "IPv6", "DateTime('UTC')", aliasTime, "Enum8('a' = 0, 'b' = 1)", "String"}
	b := &spool.Block{Table: flowsTable, Rows: octet(), Columns: []spool.Column{{Name: "records", Type: "UInt64", Width: 8}}}
	if b.Rows&1 == 0 {
		b.Table = ledgerTable
	}
	b.Reason = spool.Reason(b.Rows & 3)
	b.Rows >>= 2
	b.Columns[0].Data = make([]byte, 8*b.Rows)
	for name := 'a'; len(text) > 0 && name <= 'h'; name++ {
		c := spool.Column{Name: string(name), Type: types[octet()%len(types)]}
		c.Width = widths[c.Type]
		if c.Type[:4] == "Enum" {
			c.Width = 1
		}
		c.Head = take(octet() | octet()<<8)
		c.Data = make([]byte, c.Width*b.Rows)
		copy(c.Data, take(len(c.Data)))
		b.Columns = append(b.Columns, c)
	}
	return b
}

// drivers returns the driver's columns for a block, and for what an insert adds.
func drivers(b *spool.Block) (all []column.Interface, err error) {
	types := map[string]string{"batch": "UInt64", "spool": "UInt64", "sequence": "UInt64", "lost": "UInt64", "lost_reason": enumType(LostReasons)}
	for _, c := range b.Columns {
		types[c.Name] = c.Type
	}
	for _, name := range append(columnNames(b), extras(b.Table)...) {
		c, err := column.Type(types[name]).Column(name, &column.ServerContext{Timezone: time.UTC})
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// FuzzValidate holds that a block that validate lets pass is taken by the driver as it
// is: no panic, all its octets, as many rows as it says, and memory that is as much as
// the block's own at the most, give or take.
func FuzzValidate(f *testing.F) {
	text := appendDictionary(nil, []string{"", "word"}, 2)
	f.Add(append([]byte{2 << 2, 0, byte(len(text)), 0}, append(text, 1, 0, 0, 0)...))
	counts := append([]byte{1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}, appendDictionary(nil, []string{"", "word"}, 1)...)
	counts = append(counts, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0)
	f.Add(append([]byte{2<<2 | 1, 1, byte(len(counts)), 0}, counts...))
	f.Add([]byte{3 << 2, 7, 0, 0, 1, 2, 3, 10, 0, 0, 1, 1, 0})
	f.Add(append([]byte{0, 0, byte(len(text)), 0}, text...)) // no rows
	f.Fuzz(func(t *testing.T, text []byte) {
		b := blockFrom(text)
		if validate(b) != nil {
			return
		}
		columns, err := drivers(b)
		if err != nil {
			return // a type that no table of ours has
		}
		fill := newFiller()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err = fill.block(columns, b, 7)
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20+uint64(64*len(text)) {
			t.Errorf("%d octets took %d", len(text), grown)
		}
		if err != nil { // which is taken for one of the server's
			t.Fatal(err)
		}
		if _, err := fill.reader.ReadByte(); err == nil {
			t.Error("the driver has not read all of it")
		}
		var out proto.Buffer
		for i, c := range columns {
			if c.Rows() != b.Rows {
				t.Errorf("column %d has %d rows, not %d", i, c.Rows(), b.Rows)
			}
			c.Encode(&out)
		}
	})
}

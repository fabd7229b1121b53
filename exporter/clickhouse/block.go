package clickhouse

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"

	"weir/exporter"
	"weir/exporter/spool"
)

// filler puts columns in the native format into the driver's.
type filler struct {
	reader *proto.Reader
	source source
	head   []byte
}

func newFiller() *filler {
	f := &filler{}
	f.reader = proto.NewReader(&f.source)
	return f
}

// column puts n rows, which are head and then data, into a column of the driver's.
func (f *filler) column(into column.Interface, typ, name string, n int, head, data []byte) error {
	// What is decoded has no type of its own: the types must be equal, but that an enum may
	// have grown since a file was written.
	grown, enum := strings.CutSuffix(typ, ")")
	enum = enum && strings.HasPrefix(typ, "Enum8(") && strings.HasPrefix(string(into.Type()), grown+", ")
	if string(into.Type()) != typ && !enum {
		return fmt.Errorf("column %s: have %s, want %s", name, exporter.Escape(string(into.Type()), false), typ)
	}
	f.source = source{head, data}
	if err := into.Decode(f.reader, n); err != nil {
		f.reader = proto.NewReader(&f.source) // what it has in store is none of the next column's
		return fmt.Errorf("column %s: %w", name, err)
	}
	return nil
}

// same puts n times the same word of size octets into a column.
func (f *filler) same(into column.Interface, typ, name string, n, size int, word uint64) error {
	var value [8]byte
	binary.LittleEndian.PutUint64(value[:], word)
	f.head = f.head[:0]
	for range n {
		f.head = append(f.head, value[:size]...)
	}
	return f.column(into, typ, name, n, f.head, nil)
}

// flowsExtras and ledgerExtras are the columns that an insert adds to those of a block.
var (
	flowsExtras  = []string{"batch"}
	ledgerExtras = []string{"batch", "spool", "sequence", "lost", "lost_reason"}
)

// extras returns the columns that an insert adds.
func extras(table string) []string {
	if table == ledgerTable {
		return ledgerExtras
	}
	return flowsExtras
}

// block puts a block into the driver's columns, which are those of columnNames and then
// extras, and empty. Batch is the number of the insert.
func (f *filler) block(into []column.Interface, b *spool.Block, batch uint64) error {
	if len(into) != len(b.Columns)+len(extras(b.Table)) {
		return fmt.Errorf("server wants %d columns, not %d", len(into), len(b.Columns)+len(extras(b.Table)))
	}
	var records []byte
	for i := range b.Columns {
		c := &b.Columns[i]
		if err := f.column(into[i], c.Type, c.Name, b.Rows, c.Head, c.Data); err != nil {
			return err
		}
		if c.Name == "records" {
			records = c.Data
		}
	}
	into = into[len(b.Columns):]
	if err := f.same(into[0], "UInt64", "batch", b.Rows, 8, batch); err != nil || b.Table != ledgerTable {
		return err
	}
	if b.Reason == spool.None {
		records = make([]byte, len(records))
	}
	return errors.Join(
		f.same(into[1], "UInt64", "spool", b.Rows, 8, b.Spool),
		f.same(into[2], "UInt64", "sequence", b.Rows, 8, b.Sequence),
		f.column(into[3], "UInt64", "lost", b.Rows, records, nil), // all of them
		f.same(into[4], enumType(LostReasons), "lost_reason", b.Rows, 1, uint64(b.Reason)))
}

// widths are the octets of a value of each type that a block may have.
var widths = map[string]int{
	"UInt8": 1, "UInt16": 2, "UInt32": 4, "UInt64": 8, "Int64": 8, "IPv6": 16, "DateTime('UTC')": 4, aliasTime: 8,
	typeText: 2, typeCounts: 0,
}

var columnName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// validate holds that a block, which may come from a file that somebody else has written,
// is one that this program could have made: its names become part of a statement, and
// the driver believes the lengths in it.
func validate(b *spool.Block) error {
	if b.Table != flowsTable && b.Table != ledgerTable {
		return errors.New("it is for no table of ours")
	}
	if b.Rows == 0 {
		return errors.New("it has no rows")
	}
	seen := map[string]bool{}
	for i := range b.Columns {
		c := &b.Columns[i]
		width, ok := widths[c.Type]
		if strings.HasPrefix(c.Type, "Enum8(") && len(c.Type) < 1000 {
			width, ok = 1, true
		}
		switch {
		case !columnName.MatchString(c.Name) || seen[c.Name]:
			return errors.New("a column has no name that could be ours")
		case !ok || c.Width != width || len(c.Data) != width*b.Rows:
			return fmt.Errorf("column %s has a type that is not ours, or another width", c.Name)
		}
		seen[c.Name] = true
		rest := c.Head
		var err error
		switch c.Type {
		case typeText:
			rest, err = checkDictionary(rest, b.Rows, c.Data)
		case typeCounts:
			rest, err = checkCounts(rest, b.Rows)
		default:
			if names := strings.Count(c.Type, " = "); names > 0 && len(c.Data) > 0 && int(slices.Max(c.Data)) >= names {
				err = errValue // of an enum
			}
		}
		if err == nil && len(rest) > 0 {
			err = errValue
		}
		if err != nil {
			return fmt.Errorf("column %s: %w", c.Name, err)
		}
	}
	if b.Table == ledgerTable && !seen["records"] {
		return errors.New("the ledger has no records")
	}
	return nil
}

var errValue = errors.New("a value is not as the type has it")

// checkDictionary checks what stands before the indexes of a text column, and the indexes,
// and returns what follows the dictionary.
func checkDictionary(head []byte, rows int, indexes []byte) ([]byte, error) {
	if len(head) < 16 || binary.LittleEndian.Uint64(head) != dictionaryFlags {
		return nil, errValue
	}
	words := binary.LittleEndian.Uint64(head[8:])
	head = head[16:]
	if words > maxWords {
		return nil, errValue
	}
	for range words {
		n, used := binary.Uvarint(head)
		if used <= 0 || n > uint64(len(head)-used) {
			return nil, errValue
		}
		head = head[used+int(n):]
	}
	if len(head) < 8 || binary.LittleEndian.Uint64(head) != uint64(rows) || len(indexes) != 2*rows {
		return nil, errValue
	}
	for ; len(indexes) > 0; indexes = indexes[2:] {
		if uint64(binary.LittleEndian.Uint16(indexes)) >= words {
			return nil, errValue
		}
	}
	return head[8:], nil
}

// checkCounts checks a map column, and returns what follows it.
func checkCounts(head []byte, rows int) ([]byte, error) {
	total := uint64(0)
	if len(head) < 8*rows {
		return nil, errValue
	}
	for range rows {
		end := binary.LittleEndian.Uint64(head)
		if end < total || end > maxWords {
			return nil, errValue
		}
		total, head = end, head[8:]
	}
	n := int(total)
	if n == 0 {
		return head, nil
	}
	if len(head) < 10*n {
		return nil, errValue
	}
	values := len(head) - 8*n
	rest, err := checkDictionary(head[:values-2*n], n, head[values-2*n:values])
	if err != nil || len(rest) > 0 {
		return nil, errValue
	}
	return nil, nil
}

// source is what the driver's columns read from: one slice after the other.
type source [2][]byte

func (s *source) Read(p []byte) (int, error) {
	for i := range s {
		if len(s[i]) > 0 {
			n := copy(p, s[i])
			s[i] = s[i][n:]
			return n, nil
		}
	}
	return 0, io.EOF
}

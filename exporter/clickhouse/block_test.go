package clickhouse

import (
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
)

// A file that an older version of the program has written is sent into a table whose enum
// has grown since, and into none whose types are others.
func TestOlderTypes(t *testing.T) {
	const old = "Enum8('a' = 0, 'b' = 1)"
	for have, fits := range map[column.Type]bool{
		old:                                 true,
		"Enum8('a' = 0, 'b' = 1, 'c' = 2)":  true,
		"Enum8('a' = 0)":                    false,
		"Enum8('a' = 0, 'c' = 1, 'b' = 2)":  false,
		"Enum8('a' = 0, 'b' = 10, 'c' = 1)": false,
		"UInt8":                             false,
	} {
		c, err := have.Column("c", &column.ServerContext{Timezone: time.UTC})
		if err != nil {
			t.Fatal(err)
		}
		if err := newFiller().column(c, old, "c", 2, nil, []byte{1, 0}); (err == nil) != fits {
			t.Errorf("%s: %v", have, err)
		} else if fits && (c.Rows() != 2 || c.Row(0, false) != "b") {
			t.Errorf("%s: %d rows, %v", have, c.Rows(), c.Row(0, false))
		}
	}
	c, err := column.Type("UInt16").Column("c", &column.ServerContext{Timezone: time.UTC})
	if err != nil {
		t.Fatal(err)
	}
	if err := newFiller().column(c, "UInt8", "c", 2, nil, []byte{1, 0}); err == nil {
		t.Error("UInt8 goes into UInt16")
	}
}

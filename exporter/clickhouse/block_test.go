package clickhouse

import (
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
)

// What a column leaves unread is an error, and not the beginning of the next column.
func TestColumnIsReadToTheEnd(t *testing.T) {
	c, err := column.Type("UInt16").Column("c", &column.ServerContext{Timezone: time.UTC})
	if err != nil {
		t.Fatal(err)
	}
	f := newFiller()
	if err := f.column(c, "UInt16", "c", 2, nil, []byte{1, 0, 2, 0, 3}); err == nil {
		t.Error("five octets are two values of two")
	}
	if err := f.column(c, "UInt16", "c", 2, []byte{1, 0}, []byte{2, 0}); err != nil {
		t.Error(err)
	}
}

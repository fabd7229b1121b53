package clickhouse

import (
	"testing"

	"weir/flows"
)

func TestNoAllocationPerRow(t *testing.T) {
	batch := batchOf(day, records(1000, day, 1))
	r := newRows()
	fill := func() {
		r.reset()
		r.append(batch, batch.Records, len(batch.Records))
	}
	fill()
	if n := testing.AllocsPerRun(10, fill); n != 0 {
		t.Errorf("%v allocations for 1000 rows", n)
	}
}

// The token of a batch stands for exactly its rows.
func TestSumTellsRowsApart(t *testing.T) {
	sum := func(change func(*flows.Batch)) uint64 {
		b := batchOf(day, records(3, day, 1))
		change(b)
		r := newRows()
		r.append(b, b.Records, len(b.Records))
		return r.sum()
	}
	same := sum(func(*flows.Batch) {})
	if same != sum(func(*flows.Batch) {}) {
		t.Fatal("the same rows have two sums")
	}
	for name, change := range map[string]func(*flows.Batch){
		"host":      func(b *flows.Batch) { b.Host = "h2" },
		"interface": func(b *flows.Batch) { b.Interface = "eth1" },
		"swapped":   func(b *flows.Batch) { b.Host, b.Interface = b.Interface, b.Host },
		"order":     func(b *flows.Batch) { b.Records[0], b.Records[1] = b.Records[1], b.Records[0] },
		"fewer":     func(b *flows.Batch) { b.Records = b.Records[:2] },
		"counter":   func(b *flows.Batch) { b.Records[2].Reverse.Octets++ },
		"start":     func(b *flows.Batch) { b.Start += 1e9; b.End += 1e9 },
		"end":       func(b *flows.Batch) { b.Records[1].EndReason = flows.EndIdle },
	} {
		if sum(change) == same {
			t.Errorf("%s: other rows have the same sum", name)
		}
	}
}

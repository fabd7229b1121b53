package clickhouse

import (
	"context"
	"fmt"
	"testing"
	"time"

	"weir/flows"
)

// sums returns what each table of the chain holds of the flows.
func (a admin) sums(t testing.TB) map[string]string {
	t.Helper()
	out := map[string]string{}
	for table, records := range map[string]string{flowsTable: "count()", minuteTable: "sum(records)", hourTable: "sum(records)"} {
		out[table] = a.one(t, "("+records+", sum(packets), sum(bytes), sum(reverse_packets), sum(reverse_bytes))", a.table(table))
	}
	return out
}

// agree fails the test unless all tables hold the same number of records, and all of them what flows does.
func (a admin) agree(t testing.TB, records int) {
	t.Helper()
	sums := a.sums(t)
	if got := a.one(t, "count()", a.table(flowsTable)); got != fmt.Sprint(records) || sums[minuteTable] != sums[flowsTable] || sums[hourTable] != sums[flowsTable] {
		t.Errorf("want %d records in each table, have %v", records, sums)
	}
}

func batchesOf(n int, step time.Duration) (out []*flows.Batch, total int) {
	for i := range n {
		start := day.Add(23*time.Hour + time.Duration(i)*step)
		out = append(out, batchOf(start, records(500, start, uint64(i))))
		total += 500
	}
	return out, total
}

// The roll-ups hold what flows does, by minute and hour, with the addresses.
func TestRollups(t *testing.T) {
	o := applied(t)
	batches, total := batchesOf(40, 5*time.Minute) // over midnight
	send(t, o, SinkOptions{}, batches...)
	a := dial(t, o)
	defer a.close()
	a.agree(t, total)
	for table, start := range map[string]string{minuteTable: "toStartOfMinute", hourTable: "toStartOfHour"} {
		const list = "host, iface, direction, vlan, proto, src_ip, dst_ip"
		want := a.one(t, "groupBitXor(cityHash64(*))", "(SELECT "+start+"(ts) AS start, "+list+", dst_port, sum(bytes), count() FROM "+a.table(flowsTable)+" GROUP BY ALL)")
		if got := a.one(t, "groupBitXor(cityHash64(*))", "(SELECT ts, "+list+", service_port, sum(bytes), sum(records) FROM "+a.table(table)+" GROUP BY ALL)"); got != want {
			t.Errorf("%s is not what flows sums up to", table)
		}
	}
}

// An insert that is sent again under its token counts once in each table of the chain,
// whatever part of it was stored before.
func TestRollupsCountOnce(t *testing.T) {
	for _, refuses := range []string{"", flowsTable, minuteTable, hourTable} {
		t.Run("refused by "+refuses, func(t *testing.T) {
			o := applied(t)
			a := dial(t, o)
			defer a.close()
			batches, total := batchesOf(40, 5*time.Minute)
			so := SinkOptions{Token: "chain", MaxRows: 7000}
			if refuses != "" {
				// A part: what is stored of the others is up to the order that the server takes.
				a.run(t, "ALTER TABLE "+a.table(refuses)+" ADD CONSTRAINT no CHECK ts < '2026-01-03 00:30:00'")
				s := newSink(t, o, so)
				var err error
				for _, b := range batches {
					if err = s.Write(context.Background(), b); err != nil {
						break
					}
				}
				if cerr := s.Close(context.Background()); err == nil && cerr == nil {
					t.Fatal("the constraint held nothing up")
				}
				a.run(t, "ALTER TABLE "+a.table(refuses)+" DROP CONSTRAINT no")
			}
			for range 2 {
				send(t, o, so, batches...)
				a.agree(t, total)
			}
		})
	}
}

// A day of flows_1h can be made anew of flows_1m, as often as one likes.
func TestBackfill(t *testing.T) {
	o := applied(t)
	a := dial(t, o)
	defer a.close()
	batches, total := batchesOf(40, 5*time.Minute)
	send(t, o, SinkOptions{}, batches...)
	for _, before := range []string{"", "TRUNCATE TABLE " + a.table(hourTable)} {
		if before != "" {
			a.run(t, before)
		}
		for range 2 {
			for i := range 2 {
				for _, statement := range (layout{db: o.Database}).backfill(day.AddDate(0, 0, i).Format(time.DateOnly)) {
					a.run(t, statement)
				}
			}
			a.agree(t, total)
		}
	}
}

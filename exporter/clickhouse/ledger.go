package clickhouse

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"

	"weir/exporter"
	"weir/exporter/spool"
	"weir/flows"
)

// ledgerRow is a row of ledger but for what only the insert knows.
type ledgerRow struct {
	host, iface string
	ts          uint32
	intervalMS  uint64
	flows.Ledger
}

func newLedgerRow(b *flows.Batch) ledgerRow {
	return ledgerRow{host: b.Host, iface: b.Interface, ts: exporter.Seconds(b.Start),
		intervalMS: uint64(max(b.End-b.Start, 0) / int64(time.Millisecond)), Ledger: *b.Ledger}
}

// causes returns the packets that were not metered, by cause, where there were any, in the
// order of the causes.
func (l *ledgerRow) causes(errors bool) (names []string, counts []uint64) {
	for v := flows.Verdict(1); int(v) < flows.NumVerdicts; v++ {
		if n := l.Causes[v]; n > 0 && v.IsError() == errors {
			names, counts = append(names, v.String()), append(counts, n)
		}
	}
	return names, counts
}

// origin is who made the rows of a ledger: the version of the program and, of an agent, when
// it began and the kernel's name for the boot of its host.
type origin struct {
	version string
	run     time.Time
	bootID  string
}

// ledgerBlock returns the rows as columns.
func ledgerBlock(rows []ledgerRow, o origin) *spool.Block {
	b := newBuilder(ledgerTable)
	b.block.Kept = true
	for i := range rows {
		l := &rows[i]
		b.row()
		b.uint32("ts", "DateTime('UTC')", l.ts)
		b.text("host", l.host)
		b.text("iface", l.iface)
		for _, c := range []struct {
			name string
			n    uint64
		}{
			{"interval_ms", l.intervalMS}, {"records", l.Records}, {"packets", l.Packets}, {"metered", l.Metered}, {"octets", l.Octets},
			{"overflow", l.Overflow}, {"drops", l.Drops}, {"freezes", l.Freezes},
			{"nic_packets_in", l.NIC.PacketsIn}, {"nic_packets_out", l.NIC.PacketsOut}, {"nic_octets_in", l.NIC.OctetsIn},
			{"nic_octets_out", l.NIC.OctetsOut}, {"nic_drops_in", l.NIC.DropsIn}, {"nic_drops_out", l.NIC.DropsOut},
		} {
			b.uint64(c.name, "UInt64", c.n)
		}
		for name, errors := range map[string]bool{"not_ip": false, "decode_errors": true} {
			names, counts := l.causes(errors)
			b.counts(name, names, counts)
		}
		b.text("version", o.version)
		b.uint64("run", aliasTime, uint64(max(o.run.UnixMilli(), 0)))
		b.text("boot_id", o.bootID)
	}
	return b.finish()
}

// sumBlock hashes all that the rows hold.
func sumBlock(b *spool.Block) uint64 {
	h := xxhash.New()
	var length [8]byte
	for i := range b.Columns {
		for _, p := range [][]byte{b.Columns[i].Head, b.Columns[i].Data} {
			binary.LittleEndian.PutUint64(length[:], uint64(len(p)))
			h.Write(length[:])
			h.Write(p)
		}
	}
	return h.Sum64()
}

// sendLedgers inserts the ledger rows of a flight.
func (s *Sink) sendLedgers(ctx context.Context, f *flight, block *spool.Block, token string) error {
	names := append(columnNames(block), ledgerExtras...)
	batch, err := s.conn.PrepareBatch(insertContext(ctx, token), s.insertStatement(ledgerTable, names))
	if err != nil {
		return s.insertError(ctx, ledgerTable, err)
	}
	defer batch.Abort() // does nothing once sent
	if err := f.rows.filler.block(batch.Columns(), block, f.id); err != nil {
		return s.insertError(ctx, ledgerTable, err)
	}
	return s.insertError(ctx, ledgerTable, batch.Send())
}

func columnNames(b *spool.Block) (names []string) {
	for i := range b.Columns {
		names = append(names, b.Columns[i].Name)
	}
	return names
}

func (s *server) insertStatement(table string, names []string) string {
	sql := fmt.Sprintf("INSERT INTO %s (", s.table(table))
	for i, n := range names {
		if i > 0 {
			sql += ", "
		}
		sql += n
	}
	return sql + ")"
}

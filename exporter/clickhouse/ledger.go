package clickhouse

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"

	"weir/exporter"
	"weir/flows"
)

// ledgerRow is a row of ledger but for what is the same in the whole insert.
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

// sumLedgers hashes all that the rows hold.
func sumLedgers(ls []ledgerRow) uint64 {
	h := xxhash.New()
	var word [8]byte
	put := func(ns ...uint64) {
		for _, n := range ns {
			binary.LittleEndian.PutUint64(word[:], n)
			h.Write(word[:])
		}
	}
	for i := range ls {
		l := &ls[i]
		for _, s := range []string{l.host, l.iface} {
			put(uint64(len(s)))
			h.WriteString(s)
		}
		put(uint64(l.ts), l.intervalMS, l.Packets, l.Metered, l.Octets, l.Overflow, l.Drops, l.Freezes, l.Records)
		put(l.Causes[:]...)
		put(l.NIC.PacketsIn, l.NIC.PacketsOut, l.NIC.OctetsIn, l.NIC.OctetsOut, l.NIC.DropsIn, l.NIC.DropsOut)
	}
	return h.Sum64()
}

// causes returns the packets that were not metered, by cause, where there were any.
func (l *ledgerRow) causes(errors bool) map[string]uint64 {
	m := map[string]uint64{}
	for v := flows.Verdict(1); int(v) < flows.NumVerdicts; v++ {
		if n := l.Causes[v]; n > 0 && v.IsError() == errors {
			m[v.String()] = n
		}
	}
	return m
}

// sendLedgers inserts row by row: there is one for an interval, not for a flow.
func (s *Sink) sendLedgers(ctx context.Context, f *flight, token string) error {
	insert := fmt.Sprintf("INSERT INTO %s (ts, host, iface, interval_ms, batch, records, packets, metered, octets, overflow, "+
		"not_ip, decode_errors, drops, freezes, version, run, boot_id, nic_packets_in, nic_packets_out, nic_octets_in, nic_octets_out, "+
		"nic_drops_in, nic_drops_out)", s.table(ledgerTable))
	batch, err := s.conn.PrepareBatch(insertContext(ctx, token), insert)
	if err != nil {
		return s.insertError(ctx, ledgerTable, err)
	}
	defer batch.Abort() // does nothing once sent
	for i := range f.ledgers {
		l := &f.ledgers[i]
		if err := batch.Append(int64(l.ts), l.host, l.iface, l.intervalMS, f.id, l.Records, l.Packets, l.Metered, l.Octets, l.Overflow,
			l.causes(false), l.causes(true), l.Drops, l.Freezes, s.options.Version, s.options.Run, s.options.BootID,
			l.NIC.PacketsIn, l.NIC.PacketsOut, l.NIC.OctetsIn, l.NIC.OctetsOut, l.NIC.DropsIn, l.NIC.DropsOut); err != nil {
			return s.insertError(ctx, ledgerTable, err)
		}
	}
	return s.insertError(ctx, ledgerTable, batch.Send())
}

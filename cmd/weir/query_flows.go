package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/exporter"
	"weir/exporter/clickhouse"
	"weir/exporter/jsonl"
	"weir/exporter/table"
	"weir/flows"
)

// flowsQuery asks for rows of flows as they are.
type flowsQuery struct{ query }

func newFlowsCommand(server func() (clickhouse.Options, error)) *cobra.Command {
	var q flowsQuery
	cmd := &cobra.Command{
		Use:   "flows",
		Short: "The latest flows, row by row",
		Long: `Flows prints rows of flows in the order of time, one for each flow and interval: the
latest ones, as many as --limit says. All forms of output are those of weir replay;
times have milliseconds.`,
		Example: `  weir query flows                                   the latest 50 rows
  weir query flows --since "2026-01-02 15:04" --until "2026-01-02 15:10" --limit 1000
  weir query flows --where "src_ip = '192.0.2.7' or dst_ip = '192.0.2.7'"
  weir query flows --where "end_reason = 'lack'" --output json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return q.run(cmd, server, q.answer)
		},
	}
	q.addFlags(cmd, 50, "the latest so many rows")
	return cmd
}

// flowRow is a row of flows as it is selected.
type flowRow struct {
	ts                             time.Time
	host, iface                    string
	src, dst                       [16]byte
	direction, proto, sport, dport uint64
	vlan, flags, reverseFlags      uint64
	initiator, end                 uint64
	packets, bytes                 uint64
	reversePackets, reverseBytes   uint64
	firstMS, startMS               int64
	durMS                          uint64
}

// flowColumns are selected for a flowRow.
const flowColumns = "ts, toString(host), toString(iface), src_ip, dst_ip, " +
	"toUInt64(toInt8(direction)), toUInt64(proto), toUInt64(src_port), toUInt64(dst_port), " +
	"toUInt64(vlan), toUInt64(tcp_flags), toUInt64(reverse_tcp_flags), toUInt64(toInt8(initiator)), toUInt64(toInt8(end_reason)), " +
	"packets, bytes, reverse_packets, reverse_bytes, first_ms, dur_ms, toUnixTimestamp64Milli(flow_start)"

func (f *flowRow) places() []any {
	return []any{&f.ts, &f.host, &f.iface, &f.src, &f.dst, &f.direction, &f.proto, &f.sport, &f.dport,
		&f.vlan, &f.flags, &f.reverseFlags, &f.initiator, &f.end,
		&f.packets, &f.bytes, &f.reversePackets, &f.reverseBytes, &f.firstMS, &f.durMS, &f.startMS}
}

// record returns what the row was made of, cut to milliseconds.
func (f *flowRow) record() flows.Record {
	first := (f.ts.Unix()*1000 + f.firstMS) * 1e6
	return flows.Record{
		Key: flows.NewKey(netip.AddrFrom16(f.src), netip.AddrFrom16(f.dst), uint16(f.sport), uint16(f.dport),
			uint16(f.vlan), uint8(f.proto), flows.Direction(f.direction)),
		Forward:   flows.Counters{Packets: f.packets, Octets: f.bytes, TCPFlags: uint8(f.flags)},
		Reverse:   flows.Counters{Packets: f.reversePackets, Octets: f.reverseBytes, TCPFlags: uint8(f.reverseFlags)},
		First:     first,
		Last:      first + int64(f.durMS)*1e6,
		Start:     f.startMS * 1e6,
		Initiator: flows.Initiator(f.initiator),
		EndReason: flows.EndReason(f.end),
	}
}

func (q *flowsQuery) sink() exporter.Sink {
	switch q.output {
	case "json":
		return jsonl.New(q.out, false)
	case "csv":
		return table.NewCSV(q.out, false)
	}
	return table.NewSink(q.out, false, q.screen)
}

func (q *flowsQuery) answer(ctx context.Context) error {
	matching, err := q.count(ctx)
	if err != nil {
		return err
	}
	if matching == 0 {
		return q.nothing()
	}
	shown := fmt.Sprintf("%d rows", matching)
	if matching > uint64(q.limit) {
		shown = fmt.Sprintf("the latest %d of %d rows", q.limit, matching)
	}
	q.header(shown)
	// Every column of the order takes part, so that the same rows come in the same order.
	order := []string{"ts", "first_ms", "host", "iface", "src_ip", "dst_ip", "proto", "src_port", "dst_port", "vlan", "direction", "bytes", "packets"}
	sql := fmt.Sprintf("SELECT %s FROM %s WHERE %s ORDER BY %s DESC LIMIT %d",
		flowColumns, q.reader.Table(), q.filter, strings.Join(order, " DESC, "), q.limit)
	var rows []flowRow
	err = q.reader.Query(ctx, sql, q.parameters(), uint64(q.limit), func(r clickhouse.Rows) error {
		var f flowRow
		if err := r.Scan(f.places()...); err != nil {
			return err
		}
		rows = append(rows, f)
		return nil
	}, nil)
	if err != nil {
		return err
	}
	sink := q.sink()
	var batch flows.Batch
	for i := len(rows) - 1; i >= 0; i-- {
		f := &rows[i]
		batch = flows.Batch{Host: f.host, Interface: f.iface, Start: f.ts.UnixNano(), Records: append(batch.Records[:0], f.record())}
		if err := sink.Write(ctx, &batch); err != nil {
			return err
		}
	}
	return sink.Close(ctx)
}

// count returns how many rows match.
func (q *flowsQuery) count(ctx context.Context) (n uint64, err error) {
	sql := fmt.Sprintf("SELECT count() FROM %s WHERE %s", q.reader.Table(), q.filter)
	err = q.reader.Query(ctx, sql, q.parameters(), 1, func(r clickhouse.Rows) error { return r.Scan(&n) }, nil)
	return n, err
}

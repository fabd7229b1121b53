package exporter

import (
	"math"

	"weir/flows"
)

// Kind says what a column holds, and which of its functions is set.
type Kind uint8

// The kinds of columns.
const (
	Text Kind = iota // Column.Text: any bytes, hostile
	Addr             // Column.Addr: an IPv6 address, IPv4 as IPv4-mapped
	Uint             // Column.Uint: an unsigned number of Column.Bits
	Int              // Column.Int: a signed number of Column.Bits
	Enum             // Column.Uint: an index into Column.Names
	Time             // Column.Time: nanoseconds since the Unix epoch
)

// Form says where a column appears.
type Form uint8

// Forms of a record. Text spells out what tables store as offsets, since offsets
// compress and people read times.
const (
	Shown  Form = 1 << iota // in jsonl, CSV
	Stored                  // in ClickHouse
)

// Column is one property of a record as it is seen from outside.
type Column struct {
	Name  string
	Kind  Kind
	Bits  uint8    // of Uint and Int
	Names []string // of Enum
	Forms Form
	Doc   string // one line, with unit
	// Reverse columns say nothing of a record that was not paired.
	Reverse bool
	// Shared columns are the same for all records of a batch.
	Shared bool

	Text func(*flows.Batch) string
	Addr func(*flows.Record) [16]byte
	Uint func(*flows.Batch, *flows.Record) uint64
	Int  func(*flows.Batch, *flows.Record) int64
	Time func(*flows.Batch, *flows.Record) int64
}

var (
	directionNames = []string{"unknown", "in", "out"}
	initiatorNames = []string{"none", "first", "port", "icmp", "syn"}
	endNames       = []string{"none", "idle", "active", "end", "forced", "lack"}
)

// Columns is what a record looks like from outside, in order: the one mapping
// from [flows.Record] to names. The shared columns come first.
var Columns = []Column{
	{Name: "ts", Kind: Time, Forms: Shown | Stored, Shared: true, Doc: "start of the interval",
		Time: func(b *flows.Batch, _ *flows.Record) int64 { return b.Start }},
	{Name: "host", Kind: Text, Forms: Shown | Stored, Shared: true, Doc: "host that captured",
		Text: func(b *flows.Batch) string { return b.Host }},
	{Name: "iface", Kind: Text, Forms: Shown | Stored, Shared: true, Doc: "interface that captured",
		Text: func(b *flows.Batch) string { return b.Interface }},
	{Name: "direction", Kind: Enum, Names: directionNames, Forms: Shown | Stored,
		Doc:  "direction of the packets from src_ip, as the host sees them: in = the host was called",
		Uint: func(_ *flows.Batch, r *flows.Record) uint64 { return uint64(r.Key.Direction()) }},
	{Name: "proto", Kind: Uint, Bits: 8, Forms: Shown | Stored, Doc: "IP protocol number",
		Uint: func(_ *flows.Batch, r *flows.Record) uint64 { return uint64(r.Key.Proto()) }},
	{Name: "src_ip", Kind: Addr, Forms: Shown | Stored, Doc: "address of the initiator; IPv4 is mapped",
		Addr: func(r *flows.Record) [16]byte { return r.Key.Src16() }},
	{Name: "dst_ip", Kind: Addr, Forms: Shown | Stored, Doc: "address of the responder; IPv4 is mapped",
		Addr: func(r *flows.Record) [16]byte { return r.Key.Dst16() }},
	{Name: "src_port", Kind: Uint, Bits: 16, Forms: Shown | Stored, Doc: "port of the initiator, 0 if there is none",
		Uint: func(_ *flows.Batch, r *flows.Record) uint64 { return uint64(r.Key.SrcPort()) }},
	{Name: "dst_port", Kind: Uint, Bits: 16, Forms: Shown | Stored, Doc: "port of the responder; ICMP: type * 256 + code",
		Uint: func(_ *flows.Batch, r *flows.Record) uint64 { return uint64(r.Key.DstPort()) }},
	{Name: "vlan", Kind: Uint, Bits: 16, Forms: Shown | Stored, Doc: "outermost VLAN id, 0 if untagged",
		Uint: func(_ *flows.Batch, r *flows.Record) uint64 { return uint64(r.Key.VLAN()) }},
	{Name: "packets", Kind: Uint, Bits: 64, Forms: Shown | Stored, Doc: "packets from src_ip to dst_ip",
		Uint: func(_ *flows.Batch, r *flows.Record) uint64 { return r.Forward.Packets }},
	{Name: "bytes", Kind: Uint, Bits: 64, Forms: Shown | Stored, Doc: "IP octets from src_ip to dst_ip, headers included",
		Uint: func(_ *flows.Batch, r *flows.Record) uint64 { return r.Forward.Octets }},
	{Name: "tcp_flags", Kind: Uint, Bits: 8, Forms: Shown | Stored, Doc: "TCP flags from src_ip, ORed",
		Uint: func(_ *flows.Batch, r *flows.Record) uint64 { return uint64(r.Forward.TCPFlags) }},
	{Name: "reverse_packets", Kind: Uint, Bits: 64, Forms: Shown | Stored, Reverse: true, Doc: "packets from dst_ip to src_ip",
		Uint: func(_ *flows.Batch, r *flows.Record) uint64 { return r.Reverse.Packets }},
	{Name: "reverse_bytes", Kind: Uint, Bits: 64, Forms: Shown | Stored, Reverse: true, Doc: "IP octets from dst_ip to src_ip",
		Uint: func(_ *flows.Batch, r *flows.Record) uint64 { return r.Reverse.Octets }},
	{Name: "reverse_tcp_flags", Kind: Uint, Bits: 8, Forms: Shown | Stored, Reverse: true, Doc: "TCP flags from dst_ip, ORed",
		Uint: func(_ *flows.Batch, r *flows.Record) uint64 { return uint64(r.Reverse.TCPFlags) }},
	{Name: "first", Kind: Time, Forms: Shown, Doc: "first packet in the interval",
		Time: func(_ *flows.Batch, r *flows.Record) int64 { return r.First }},
	{Name: "last", Kind: Time, Forms: Shown, Doc: "last packet in the interval",
		Time: func(_ *flows.Batch, r *flows.Record) int64 { return r.Last }},
	{Name: "flow_start", Kind: Time, Forms: Shown, Doc: "first packet of the flow in any interval",
		Time: func(_ *flows.Batch, r *flows.Record) int64 { return r.Start }},
	{Name: "first_ms", Kind: Int, Bits: 64, Forms: Stored, Doc: "first packet in the interval, milliseconds after ts",
		Int: func(b *flows.Batch, r *flows.Record) int64 { return millis(r.First) - 1000*int64(Seconds(b.Start)) }},
	{Name: "dur_ms", Kind: Uint, Bits: 64, Forms: Stored, Doc: "from the first to the last packet in the interval, milliseconds",
		Uint: func(_ *flows.Batch, r *flows.Record) uint64 { return uint64(max(millis(r.Last)-millis(r.First), 0)) }},
	{Name: "start_ms", Kind: Uint, Bits: 32, Forms: Stored,
		Doc:  "0: the flow began in this interval; else from its first packet to the end of ts's hour, milliseconds, at most 2^32-1",
		Uint: startMillis},
	{Name: "initiator", Kind: Enum, Names: initiatorNames, Forms: Shown | Stored, Reverse: true, Doc: "how src_ip was found to be the initiator",
		Uint: func(_ *flows.Batch, r *flows.Record) uint64 { return uint64(r.Initiator) }},
	{Name: "end_reason", Kind: Enum, Names: endNames, Forms: Shown | Stored, Doc: "why the flow ended in this interval (IPFIX 136)",
		Uint: func(_ *flows.Batch, r *flows.Record) uint64 { return uint64(r.EndReason) }},
}

// startMillis keeps the flow's first packet in a form that is the same in all rows
// of the flow within an hour, where they stand side by side, but nothing for flows
// of one row, which most are: 1 octet a row less than the flow's age takes.
func startMillis(b *flows.Batch, r *flows.Record) uint64 {
	start := millis(r.Start)
	if start >= millis(r.First) {
		return 0
	}
	ts := int64(Seconds(b.Start))
	hourEnd := (ts - ts%3600 + 3600) * 1000
	return uint64(min(max(hourEnd-start, 1), math.MaxUint32))
}

// millis cuts nanoseconds to milliseconds, downwards, so that offsets between
// times that were cut each for itself add up.
func millis(ns int64) int64 {
	ms := ns / 1e6
	if ns%1e6 < 0 {
		ms--
	}
	return ms
}

// Seconds cuts ns, nanoseconds since the Unix epoch, to seconds as ClickHouse's
// DateTime has them: 0 to 2^32-1 (2106-02-07T06:28:15Z). What lies outside
// becomes the nearest of these, for wrapped around it would be another day.
func Seconds(ns int64) uint32 {
	return uint32(min(max(ns, 0)/1e9, math.MaxUint32))
}

// Select returns the columns of form, without the reverse ones if uniflow is set.
func Select(form Form, uniflow bool) []Column {
	var cs []Column
	for _, c := range Columns {
		if c.Forms&form != 0 && (!uniflow || !c.Reverse) {
			cs = append(cs, c)
		}
	}
	return cs
}

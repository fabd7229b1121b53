package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"weir/exporter"
	"weir/exporter/table"
)

// groupColumn is a column of flows that an answer can be grouped by.
type groupColumn struct {
	name string
	kind exporter.Kind
	doc  string
}

// groupColumns are the columns that say what a flow is, not how much it was.
var groupColumns = func() []groupColumn {
	var cs []groupColumn
	for _, c := range exporter.Select(exporter.Shown, false) {
		if c.Kind != exporter.Time && c.Bits < 64 {
			cs = append(cs, groupColumn{c.Name, c.Kind, c.Doc})
		}
	}
	return append(cs, groupColumn{"icmp_type", exporter.Uint, "ICMP type, 0 for other protocols"},
		groupColumn{"icmp_code", exporter.Uint, "ICMP code, 0 for other protocols"})
}()

func groupNames() []string {
	var names []string
	for _, c := range groupColumns {
		names = append(names, c.name)
	}
	return names
}

// parseGroup returns the columns of these names.
func parseGroup(names []string) ([]groupColumn, error) {
	var cs []groupColumn
	for _, name := range names {
		name = strings.TrimSpace(name)
		i := slices.IndexFunc(groupColumns, func(c groupColumn) bool { return c.name == name })
		if i < 0 {
			return nil, fmt.Errorf("--by: %q is not one of %s", name, strings.Join(groupNames(), ", "))
		}
		if slices.ContainsFunc(cs, func(c groupColumn) bool { return c.name == name }) {
			return nil, fmt.Errorf("--by: %s is named twice", name)
		}
		cs = append(cs, groupColumns[i])
	}
	return cs, nil
}

// expression returns what to select, in a type that place can hold.
func (c groupColumn) expression() string {
	switch c.kind {
	case exporter.Uint:
		return "toUInt64(" + c.name + ")"
	case exporter.Enum, exporter.Text:
		return "toString(" + c.name + ")"
	}
	return c.name
}

// place returns where to scan a value to.
func (c groupColumn) place() any {
	switch c.kind {
	case exporter.Uint:
		return new(uint64)
	case exporter.Addr:
		return new([16]byte)
	}
	return new(string)
}

// selectGroup returns the columns' part of SELECT. They are called g0, g1, ..., for
// an alias with a column's name would be seen by --where in its place.
func selectGroup(cs []groupColumn) (list, aliases []string) {
	for i, c := range cs {
		aliases = append(aliases, fmt.Sprintf("g%d", i))
		list = append(list, c.expression()+" AS "+aliases[i])
	}
	return list, aliases
}

// cells turns scanned values into cells. People get names where there are any.
func groupCells(cs []groupColumn, places []any) []cell {
	proto, haveProto := uint8(0), false
	for i, c := range cs {
		if c.name == "proto" {
			proto, haveProto = uint8(*places[i].(*uint64)), true
		}
	}
	cells := make([]cell, len(cs))
	for i, c := range cs {
		switch v := places[i].(type) {
		case *string:
			cells[i] = cell{*v, *v}
		case *[16]byte:
			s := string(exporter.AppendAddr(nil, *v))
			cells[i] = cell{s, s}
		case *uint64:
			cells[i] = cell{*v, showNumber(c.name, *v, proto, haveProto)}
		}
	}
	return cells
}

func showNumber(name string, v uint64, proto uint8, haveProto bool) string {
	number := strconv.FormatUint(v, 10)
	switch name {
	case "proto":
		return table.Proto(uint8(v))
	case "tcp_flags", "reverse_tcp_flags":
		return string(table.AppendTCPFlags(nil, uint8(v)))
	case "src_port", "dst_port":
		if !haveProto {
			return number
		}
		if proto == 1 || proto == 58 {
			return fmt.Sprintf("%d/%d", v>>8, v&0xff)
		}
		if service := table.Service(proto, uint16(v)); service != "" {
			return number + " " + service
		}
	}
	return number
}

// sums are what a group amounts to.
type sums struct {
	bytes, reverseBytes, packets, reversePackets, flows uint64
}

// selectSums is the sums' part of SELECT. A flow is counted once, however many
// intervals it spans; uniq is exact up to some ten thousand and within 1 % above.
const selectSums = "sum(bytes) AS s_bytes, sum(reverse_bytes) AS s_reverse_bytes, sum(packets) AS s_packets, sum(reverse_packets) AS s_reverse_packets, " +
	"uniq(host, iface, direction, vlan, proto, src_ip, dst_ip, src_port, dst_port, flow_start) AS s_flows"

func (s *sums) places() []any {
	return []any{&s.bytes, &s.reverseBytes, &s.packets, &s.reversePackets, &s.flows}
}

func (s *sums) totalBytes() uint64   { return s.bytes + s.reverseBytes }
func (s *sums) totalPackets() uint64 { return s.packets + s.reversePackets }

// String is what a header says of all groups together.
func (s *sums) String() string {
	b := table.AppendCount(nil, s.flows)
	b = append(b, " flows, "...)
	b = append(table.AppendCount(b, s.totalPackets()), " packets, "...)
	return string(table.AppendBytes(b, s.totalBytes()))
}

// metric is what answers are sorted by and shares are of.
type metric string

func parseMetric(s string) (metric, error) {
	switch s {
	case "bytes", "packets", "flows":
		return metric(s), nil
	}
	return "", fmt.Errorf("--sort: %q is not one of bytes, packets, flows", s)
}

func (m metric) expression() string {
	switch m {
	case "packets":
		return "s_packets + s_reverse_packets"
	case "flows":
		return "s_flows"
	}
	return "s_bytes + s_reverse_bytes"
}

func (m metric) of(s *sums) uint64 {
	switch m {
	case "packets":
		return s.totalPackets()
	case "flows":
		return s.flows
	}
	return s.totalBytes()
}

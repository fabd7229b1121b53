package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"weir/exporter"
	"weir/exporter/jsonl"
	"weir/exporter/table"
)

// cell is one value of an answer: raw (string, uint64, time.Time) for JSON and CSV,
// shown for a table. Nil means that it is not there.
type cell struct{ raw, shown any }

// answerColumn describes the cells of a column. The name is empty for what only a
// table shows, and kind is meaningless for what only JSON and CSV hold.
type answerColumn struct {
	name  string
	title string
	kind  table.Kind
	shown bool
}

// write writes an answer in the form that was asked for.
func (q *query) write(columns []answerColumn, rows [][]cell) error {
	if q.output == "table" {
		return q.writeTable(columns, rows)
	}
	var buf []byte
	if q.output == "csv" {
		for i, c := range named(columns) {
			if i > 0 {
				buf = append(buf, ',')
			}
			buf = table.AppendCSV(buf, columns[c].name)
		}
		buf = append(buf, '\n')
	}
	for _, row := range rows {
		for i, c := range named(columns) {
			if q.output == "csv" {
				if i > 0 {
					buf = append(buf, ',')
				}
				buf = appendRaw(buf, row[c].raw, table.AppendCSV)
				continue
			}
			buf = append(buf, "{,"[min(i, 1)])
			buf = append(jsonl.AppendString(buf, columns[c].name), ':')
			buf = appendRaw(buf, row[c].raw, jsonl.AppendString)
		}
		if q.output == "json" {
			buf = append(buf, '}')
		}
		buf = append(buf, '\n')
	}
	return writeAll(q.out, buf)
}

// named returns the indexes of the columns that JSON and CSV hold.
func named(columns []answerColumn) []int {
	var is []int
	for i, c := range columns {
		if c.name != "" {
			is = append(is, i)
		}
	}
	return is
}

func appendRaw(dst []byte, v any, quote func([]byte, string) []byte) []byte {
	switch v := v.(type) {
	case uint64:
		return strconv.AppendUint(dst, v, 10)
	case time.Time:
		return quote(dst, string(exporter.AppendTime(nil, v.UnixNano())))
	default:
		return quote(dst, v.(string))
	}
}

func (q *query) writeTable(columns []answerColumn, rows [][]cell) error {
	var titles []table.Column
	for _, c := range columns {
		if c.shown {
			titles = append(titles, table.Column{Title: c.title, Kind: c.kind})
		}
	}
	t := table.New(q.screen, titles...)
	for _, row := range rows {
		var shown []any
		for i, c := range columns {
			if c.shown {
				shown = append(shown, row[i].shown)
			}
		}
		t.Row(shown...)
	}
	_, err := t.WriteTo(q.out)
	return err
}

func writeAll(w io.Writer, b []byte) error {
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// groupAnswer describes the columns of a group.
func groupAnswer(cs []groupColumn) []answerColumn {
	var as []answerColumn
	for _, c := range cs {
		as = append(as, answerColumn{name: c.name, title: c.name, kind: table.Text, shown: true})
	}
	return as
}

// sumsAnswer describes the cells that sumsCells makes.
var sumsAnswer = []answerColumn{
	{name: "total_bytes", title: "bytes", kind: table.Bytes, shown: true},
	{title: "share", kind: table.Percent, shown: true},
	{title: "", kind: table.Bar, shown: true},
	{name: "bytes", title: "sent", kind: table.Bytes, shown: true},
	{name: "reverse_bytes", title: "received", kind: table.Bytes, shown: true},
	{name: "total_packets", title: "packets", kind: table.Count, shown: true},
	{name: "packets"},
	{name: "reverse_packets"},
	{name: "flows", title: "flows", kind: table.Count, shown: true},
}

// sumsCells returns the cells of a group's sums; share is its part of all, bar its
// part of the greatest.
func sumsCells(s *sums, share, bar float64) []cell {
	return []cell{
		{s.totalBytes(), s.totalBytes()}, {nil, share}, {nil, bar}, {s.bytes, s.bytes}, {s.reverseBytes, s.reverseBytes},
		{s.totalPackets(), s.totalPackets()}, {raw: s.packets}, {raw: s.reversePackets}, {s.flows, s.flows},
	}
}

// ratio is a/b, 0 where there is nothing.
func ratio(a, b uint64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// Package table writes for people (aligned tables with units and bars) and for
// spreadsheets (CSV). The same input gives the same bytes.
package table

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"weir/exporter"
)

// Kind says how a cell is written.
type Kind uint8

// The kinds of cells, with the Go type that Row wants.
const (
	Text     Kind = iota // string, left-aligned, escaped
	Count                // uint64: 3.4 k
	Bytes                // uint64: 1.2 MB
	Rate                 // uint64, octets a second, shown as bits a second: 9.4 Mb/s
	Duration             // time.Duration: 1.25s
	Percent              // float64, 0..1: 12.5%
	Bar                  // float64, 0..1: a bar in proportion
	Number               // uint64, exactly: 3412; nil where it is not known: -
)

// Column is one column of a table.
type Column struct {
	Title string
	Kind  Kind
}

// cell is text, or a bar's length as a part of the whole.
type cell struct {
	text string
	bar  float64
}

// Table gathers rows and writes them aligned. It is for tens or thousands of
// rows; records stream through [NewSink].
type Table struct {
	Screen
	columns []Column
	rows    [][]cell
}

// New returns an empty table.
func New(screen Screen, columns ...Column) *Table {
	if screen.Width <= 0 {
		screen.Width = defaultWidth
	}
	return &Table{Screen: screen, columns: columns}
}

// Row adds a row. It panics if the cells do not fit the columns: that is a
// mistake in the program, not in its input.
func (t *Table) Row(cells ...any) {
	if len(cells) != len(t.columns) {
		panic(fmt.Sprintf("table: %d cells for %d columns", len(cells), len(t.columns)))
	}
	row := make([]cell, len(cells))
	for i, c := range cells {
		row[i] = t.format(t.columns[i].Kind, c)
	}
	t.rows = append(t.rows, row)
}

func (t *Table) format(k Kind, v any) cell {
	switch k {
	case Count:
		return cell{text: string(AppendCount(nil, v.(uint64)))}
	case Number:
		if v == nil {
			return cell{text: "-"}
		}
		return cell{text: strconv.FormatUint(v.(uint64), 10)}
	case Bytes:
		return cell{text: string(AppendBytes(nil, v.(uint64)))}
	case Rate:
		return cell{text: string(AppendRate(nil, v.(uint64)))}
	case Duration:
		return cell{text: string(AppendDuration(nil, v.(time.Duration)))}
	case Percent:
		return cell{text: fmt.Sprintf("%.1f%%", 100*part(v.(float64)))}
	case Bar:
		return cell{bar: part(v.(float64))}
	default:
		return cell{text: exporter.Escape(v.(string), t.ASCII)}
	}
}

// part brings f into 0..1, and NaN, the share of nothing in nothing, to 0.
func part(f float64) float64 {
	if f > 0 {
		return min(f, 1)
	}
	return 0
}

// WriteTo writes the header and all rows.
func (t *Table) WriteTo(w io.Writer) (int64, error) {
	widths := t.widths()
	var sb strings.Builder
	header := make([]cell, len(t.columns))
	for i, c := range t.columns {
		header[i].text = exporter.Escape(c.Title, t.ASCII)
	}
	t.line(&sb, widths, header)
	for _, row := range t.rows {
		t.line(&sb, widths, row)
	}
	n, err := io.WriteString(w, sb.String())
	if err != nil {
		return int64(n), fmt.Errorf("write table: %w", err)
	}
	return int64(n), nil
}

const (
	gap     = 2  // between columns
	minBar  = 6  // a bar shorter than this says nothing: left out
	maxBar  = 30 // and a longer one says no more
	minText = 16 // text is not cut below this
)

// widths lays the columns out: as wide as their cells, bars take what is left of
// the screen, and where it is too narrow all the same, the widest text is cut.
func (t *Table) widths() []int {
	widths := make([]int, len(t.columns))
	bars, total := 0, 0
	for i, c := range t.columns {
		if c.Kind == Bar {
			bars++
			continue
		}
		widths[i] = utf8.RuneCountInString(exporter.Escape(c.Title, t.ASCII))
		for _, row := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i].text))
		}
		total += widths[i] + gap
	}
	if bars > 0 {
		room := (t.Width - total - (bars-1)*gap) / bars
		for i, c := range t.columns {
			if c.Kind == Bar && room >= minBar {
				widths[i] = min(room, maxBar)
			}
		}
	}
	for total-gap > t.Width {
		widest := -1
		for i, c := range t.columns {
			if c.Kind == Text && widths[i] > minText && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break // numbers are never cut: the terminal will wrap
		}
		widths[widest]--
		total--
	}
	return widths
}

func (t *Table) line(sb *strings.Builder, widths []int, row []cell) {
	pending := 0 // spaces owed before the next text, so that no line ends in spaces
	for i, c := range t.columns {
		if widths[i] == 0 {
			continue
		}
		text := row[i].text
		if c.Kind == Bar && text == "" {
			text = t.bar(row[i].bar, widths[i])
		}
		n := utf8.RuneCountInString(text)
		if n > widths[i] {
			text, n = t.cut(text, widths[i]), widths[i]
		}
		before, after := 0, widths[i]-n
		if c.Kind != Text && c.Kind != Bar {
			before, after = after, 0
		}
		if n > 0 {
			sb.WriteString(strings.Repeat(" ", pending+before))
			sb.WriteString(text)
			pending = after + gap
		} else {
			pending += before + after + gap
		}
	}
	sb.WriteByte('\n')
}

// cut shortens text to n columns and marks the place.
func (t *Table) cut(text string, n int) string {
	mark := "…"
	if t.ASCII {
		mark = "~"
	}
	return string([]rune(text)[:n-1]) + mark
}

// eighths are the block elements U+258F down to U+2588, one eighth to eight.
var eighths = []rune("▏▎▍▌▋▊▉█")

// bar draws a bar of width columns at most; what is not nothing shows.
func (t *Table) bar(f float64, width int) string {
	if f <= 0 {
		return ""
	}
	if t.ASCII {
		return strings.Repeat("#", max(int(f*float64(width)+0.5), 1))
	}
	n := max(int(f*float64(width*8)+0.5), 1)
	s := strings.Repeat("█", n/8)
	if n%8 > 0 {
		s += string(eighths[n%8-1])
	}
	return s
}

package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"

	"weir/exporter"
	"weir/exporter/table"
)

// topScreen is what a terminal shows of weir top: a state that messages change and view
// draws. It does nothing by itself; ask is called by commands, for the library to run.
type topScreen struct {
	ask   func(topAsk)
	ascii bool

	width, height int
	wish          topAsk
	shown         *topReply  // the latest second, nil before the first
	of            topRequest // what shown answers: the one before last for a moment
	texts         []int      // widths of the group's columns; they grow, so that columns do not jump about
	offset        int        // rows above the first on screen
	lost          string     // why there are no seconds
	note          string     // what to say to the last key
	paused        bool
	grouping      bool // digits toggle columns
	help          bool
}

func newTopScreen(q topRequest, ascii bool, ask func(topAsk)) topScreen {
	return topScreen{ask: ask, ascii: ascii, width: 80, height: 24, wish: topAsk{1, q}}
}

// Init has nothing to begin: the feed knows its first request.
func (m topScreen) Init() tea.Cmd { return nil }

// View draws on the alternate screen, so that the shell's lines are there again afterwards.
func (m topScreen) View() tea.View {
	v := tea.NewView(m.view())
	v.AltScreen = true
	return v
}

// Update is the next state.
func (m topScreen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = max(msg.Width, 1), max(msg.Height, 1)
	case topSecondMsg:
		if msg.n == m.wish.n {
			m.lost = ""
			if !m.paused {
				m.take(msg)
			}
		}
	case topLostMsg:
		if msg.n == m.wish.n {
			m.lost = msg.why
		}
	case tea.KeyPressMsg:
		return m.key(msg.String())
	}
	m.offset = m.within(m.offset)
	return m, nil
}

func (m *topScreen) take(s topSecondMsg) {
	if m.shown == nil || !slices.Equal(m.of.names, s.q.names) {
		m.texts = make([]int, len(s.q.names))
	}
	m.shown, m.of = s.reply, s.q
	m.texts = slices.Clone(m.texts) // the state before keeps its own
	for i := range m.texts {
		m.texts[i] = max(m.texts[i], len(s.q.names[i])+1) // and the mark of what is sorted by
		for _, row := range s.reply.Rows {
			m.texts[i] = max(m.texts[i], len(escapeCell(row.Group[i])))
		}
	}
}

// escapeCell makes text printable in ASCII whatever the locale: how many columns
// anything else takes, terminals do not agree on.
func escapeCell(s string) string { return exporter.Escape(s, true) }

func (m topScreen) key(key string) (tea.Model, tea.Cmd) {
	m.note = ""
	page := max(m.layout().rows-1, 1)
	switch key {
	case "q", "ctrl+c":
		return m, tea.Quit
	case "ctrl+z":
		return m, tea.Suspend
	case "?", "h":
		m.help = !m.help
	case "esc", "enter":
		m.help, m.grouping = false, false
	case "up", "k":
		m.offset--
	case "down", "j":
		m.offset++
	case "pgup", "b":
		m.offset -= page
	case "pgdown", "f":
		m.offset += page
	case "home":
		m.offset = 0
	case "end":
		m.offset = 1 << 30
	case "p", "space":
		m.paused = !m.paused
	case "g":
		m.grouping = !m.grouping
	case "s":
		return m.resort(1)
	case "S":
		return m.resort(-1)
	default:
		if n, err := strconv.Atoi(key); err == nil && m.grouping && n >= 1 && n <= len(topColumns) {
			return m.regroup(topColumns[n-1].name)
		}
	}
	m.offset = m.within(m.offset)
	return m, nil
}

// resort sorts by the next column, or with -1 the previous one.
func (m topScreen) resort(by int) (tea.Model, tea.Cmd) {
	all := append(slices.Clone(topSorts), m.wish.q.names...)
	i := slices.Index(all, m.wish.q.sort) + by
	return m.want(m.wish.q.names, all[(i+len(all))%len(all)])
}

// regroup adds a column to the group, or takes it away.
func (m topScreen) regroup(name string) (tea.Model, tea.Cmd) {
	names, sort := slices.Clone(m.wish.q.names), m.wish.q.sort
	if i := slices.Index(names, name); i < 0 {
		names = append(names, name)
	} else {
		names = slices.Delete(names, i, i+1)
	}
	if len(names) == 0 {
		m.note = "one column must be left"
		return m, nil
	}
	if sort == name {
		sort = topSorts[0]
	}
	return m.want(names, sort)
}

// want asks for something else. What is on the screen stays until it comes.
func (m topScreen) want(names []string, sort string) (tea.Model, tea.Cmd) {
	q, err := parseTopRequest(strings.Join(names, ","), sort, m.wish.q.limit)
	if err != nil {
		m.note = err.Error()
		return m, nil
	}
	m.wish, m.paused, m.offset = topAsk{m.wish.n + 1, q}, false, 0
	ask, wish := m.ask, m.wish
	return m, func() tea.Msg { ask(wish); return nil }
}

// within brings an offset to where there are rows.
func (m topScreen) within(offset int) int {
	n := 0
	if m.shown != nil {
		n = len(m.shown.Rows)
	}
	return max(min(offset, n-m.layout().rows), 0)
}

// topLayout is how the lines of the screen are divided.
type topLayout struct {
	title, header, others, total bool
	rows                         int
	bottom                       []string
}

// layout gives the rows what the rest leaves. On a low screen, what says least goes first.
func (m topScreen) layout() topLayout {
	l := topLayout{title: true, header: true, others: m.shown != nil && m.shown.othersLabel() != "", total: true, bottom: m.bottom(0)}
	l.bottom = l.bottom[:min(len(l.bottom), m.height)]
	count := func() int {
		n := m.height - len(l.bottom)
		for _, line := range []bool{l.title, l.header, l.others, l.total} {
			if line {
				n--
			}
		}
		return n
	}
	if !m.grouping && count() < 1 {
		l.bottom = nil
	}
	for _, line := range []*bool{&l.others, &l.total, &l.header, &l.title} {
		if count() >= 1 {
			break
		}
		*line = false
	}
	l.rows = max(count(), 0)
	return l
}

// Styles. Colour is dropped by the library where NO_COLOR or the terminal forbids it;
// that something is bold or reversed stays.
const (
	styleBold   = "\x1b[1m"
	styleFaint  = "\x1b[2m"
	styleHeader = "\x1b[7m"
	styleAlarm  = "\x1b[1;31m"
	styleBar    = "\x1b[36m"
	styleEnd    = "\x1b[m"
)

// styled cuts text to the screen's width.
func (m topScreen) styled(style, text string) string {
	text = m.cut(text, m.width)
	if style == "" || text == "" {
		return text
	}
	return style + text + styleEnd
}

// cut shortens text to n columns, and marks the place. All that is ever shown takes a
// column a character.
func (m topScreen) cut(text string, n int) string {
	switch {
	case utf8.RuneCountInString(text) <= n:
		return text
	case n < 2:
		return string([]rune(text)[:max(n, 0)])
	case m.ascii:
		return string([]rune(text)[:n-1]) + "~"
	}
	return string([]rune(text)[:n-1]) + "…"
}

// view draws the screen: at most height lines of at most width columns.
func (m topScreen) view() string {
	l := m.layout()
	if len(l.bottom) > 0 {
		l.bottom = m.bottom(l.rows)[:len(l.bottom)]
	}
	var lines []string
	if l.title {
		lines = append(lines, m.title())
	}
	switch {
	case m.help:
		text := topHelp[:min(len(topHelp), m.height-len(lines)-len(l.bottom))]
		for _, line := range text {
			lines = append(lines, m.styled("", line))
		}
	case m.shown != nil:
		lines = append(lines, m.table(l)...)
	}
	for len(lines) < m.height-len(l.bottom) {
		lines = append(lines, "")
	}
	return strings.Join(append(lines, l.bottom...), "\n")
}

// title says what is shown, and what keeps it from being up to date.
func (m topScreen) title() string {
	switch {
	case m.lost != "":
		return m.styled(styleAlarm, "weir top  waiting: "+escapeCell(m.lost))
	case m.shown == nil:
		return m.styled(styleBold, "weir top  waiting for the agent")
	}
	what := fmt.Sprintf("  %s UTC  %.1f s  %s groups by %s, %s first", m.shown.Time.UTC().Format("15:04:05"), m.shown.Seconds,
		table.AppendCount(nil, uint64(max(m.shown.Groups, 0))), strings.Join(m.wish.q.names, ","), m.wish.q.sort)
	if slices.Contains(m.wish.q.names, m.wish.q.sort) {
		what = strings.TrimSuffix(what, ", "+m.wish.q.sort+" first") + ", sorted by " + m.wish.q.sort
	}
	if m.paused {
		return m.styled(styleBold, "weir top  paused"+what)
	}
	return m.styled(styleBold, "weir top"+what)
}

// topHelp is what ? shows.
var topHelp = []string{
	"",
	"  up, down, PgUp, PgDn, Home, End   scroll",
	"  s, S                              sort by the next, the previous column",
	"  g                                 group by other columns, by their digits",
	"  p, space                          pause, and go on",
	"  ?                                 this help, and back",
	"  q, Ctrl-C                         quit",
	"",
	"  rate       bits a second, of the IP packets' length",
	"  packets/s  packets a second",
	"  flows      keys in this second, each direction for itself",
	"  share      of the total, in what is sorted by; the bar is of the greatest",
}

// bottom is the line of keys, or the lines that tell which digit is which column.
func (m topScreen) bottom(rows int) []string {
	if !m.grouping {
		text := m.note
		if text == "" {
			text = "q quit  s sort  g group  p pause  ? help"
		}
		if m.help {
			text = "? back  q quit"
		}
		if m.shown != nil && !m.help && len(m.shown.Rows) > 0 {
			where := fmt.Sprintf("%d-%d of %d", m.offset+1, min(m.offset+rows, len(m.shown.Rows)), len(m.shown.Rows))
			if pad := m.width - len(text) - len(where); pad >= 2 {
				text += strings.Repeat(" ", pad) + where
			}
		}
		return []string{m.styled(styleFaint, escapeCell(text))}
	}
	var lines []string
	line, width := "", 0
	add := func(text string, chosen bool) {
		if width > 0 && width+2+len(text) > m.width {
			lines, line, width = append(lines, line), "", 0
		}
		if width > 0 {
			line, width = line+"  ", width+2
		}
		style := ""
		if chosen {
			style = styleHeader
		}
		line, width = line+m.styled(style, text), width+len(text)
	}
	for i, c := range topColumns {
		mark := " "
		chosen := slices.Contains(m.wish.q.names, c.name)
		if chosen {
			mark = "*" // not every terminal shows what is reversed
		}
		add(strconv.Itoa(i+1)+mark+c.name, chosen)
	}
	if m.note != "" {
		add(escapeCell(m.note), false)
	}
	return append(lines, line)
}

// topFigures are the columns after the group's: as wide as they can become.
var topFigures = []struct {
	title, sort string
	width       int
}{{"rate", "bytes", 8}, {"packets/s", "packets", 10}, {"flows", "flows", 6}, {"share", "", 6}}

const figureGap = 2

// table draws header, rows and sums.
func (m topScreen) table(l topLayout) []string {
	q := &m.of
	// Who it is says more than how much: figures go before an address is cut. The last
	// of them are what is sorted by, and the rate.
	figures := []int{0, 1, 2, 3}
	area := func() (room int) {
		room = m.width
		for _, i := range figures {
			room -= figureGap + topFigures[i].width
		}
		return room
	}
	wanted := figureGap * (len(m.texts) - 1)
	for _, w := range m.texts {
		wanted += w
	}
	for _, i := range []int{3, 2, 1} {
		if area() < wanted && topFigures[i].sort != q.sort {
			figures = slices.DeleteFunc(figures, func(f int) bool { return f == i })
		}
	}
	texts := slices.Clone(m.texts)
	for ; wanted > max(area(), 0); wanted-- {
		i := slices.Index(texts, slices.Max(texts))
		if texts[i] == 0 {
			break
		}
		texts[i]--
	}
	bar := area() - wanted - figureGap
	left := func(group []string) string {
		var sb strings.Builder
		for i, w := range texts {
			if i > 0 {
				sb.WriteString(strings.Repeat(" ", figureGap))
			}
			fmt.Fprintf(&sb, "%-*s", w, m.cut(group[i], w))
		}
		return sb.String()
	}
	right := func(c *topCounts) string {
		var sb strings.Builder
		for _, i := range figures {
			text := ""
			switch i {
			case 0:
				text = string(table.AppendRate(nil, m.shown.perSecond(c.Octets)))
			case 1:
				text = string(table.AppendCount(nil, m.shown.perSecond(c.Packets)))
			case 2:
				text = string(table.AppendCount(nil, c.Flows))
			case 3:
				text = fmt.Sprintf("%.1f%%", 100*min(ratio(c.metric(q.sort), m.shown.Total.metric(q.sort)), 1))
			}
			fmt.Fprintf(&sb, "%*s", figureGap+topFigures[i].width, text)
		}
		return sb.String()
	}
	style := ""
	if m.lost != "" {
		style = styleFaint // it is old
	}
	var lines []string
	if l.header {
		titles, mark := slices.Clone(q.names), "▼"
		if m.ascii {
			mark = "*"
		}
		if i := slices.Index(titles, q.sort); i >= 0 {
			if !m.ascii {
				mark = "▲"
			}
			titles[i] += mark
		}
		head := left(titles)
		for _, i := range figures {
			title := topFigures[i].title
			if topFigures[i].sort == q.sort {
				title += mark
			}
			head += fmt.Sprintf("%*s", figureGap+topFigures[i].width, title)
		}
		lines = append(lines, m.styled(styleHeader, head))
	}
	rows := m.shown.Rows[m.offset:min(m.offset+l.rows, len(m.shown.Rows))] // Update holds the offset in bounds
	bars := m.bars(rows, bar)
	for i := range rows {
		group := make([]string, len(texts))
		for j := range group {
			group[j] = escapeCell(rows[i].Group[j])
		}
		line := m.styled(style, left(group)+right(&rows[i].topCounts))
		if bars[i] != "" {
			line += strings.Repeat(" ", figureGap) + styleBar + bars[i] + styleEnd
		}
		lines = append(lines, line)
	}
	sum := func(label string, c *topCounts, style string) {
		lines = append(lines, m.styled(style, fmt.Sprintf("%-*s", wanted, m.cut(label, wanted))+right(c)))
	}
	if l.others {
		sum(m.shown.othersLabel(), &m.shown.Others, style)
	}
	if l.total {
		sum("total", &m.shown.Total, styleBold+style)
	}
	return lines
}

// bars draws how the rows compare with the greatest of all. Where there is no room,
// they are empty.
func (m topScreen) bars(rows []topRow, width int) []string {
	if width < 1 {
		return make([]string, len(rows))
	}
	greatest := m.shown.greatest(m.of.sort)
	t := table.New(table.Screen{Width: width, ASCII: m.ascii}, table.Column{Kind: table.Bar})
	for i := range rows {
		t.Row(ratio(rows[i].metric(m.of.sort), greatest))
	}
	var sb strings.Builder
	_, _ = t.WriteTo(&sb) // which takes everything
	return strings.Split(sb.String(), "\n")[1:]
}

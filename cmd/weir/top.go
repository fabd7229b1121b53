package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"weir/exporter/table"
)

// topCommand is what weir top was told.
type topCommand struct {
	group  []string
	sort   string
	limit  int
	once   bool
	output string
}

// screenLimit is how many groups a screen holds if nobody says: it scrolls.
const screenLimit = 500

// newLiveTopCommand asks the agent; newTopCommand, of weir query, asks ClickHouse.
func newLiveTopCommand(cfg *config) *cobra.Command {
	var c topCommand
	var names []string
	for _, column := range topColumns {
		names = append(names, column.name)
	}
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show live who talks to whom",
		Long: `Top asks the agent that runs on this host, over its local socket, what it counts each second, and
shows the groups with most bytes, packets or flows. On a terminal it fills the screen until q is
pressed, and ? tells of the other keys. Elsewhere it prints one full second and ends.

Columns for --group-by: ` + strings.Join(names, ", ") + `.

Exit status: 0 all is well, 1 there is no agent, or it went away, 2 wrong usage.`,
		Example: `  weir top                                  pairs of addresses by rate
  weir top --group-by proto,dst_port        services
  weir top --group-by iface --sort packets  interfaces
  weir top --once | head                    one second, as text
  weir top --output json --limit 10 | jq -c '[.ts, .total.bytes / .seconds]'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd, cfg.socket()) },
	}
	fs := cmd.Flags()
	fs.StringSliceVarP(&c.group, "group-by", "b", []string{"src_ip", "dst_ip"}, "group by these `COLUMNS`")
	fs.StringVarP(&c.sort, "sort", "s", "bytes", "most bytes, packets or flows first; or a `COLUMN` of --group-by, in ascending order")
	fs.IntVarP(&c.limit, "limit", "n", 50, fmt.Sprintf("this many groups at most; a screen holds %d unless told", screenLimit))
	fs.BoolVar(&c.once, "once", false, "print one full second and end")
	fs.StringVarP(&c.output, "output", "o", "table", "table, or json (one object a line, each second)")
	fixed := func(values ...string) cobra.CompletionFunc {
		return cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)
	}
	for flag, complete := range map[string]cobra.CompletionFunc{
		"group-by": func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			before := typed[:strings.LastIndexByte(typed, ',')+1]
			var found []string
			for _, name := range names {
				if !slices.Contains(strings.Split(before, ","), name) {
					found = append(found, before+name)
				}
			}
			return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		},
		"sort": func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return append(slices.Clone(topSorts), c.group...), cobra.ShellCompDirectiveNoFileComp
		},
		"limit":  fixed(),
		"output": fixed("table", "json"),
	} {
		if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
			panic(err) // the flag is not there: a mistake above
		}
	}
	return cmd
}

func (c *topCommand) run(cmd *cobra.Command, socket string) error {
	if c.output != "table" && c.output != "json" {
		return usage("--output: %q is neither table nor json", c.output)
	}
	// A terminal that cannot move its cursor is no screen.
	full := c.output == "table" && !c.once && term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("TERM") != "dumb"
	if full && !cmd.Flags().Changed("limit") {
		c.limit = screenLimit
	}
	q, err := parseTopRequest(strings.Join(c.group, ","), c.sort, c.limit)
	if err != nil {
		return usage("%w", err)
	}
	ctx := cmd.Context()
	stream, err := openTop(ctx, socket, q)
	if err != nil {
		return err
	}
	switch {
	case full:
		// There is an agent, and it lets us look. What becomes of it later, the screen says.
		stream.Close()
		return showTop(ctx, q, func(ctx context.Context, q topRequest) (*topStream, error) { return openTop(ctx, socket, q) })
	case c.output == "json":
		err = stream.copy(cmd.OutOrStdout(), c.once)
	default:
		err = stream.print(cmd.OutOrStdout(), table.ScreenOf(os.Stdout))
	}
	stream.Close()
	if ctx.Err() != nil && !c.once && c.output == "json" {
		return nil // it goes on until somebody ends it
	}
	return err
}

// topStream is the agent's answer, line after line.
type topStream struct {
	q     topRequest
	body  io.ReadCloser
	lines *bufio.Scanner
}

// maxTopLine bounds a line: the most rows that can be asked for, with all columns.
const maxTopLine = 64 << 20

// openTop asks for seconds. The context ends the answer.
func openTop(ctx context.Context, socket string, q topRequest) (*topStream, error) {
	body, err := askAgent(ctx, socket, "/top", url.Values{"group": {strings.Join(q.names, ",")}, "sort": {q.sort}, "limit": {strconv.Itoa(q.limit)}})
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxTopLine)
	return &topStream{q, body, lines}, nil
}

func (s *topStream) Close() { s.body.Close() }

// next returns the next second, and the line it came in, which is good until the next call.
func (s *topStream) next() (*topReply, []byte, error) {
	if !s.lines.Scan() {
		if err := s.lines.Err(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, nil, fmt.Errorf("read the agent's answer: %w", err)
		}
		return nil, nil, errors.New("the agent has gone away")
	}
	r := new(topReply)
	if err := json.Unmarshal(s.lines.Bytes(), r); err != nil {
		return nil, nil, fmt.Errorf("read the agent's answer: %w", err)
	}
	if r.Seconds <= 0 {
		return nil, nil, fmt.Errorf("read the agent's answer: counts of %v seconds", r.Seconds)
	}
	for _, row := range r.Rows {
		if len(row.Group) != len(s.q.names) {
			return nil, nil, fmt.Errorf("read the agent's answer: a group of %d columns, %d were asked for", len(row.Group), len(s.q.names))
		}
	}
	return r, s.lines.Bytes(), nil
}

// full skips what the agent has counted since before it was asked: that is up to an
// interval, and lacks the interfaces which it had looked at by then.
func (s *topStream) full() (*topReply, []byte, error) {
	if _, _, err := s.next(); err != nil {
		return nil, nil, err
	}
	return s.next()
}

// copy writes lines as they come, or the first full second's alone.
func (s *topStream) copy(w io.Writer, once bool) error {
	next := s.next
	if once {
		next = s.full
	}
	for {
		_, line, err := next()
		if err != nil {
			return err
		}
		if err := writeAll(w, append(asciiJSON(nil, line), '\n')); err != nil || once {
			return err
		}
	}
}

// asciiJSON appends the same JSON in ASCII. Beyond it there are characters that drive
// a terminal (C1, marks that turn the writing direction), which JSON lets pass; below,
// it lets pass DEL alone.
func asciiJSON(dst, text []byte) []byte {
	for _, r := range string(bytes.TrimSpace(text)) {
		switch {
		case r < 0x7f:
			dst = append(dst, byte(r))
		case r < 0x10000:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		default: // as a pair of surrogates, RFC 8259 section 7
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		}
	}
	return dst
}

// print writes the first full second as a table.
func (s *topStream) print(w io.Writer, screen table.Screen) error {
	r, _, err := s.full()
	if err != nil {
		return err
	}
	var columns []table.Column
	for _, name := range s.q.names {
		columns = append(columns, table.Column{Title: name, Kind: table.Text})
	}
	t := table.New(screen, append(columns, table.Column{Title: "rate", Kind: table.Rate}, table.Column{Title: "packets/s", Kind: table.Count},
		table.Column{Title: "flows", Kind: table.Count}, table.Column{Title: "share", Kind: table.Percent}, table.Column{Kind: table.Bar})...)
	greatest := r.greatest(s.q.sort)
	add := func(group []string, c *topCounts, bar float64) {
		var cells []any
		for i := range s.q.names {
			if i < len(group) {
				cells = append(cells, group[i])
			} else {
				cells = append(cells, "")
			}
		}
		t.Row(append(cells, r.perSecond(c.Octets), r.perSecond(c.Packets), c.Flows, ratio(c.metric(s.q.sort), r.Total.metric(s.q.sort)), bar)...)
	}
	for i := range r.Rows {
		c := &r.Rows[i].topCounts
		add(r.Rows[i].Group, c, ratio(c.metric(s.q.sort), greatest))
	}
	if label := r.othersLabel(); label != "" {
		add([]string{label}, &r.Others, 0)
	}
	add([]string{"total"}, &r.Total, 0)
	var sb strings.Builder
	fmt.Fprintf(&sb, "%s UTC, %.1f s: %s groups by %s\n", r.Time.UTC().Format("2006-01-02 15:04:05"), r.Seconds, table.AppendCount(nil, uint64(max(r.Groups, 0))), s.q.sort)
	if _, err := t.WriteTo(&sb); err != nil {
		return err
	}
	return writeAll(w, []byte(sb.String()))
}

// perSecond returns a count as so many a second, rounded.
func (r *topReply) perSecond(n uint64) uint64 {
	if f := float64(n)/r.Seconds + 0.5; f < 1<<63 {
		return uint64(f)
	}
	return 1 << 63
}

// metric is what shares are of: what is sorted by, bytes where that is a column of the group.
func (c *topCounts) metric(sort string) uint64 {
	switch sort {
	case "packets":
		return c.Packets
	case "flows":
		return c.Flows
	}
	return c.Octets
}

func (r *topReply) greatest(sort string) (most uint64) {
	for i := range r.Rows {
		most = max(most, r.Rows[i].metric(sort))
	}
	return most
}

// othersLabel names the groups that have no row, "" if there are none.
func (r *topReply) othersLabel() string {
	if n := r.Groups - len(r.Rows); n > 0 {
		return fmt.Sprintf("%d others", n)
	}
	return ""
}

// topFeed carries seconds to a screen: of what was asked for last, from an agent that
// may go away and come back.
type topFeed struct {
	open  func(context.Context, topRequest) (*topStream, error)
	send  func(tea.Msg)
	retry time.Duration // before the agent is asked again
	quiet time.Duration // without a line, after which the screen says so

	mu   sync.Mutex
	last topAsk
	stop context.CancelFunc // ends what is being read
}

// topAsk is the n-th wish of who sits before the screen.
type topAsk struct {
	n int
	q topRequest
}

// What a feed sends. The n tells of which wish it is: others may still be under way.
type (
	topSecondMsg struct {
		topAsk
		reply *topReply
	}
	topLostMsg struct {
		n   int
		why string
	}
)

// ask asks for something else from now on.
func (f *topFeed) ask(a topAsk) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a.n <= f.last.n {
		return // a later one has overtaken it
	}
	f.last = a
	if f.stop != nil {
		f.stop()
	}
}

// run reads until ctx is done.
func (f *topFeed) run(ctx context.Context) {
	for ctx.Err() == nil {
		f.mu.Lock()
		a := f.last
		one, stop := context.WithCancel(ctx)
		f.stop = stop
		f.mu.Unlock()
		if err := f.read(one, a); one.Err() == nil {
			f.send(topLostMsg{a.n, err.Error()})
			select {
			case <-time.After(f.retry):
			case <-one.Done():
			}
		}
		stop()
	}
}

// read sends seconds until there are no more.
func (f *topFeed) read(ctx context.Context, a topAsk) error {
	// An agent that hangs keeps its socket open.
	quiet := time.AfterFunc(f.quiet, func() { f.send(topLostMsg{a.n, fmt.Sprintf("no answer for %v", f.quiet)}) })
	defer quiet.Stop()
	stream, err := f.open(ctx, a.q)
	if err != nil {
		return err
	}
	defer stream.Close()
	for {
		r, _, err := stream.next()
		if err != nil {
			return err
		}
		quiet.Reset(f.quiet)
		f.send(topSecondMsg{a, r})
	}
}

// showTop fills the terminal until somebody quits.
func showTop(ctx context.Context, q topRequest, open func(context.Context, topRequest) (*topStream, error)) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP) // main has the others
	defer stop()
	feed := &topFeed{open: open, retry: time.Second, quiet: 5 * time.Second, last: topAsk{1, q}}
	screen := newTopScreen(q, table.ScreenOf(os.Stdout).ASCII, feed.ask)
	p := tea.NewProgram(screen, tea.WithoutSignalHandler())
	feed.send = p.Send
	var group errgroup.Group
	group.Go(func() (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
				p.Kill() // leaves the alternate screen, where nobody could read it later
			}
		}()
		feed.run(ctx)
		p.Quit() // on a signal
		return nil
	})
	_, err := p.Run()
	stop()
	if err := group.Wait(); err != nil {
		return err
	}
	if err != nil {
		return fmt.Errorf("show on the terminal: %w", err)
	}
	return nil
}

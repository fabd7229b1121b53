package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/exporter"
	"weir/exporter/clickhouse"
	"weir/exporter/table"
)

// query is one question to ClickHouse: what all subcommands have in common.
type query struct {
	since, until string
	where        string
	limit        int
	output       string
	timeout      time.Duration

	out, errOut io.Writer
	screen      table.Screen

	reader *clickhouse.Reader
	filter string   // SQL condition on rows of flows
	asked  timeSpan // --since, --until
	held   timeSpan // what the table holds
	span   timeSpan // what the answer covers: both
}

// newQueryCommand returns `weir query`; server says which ClickHouse to ask, and is
// called when a question is asked.
func newQueryCommand(server func() (clickhouse.Options, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "query",
		Short: "Ask ClickHouse who talked to whom",
		Long: `Query asks the table flows and prints what it says as a table, as JSON (one object a
line) or as CSV. Times are UTC. An interval belongs to a time range if it begins
in it; without --since and --until the range is everything that the table holds.

A flow has two directions: bytes and packets are what the initiator (src_ip) sent,
reverse_bytes and reverse_packets what it received; total_bytes is both.

Every question is read-only, whatever the user's rights, and bounded in time,
memory and length of the answer.`,
	}
	cmd.AddCommand(newTopCommand(server), newSeriesCommand(server), newFlowsCommand(server))
	return cmd
}

// addFlags adds the flags that all questions have.
func (q *query) addFlags(cmd *cobra.Command, limit int, limitUsage string) {
	fs := cmd.Flags()
	fs.StringVar(&q.since, "since", "", "from this `TIME` on: 2026-01-02T15:04:05Z, 2026-01-02 15:04, 2026-01-02, or 1h30m, 7d ago")
	fs.StringVar(&q.until, "until", "", "before this `TIME`, in the same forms")
	fs.StringVarP(&q.where, "where", "w", "", "only rows for which this ClickHouse `EXPRESSION` is true, such as \"dst_port = 443 and bytes > 1e6\"")
	fs.IntVarP(&q.limit, "limit", "n", limit, limitUsage)
	fs.StringVarP(&q.output, "output", "o", "table", "table, json (one object a line) or csv")
	fs.DurationVar(&q.timeout, "timeout", 30*time.Second, "give up after this `TIME`")
	complete := func(values ...string) cobra.CompletionFunc {
		return cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)
	}
	for flag, values := range map[string][]string{"output": {"table", "json", "csv"}, "since": nil, "until": nil, "where": nil, "limit": nil, "timeout": nil} {
		if err := cmd.RegisterFlagCompletionFunc(flag, complete(values...)); err != nil {
			panic(err) // the flag is not there: a mistake above
		}
	}
}

// maxLimit bounds --limit: what a table or a client can still hold.
const maxLimit = 1_000_000

// errNothing ends a question whose answer is empty; what there is to say has been said.
var errNothing = errors.New("nothing found")

// run connects, finds out the time range and asks.
func (q *query) run(cmd *cobra.Command, server func() (clickhouse.Options, error), ask func(context.Context) error) error {
	q.out, q.errOut, q.screen = cmd.OutOrStdout(), cmd.ErrOrStderr(), table.ScreenOf(os.Stdout)
	if err := q.validate(time.Now()); err != nil {
		return err
	}
	o, err := server()
	if err != nil {
		return err
	}
	q.reader, err = clickhouse.NewReader(cmd.Context(), o, clickhouse.Limits{Time: q.timeout})
	if err != nil {
		return err
	}
	err = q.ask(cmd.Context(), ask)
	if cerr := q.reader.Close(); err == nil {
		err = cerr
	}
	return err
}

// ask asks over a connection that is there.
func (q *query) ask(ctx context.Context, ask func(context.Context) error) error {
	err := q.findRange(ctx)
	if err == nil {
		err = ask(ctx)
	}
	var refused *clickhouse.Error
	switch {
	case errors.Is(err, errNothing):
		return nil
	case errors.As(err, &refused) && refused.Statement() && q.where != "":
		return fmt.Errorf("%w; see --where", err)
	}
	return err
}

// validate checks the flags and prepares the condition.
func (q *query) validate(now time.Time) error {
	switch q.output {
	case "table", "json", "csv":
	default:
		return usage("--output: %q is not one of table, json, csv", q.output)
	}
	if q.limit < 1 || q.limit > maxLimit {
		return usage("--limit: %d is not between 1 and %d", q.limit, maxLimit)
	}
	if q.timeout < time.Second {
		return usage("--timeout: %v is less than a second", q.timeout)
	}
	var err error
	if q.asked, err = parseSpan(q.since, q.until, now); err != nil {
		return usage("%w", err)
	}
	q.filter = "ts >= {from:DateTime('UTC')} AND ts <= {to:DateTime('UTC')}"
	if q.where != "" {
		expr, err := clickhouse.Expression(q.where)
		if err != nil {
			return usage("--where: %w", err)
		}
		q.filter += " AND " + expr
	}
	return nil
}

// findRange asks what the table holds, which it knows without reading rows, and
// narrows the question to it.
func (q *query) findRange(ctx context.Context) error {
	var n uint64
	err := q.reader.Query(ctx, "SELECT count(), min(ts), max(ts) FROM "+q.reader.Table(), nil, 10, func(r clickhouse.Rows) error {
		return r.Scan(&n, &q.held.from, &q.held.to)
	}, nil)
	if err != nil {
		return err
	}
	if n == 0 {
		fmt.Fprintf(q.errOut, "%s is empty: fill it with `weir replay --output clickhouse FILE`\n", q.reader.Name())
		return errNothing
	}
	q.span = timeSpan{later(q.asked.from, q.held.from), earlier(q.asked.to, q.held.to)}
	if q.span.to.Before(q.span.from) {
		return q.nothing()
	}
	return nil
}

// nothing says that there is no answer, and where to look for one.
func (q *query) nothing() error {
	what := "no flows"
	if q.where != "" {
		what = "no flows where " + exporter.Escape(q.where, q.screen.ASCII)
	}
	fmt.Fprintf(q.errOut, "%s from %s UTC; %s holds %s UTC\n", what, q.asked, q.reader.Name(), q.held)
	return errNothing
}

// parameters are the values of the filter.
func (q *query) parameters() map[string]string {
	const form = "2006-01-02 15:04:05"
	return map[string]string{"from": q.span.from.UTC().Format(form), "to": q.span.to.UTC().Format(form)}
}

// header says in one line what a table shows; JSON and CSV have none.
func (q *query) header(totals string) {
	if q.output != "table" {
		return
	}
	var sb strings.Builder
	fmt.Fprintf(&sb, "%s, %s UTC", q.reader.Name(), q.span)
	if q.span == q.held {
		sb.WriteString(" (all there is)")
	}
	if q.where != "" {
		fmt.Fprintf(&sb, ", where %s", exporter.Escape(q.where, q.screen.ASCII))
	}
	fmt.Fprintf(q.out, "%s: %s\n", sb.String(), totals)
}

// timeSpan is a range of whole seconds, both ends included.
type timeSpan struct{ from, to time.Time }

// everything is all that a DateTime can be.
var everything = timeSpan{time.Unix(0, 0).UTC(), time.Unix(math.MaxUint32, 0).UTC()}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// String names both ends, the second one without the date if it is the same.
func (s timeSpan) String() string {
	const date, clock = "2006-01-02", "15:04:05"
	from, to := s.from.UTC().Format(date+" "+clock), s.to.UTC().Format(date+" "+clock)
	if from[:len(date)] == to[:len(date)] {
		to = to[len(date)+1:]
	}
	if s.from.Equal(everything.from) {
		from = "the beginning"
	}
	if s.to.Equal(everything.to) {
		to = "the end"
	}
	return from + " to " + to
}

package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/exporter/clickhouse"
	"weir/exporter/table"
)

// seriesQuery asks how much there was at which time.
type seriesQuery struct {
	query
	every string
	by    []string

	step  int64 // seconds; 0 = to be chosen
	group []groupColumn
}

func newSeriesCommand(server func() (clickhouse.Options, error)) *cobra.Command {
	var q seriesQuery
	cmd := &cobra.Command{
		Use:   "series",
		Short: "How much there was, by time",
		Long: `Series sums flows up by time, and by other columns if --by names some.

A row of flows counts at the time at which its interval began, so steps shorter than
the interval of the meter (10 s unless configured) tell nothing new. A flow that
spans several steps counts in each.

Columns for --by: ` + strings.Join(groupNames(), ", ") + `.`,
		Example: `  weir query series                                  everything there is, in some forty steps
  weir query series --since 1d --every 1h
  weir query series --since 1h --every 1m --by proto
  weir query series --where "dst_port = 443" --output csv > https.csv`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := q.parse(); err != nil {
				return err
			}
			return q.run(cmd, server, q.answer)
		},
	}
	q.addFlags(cmd, 1000, "this many rows at most")
	cmd.Flags().StringVarP(&q.every, "every", "e", "", "step of `TIME`: 10s, 5m, 1h, 1d (default by the range)")
	addGroupFlag(cmd, &q.by, nil, "also by these `COLUMNS`")
	return cmd
}

func (q *seriesQuery) parse() (err error) {
	if q.group, err = parseGroup(q.by); err != nil {
		return usage("%w", err)
	}
	if q.every != "" {
		d, err := parseAgo(q.every)
		if err != nil || d < time.Second || d%time.Second != 0 {
			return usage("--every: %q is not a time of whole seconds such as 10s, 5m, 1h, 1d", q.every)
		}
		q.step = int64(d / time.Second)
	}
	return nil
}

// steps are the lengths that are chosen from, in seconds; shorter ones than the
// meter's usual interval would show gaps where there are none.
var steps = []int64{10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 4 * 3600, 6 * 3600, 12 * 3600, 86400, 7 * 86400, 28 * 86400, 364 * 86400}

// lines is about how many steps a range is cut into when nobody says how long one is.
const lines = 40

func chooseStep(s timeSpan) int64 {
	length := s.to.Unix() - s.from.Unix() + 1
	for _, step := range steps {
		if length/step <= lines {
			return step
		}
	}
	return steps[len(steps)-1]
}

// stepName names a step in the greatest unit that divides it.
func stepName(seconds int64) string {
	for _, u := range []struct {
		length int64
		name   string
	}{{86400, "d"}, {3600, "h"}, {60, "m"}} {
		if seconds%u.length == 0 {
			return strconv.FormatInt(seconds/u.length, 10) + u.name
		}
	}
	return strconv.FormatInt(seconds, 10) + "s"
}

// moment is a row of the answer.
type moment struct {
	at    int64 // seconds since the epoch
	cells []cell
	sums  sums
}

func (q *seriesQuery) answer(ctx context.Context) error {
	if q.step == 0 {
		q.step = chooseStep(q.span)
	}
	first, last := q.span.from.Unix()/q.step, q.span.to.Unix()/q.step
	if n := last - first + 1; len(q.group) == 0 && n > int64(q.limit) { // each step makes a row, even if empty
		return usage("--every: %d steps of %s from %s are more than --limit %d rows: take longer steps or a shorter range", n, stepName(q.step), q.span, q.limit)
	}
	moments, all, err := q.read(ctx)
	if err != nil {
		return err
	}
	if len(moments) == 0 {
		return q.nothing()
	}
	if len(moments) > q.limit {
		moments = moments[:q.limit]
		fmt.Fprintf(q.errOut, "only the first %d rows are shown: raise --limit, or take longer steps\n", q.limit)
	}
	if len(q.group) == 0 {
		moments = fill(moments, first*q.step, last*q.step, q.step)
	}
	q.header(all.String() + ", in steps of " + stepName(q.step))
	var greatest uint64
	for i := range moments {
		greatest = max(greatest, moments[i].sums.totalBytes())
	}
	columns := append([]answerColumn{{name: "time", title: "time", kind: table.Text, shown: true}}, groupAnswer(q.group)...)
	columns = append(columns, sumsAnswer...)
	columns = append(columns, answerColumn{title: "rate", kind: table.Rate, shown: true})
	var rows [][]cell
	for i := range moments {
		m := &moments[i]
		at := time.Unix(m.at, 0).UTC()
		row := append([]cell{{at, at.Format(q.timeForm())}}, m.cells...)
		row = append(row, sumsCells(&m.sums, ratio(m.sums.totalBytes(), all.totalBytes()), ratio(m.sums.totalBytes(), greatest))...)
		rows = append(rows, append(row, cell{nil, m.sums.totalBytes() / uint64(q.step)}))
	}
	return q.write(columns, rows)
}

// timeForm leaves out what all rows share.
func (q *seriesQuery) timeForm() string {
	form := "15:04:05"
	if q.step%60 == 0 {
		form = "15:04"
	}
	const date = "2006-01-02"
	if q.step%86400 == 0 {
		return date
	}
	if q.span.from.UTC().Format(date) != q.span.to.UTC().Format(date) {
		return date + " " + form
	}
	return form
}

// read returns the rows that there are, one more than the limit at most, in order,
// and what all of them amount to.
func (q *seriesQuery) read(ctx context.Context) (moments []moment, all sums, err error) {
	list, aliases := selectGroup(q.group)
	list = append([]string{fmt.Sprintf("toInt64(intDiv(toUnixTimestamp(ts), %d)) * %d AS at", q.step, q.step)}, list...)
	order := append([]string{"at", "s_bytes + s_reverse_bytes DESC"}, aliases...)
	aliases = append([]string{"at"}, aliases...)
	sql := fmt.Sprintf("SELECT %s, %s FROM %s WHERE %s GROUP BY %s WITH TOTALS ORDER BY %s LIMIT %d",
		strings.Join(list, ", "), selectSums, q.reader.Table(), q.filter, strings.Join(aliases, ", "), strings.Join(order, ", "), q.limit+1)
	places := func(m *moment) []any {
		ps := []any{&m.at}
		for _, c := range q.group {
			ps = append(ps, c.place())
		}
		return append(ps, m.sums.places()...)
	}
	var totals moment
	err = q.reader.Query(ctx, sql, q.parameters(), uint64(q.limit)+2, func(r clickhouse.Rows) error {
		var m moment
		ps := places(&m)
		if err := r.Scan(ps...); err != nil {
			return err
		}
		m.cells = groupCells(q.group, ps[1:])
		moments = append(moments, m)
		return nil
	}, func(r clickhouse.Rows) error { return r.Totals(places(&totals)...) })
	return moments, totals.sums, err
}

// fill puts empty rows where a step has none, for a line of time has no gaps.
func fill(moments []moment, first, last, step int64) []moment {
	out := make([]moment, 0, (last-first)/step+1)
	for at := first; at <= last; at += step {
		if len(moments) > 0 && moments[0].at == at {
			out, moments = append(out, moments[0]), moments[1:]
			continue
		}
		out = append(out, moment{at: at})
	}
	return out
}

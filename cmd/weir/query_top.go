package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"weir/exporter/clickhouse"
)

// topQuery asks for the greatest groups.
type topQuery struct {
	query
	by   []string
	sort string

	group  []groupColumn
	metric metric
}

func newTopCommand(server func() (clickhouse.Options, error)) *cobra.Command {
	var q topQuery
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Who sends and receives most",
		Long: `Top groups flows by columns and prints the groups with most bytes, packets or flows.

Columns for --by: ` + strings.Join(groupNames(), ", ") + `.`,
		Example: `  weir query top                                     pairs of addresses by bytes
  weir query top --by src_ip --since 1h --limit 20   the last hour's initiators
  weir query top --by proto,dst_port --sort flows    services by number of flows
  weir query top --by dst_ip --where "proto = 6 and bitTest(tcp_flags, 1) and reverse_packets = 0"
  weir query top --by src_ip --output json | jq -r .src_ip`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := q.parse(); err != nil {
				return err
			}
			return q.run(cmd, server, q.answer)
		},
	}
	q.addFlags(cmd, 10, "this many groups at most")
	addGroupFlag(cmd, &q.by, []string{"src_ip", "dst_ip"}, "group by these `COLUMNS`")
	cmd.Flags().StringVarP(&q.sort, "sort", "s", "bytes", "most of what: bytes, packets or flows")
	if err := cmd.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions([]string{"bytes", "packets", "flows"}, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is not there: a mistake above
	}
	return cmd
}

// addGroupFlag adds --by, which completes to the names of columns.
func addGroupFlag(cmd *cobra.Command, by *[]string, value []string, usage string) {
	cmd.Flags().StringSliceVarP(by, "by", "b", value, usage)
	complete := func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		before := typed[:strings.LastIndexByte(typed, ',')+1]
		var found []string
		for _, c := range groupColumns {
			found = append(found, before+c.name+"\t"+c.doc)
		}
		return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	if err := cmd.RegisterFlagCompletionFunc("by", complete); err != nil {
		panic(err) // the flag is not there: a mistake above
	}
}

func (q *topQuery) parse() (err error) {
	if q.group, err = parseGroup(q.by); err != nil {
		return usage("%w", err)
	}
	if len(q.group) == 0 {
		return usage("--by: name a column: %s", strings.Join(groupNames(), ", "))
	}
	if q.metric, err = parseMetric(q.sort); err != nil {
		return usage("%w", err)
	}
	return nil
}

func (q *topQuery) answer(ctx context.Context) error {
	list, aliases := selectGroup(q.group)
	sql := fmt.Sprintf("SELECT %s, %s FROM %s WHERE %s GROUP BY %s WITH TOTALS ORDER BY %s DESC, %s LIMIT %d",
		strings.Join(list, ", "), selectSums, q.reader.Table(), q.filter, strings.Join(aliases, ", "),
		q.metric.expression(), strings.Join(aliases, ", "), q.limit)
	type group struct {
		cells []cell
		sums  sums
	}
	var groups []group
	places := func(s *sums) []any {
		var ps []any
		for _, c := range q.group {
			ps = append(ps, c.place())
		}
		return append(ps, s.places()...)
	}
	var all sums
	err := q.reader.Query(ctx, sql, q.parameters(), uint64(q.limit)+1, func(r clickhouse.Rows) error {
		var g group
		ps := places(&g.sums)
		if err := r.Scan(ps...); err != nil {
			return err
		}
		g.cells = groupCells(q.group, ps)
		groups = append(groups, g)
		return nil
	}, func(r clickhouse.Rows) error { return r.Totals(places(&all)...) })
	if err != nil {
		return err
	}
	if len(groups) == 0 {
		return q.nothing()
	}
	q.header(all.String())
	var rows [][]cell
	greatest := q.metric.of(&groups[0].sums)
	for _, g := range groups {
		n := q.metric.of(&g.sums)
		rows = append(rows, append(g.cells, sumsCells(&g.sums, ratio(n, q.metric.of(&all)), ratio(n, greatest))...))
	}
	return q.write(append(groupAnswer(q.group), sumsAnswer...), rows)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/exporter"
	"weir/exporter/clickhouse"
	"weir/exporter/table"
)

// audit is a question to the ledger. Of query it uses the time range, the form of the
// output and the connection.
type audit struct {
	query
	host, iface  string
	all          bool
	nicTolerance string

	now       time.Time
	tolerance float64 // part of what the interface has counted
	kept      int64   // rows of flows that are older have aged out: milliseconds since the epoch, 0 for none
	lines     []*auditLine
	hidden    int // lines beyond the limit
	sum       auditSum
}

// auditDefault is the range without --since: what a server answers at once, of a
// thousand hosts, too.
const auditDefault = "1h"

func newAuditCommand(server func() (clickhouse.Options, error)) *cobra.Command {
	var a audit
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Say whether all that was captured is in ClickHouse, once",
		Long: `Audit compares, interval by interval, the ledger (what became of each packet) with the rows of
flows, and with what the interface has counted itself. Successive intervals of an interface with
the same verdict are one line. Times are UTC.

Verdicts, and whether something is missing then (exit status 1):
  complete              all records of the interval are in flows, and the sums close
  overflow              the flow table was full: packets lost their detail, no total is wrong (not missing)
  on its way            too new to say: two intervals are waited for (not missing)
  aged out              flows has a TTL, or the whole day is gone from it (not missing)
  dropped               the kernel dropped packets: the ring was full (missing)
  unseen                the interface has counted packets that the capture has not seen (missing)
  records missing       fewer rows than records (missing)
  records lost          the agent gave records up, for the reason named (missing)
  records differ        as many rows as records, with other packets in them (missing or doubled)
  duplicates            more rows than records (doubled)
  ledger rows doubled   the ledger holds the same row more than once (doubled)
  sums open             packets of which the ledger does not say what became of them (missing)
  no ledger             rows of an interval that the ledger does not know (missing)
  batches missing       numbers of flushes that are in the ledger of no interface (missing)
  gap                   between two intervals: the agent was not running, the host was rebooted, or
                        the interface was not captured; for a host, nothing since (missing)

An agent that begins anew within an interval adds to it, and so does a clock that is set back:
what both wrote is summed up. A pause of less than a second is no gap. Gaps are looked for
between intervals of the range: a host or an interface with nothing in the range is not known.
Replayed captures have neither gaps nor counters of interfaces.

Why --nic-tolerance: rings hand packets over in blocks, some milliseconds late, and an interface
counts a packet at a time of its driver's choice. What one interval has too many is set off
against what its neighbours have too few; the rest is "unseen" if it is more than this part of
the packets that the interface has counted, and more than pass in 60 ms. An interface that
counts a super-packet as one packet has too few: that is not judged. Packets that it dropped
itself are in the columns nic_drops_in and nic_drops_out of --output json and csv, and are not
judged: rx_dropped also counts packets that the capture has seen.

What it costs: the server reads the ledger of the range, and five columns of flows, and returns
two rows for each interface and interval; a million rows of the ledger are asked for at a time.
A thousand hosts with an interface and intervals of 10 s have 360,000 an hour, which take two
cores some ten seconds, and nine million a day. It reads only, whatever the user's rights, and
an answer is bounded at 50 million rows.

Exit status: 0 nothing is missing, 1 something is, or the question failed, 2 wrong usage.`,
		Example: `  weir audit                                    the last hour
  weir audit --since 24h --host web1            a day of one host
  weir audit --since 2026-01-02 --until 2026-01-03 --interface eth0 --all
  weir audit --since 7d --host web1 --output csv > audit.csv
  weir audit --output json | jq -r 'select(.missing == 1) | .verdict'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.run(cmd, server) },
	}
	fs := cmd.Flags()
	fs.StringVar(&a.since, "since", auditDefault, "from this `TIME` on: 2026-01-02T15:04:05Z, 2026-01-02 15:04, 2026-01-02, or 1h30m, 7d ago")
	fs.StringVar(&a.until, "until", "", "before this `TIME`, in the same forms (default no end)")
	fs.StringVar(&a.host, "host", "", "only this `HOST`, as in the column host")
	fs.StringVarP(&a.iface, "interface", "i", "", "only this `INTERFACE`, as in the column iface")
	fs.BoolVar(&a.all, "all", false, "a line for each interval")
	fs.StringVar(&a.nicTolerance, "nic-tolerance", "1%", "unseen packets up to this `PART` of the interface's are taken for a matter of time")
	fs.IntVarP(&a.limit, "limit", "n", 10_000, "print this many lines at most; all are judged")
	fs.StringVarP(&a.output, "output", "o", "table", "table, json (one object a line) or csv")
	fs.DurationVar(&a.timeout, "timeout", time.Minute, "give each question up after this `TIME`")
	for flag, values := range map[string][]string{"output": {"table", "json", "csv"}, "since": {"1h", "24h", "7d"}, "until": nil, "host": nil, "interface": nil,
		"nic-tolerance": {"0%", "1%", "5%"}, "limit": nil, "timeout": nil} {
		if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
			panic(err) // the flag is not there: a mistake above
		}
	}
	return cmd
}

// errMissing ends an audit that has found something.
var errMissing = errors.New("packets or records are missing or doubled: see the verdicts")

func (a *audit) run(cmd *cobra.Command, server func() (clickhouse.Options, error)) error {
	a.out, a.errOut, a.screen, a.now = cmd.OutOrStdout(), cmd.ErrOrStderr(), table.ScreenOf(os.Stdout), time.Now()
	if cmd.Flags().Changed("until") && !cmd.Flags().Changed("since") {
		return usage("--until: say --since, too: without it the range begins an hour ago")
	}
	if err := a.validate(a.now); err != nil {
		return err
	}
	a.span = a.asked
	var err error
	if a.tolerance, err = parsePart(a.nicTolerance); err != nil {
		return usage("--nic-tolerance: %w", err)
	}
	o, err := server()
	if err != nil {
		return err
	}
	a.reader, err = clickhouse.NewReader(cmd.Context(), o, clickhouse.Limits{Time: a.timeout})
	if err != nil {
		return err
	}
	err = a.answer(cmd.Context())
	if clickhouse.Outdated(err) {
		err = fmt.Errorf("%w; bring the tables up to date with `weir schema --apply`", err)
	}
	return errors.Join(err, a.reader.Close())
}

// parsePart reads "1%" or "0.01".
func parsePart(s string) (float64, error) {
	number, percent := strings.CutSuffix(s, "%")
	f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if percent {
		f /= 100
	}
	if err != nil || !(f >= 0 && f <= 1) { // NaN is neither
		return 0, fmt.Errorf("%q is no part of a whole such as 1%% or 0.01", s)
	}
	return f, nil
}

func (a *audit) answer(ctx context.Context) error {
	if err := a.findKept(ctx); err != nil {
		return err
	}
	hosts, err := a.readHosts(ctx)
	if err != nil {
		return err
	}
	missing, err := a.readMissing(ctx)
	if err != nil {
		return err
	}
	j := newJudge(a, hosts, missing)
	if err := a.readAll(ctx, hosts, j.row); err != nil {
		return err
	}
	j.end()
	if a.sum.intervals == 0 {
		return a.nothingKnown(ctx, hosts)
	}
	if err := a.print(); err != nil {
		return err
	}
	if a.sum.missing > 0 {
		return errMissing
	}
	return nil
}

// nothingKnown returns an error that says where there is something.
func (a *audit) nothingKnown(ctx context.Context, hosts map[string]hostSpan) error {
	what := "no intervals"
	if a.iface != "" {
		what += " of interface " + exporter.Escape(a.iface, a.screen.ASCII)
	}
	if a.host != "" {
		what += " of host " + exporter.Escape(a.host, a.screen.ASCII)
	}
	if len(hosts) > 0 {
		if _, there := hosts[a.host]; !there {
			return fmt.Errorf("%s from %s UTC; hosts there are %s", what, a.span, hostNames(hosts, a.screen.ASCII))
		}
		return fmt.Errorf("%s from %s UTC; the host has others: leave --interface out", what, a.span)
	}
	var n uint64
	var held timeSpan
	err := a.reader.Query(ctx, "SELECT count(), min(ts), max(ts) FROM "+a.reader.LedgerTable(), nil, 1, func(r clickhouse.Rows) error {
		return r.Scan(&n, &held.from, &held.to)
	}, nil)
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("%s is empty: fill it with `weir run`, or with `weir replay --output clickhouse FILE`", a.reader.LedgerName())
	}
	return fmt.Errorf("%s from %s UTC; %s holds %s UTC: see --since and --until", what, a.span, a.reader.LedgerName(), held)
}

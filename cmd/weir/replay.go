package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"weir/capture"
	"weir/capture/pcap"
	"weir/exporter"
	"weir/exporter/clickhouse"
	"weir/exporter/jsonl"
	"weir/exporter/table"
	"weir/flows"
)

// replayFlags are the flags of weir replay.
type replayFlags struct {
	output     string
	interval   string
	idle       string
	active     string
	max        int
	uniflow    bool
	local      []string
	rebase     string
	token      string
	host       string
	iface      string
	noProgress bool
}

func newReplayCommand(cfg *config) *cobra.Command {
	var f replayFlags
	cmd := &cobra.Command{
		Use:   "replay [flags] FILE...",
		Short: "Make flows of capture files",
		Long: `Replay meters the packets of capture files, pcap or pcapng, plain or compressed
with gzip or zstd, on the captures' own clock, and writes the flows to standard
output or to ClickHouse. FILE - is standard input. Several files are one capture,
in the order given.

The same files with the same flags give the same output, byte for byte. At the end
one line of counts goes to standard error. What they mean is in the README.

Exit status: 0 done, 1 failed, 2 wrong usage, 3 a file is damaged or cut (the flows
up to there are written), 4 a file is no capture.`,
		Example: `  weir replay web.pcap                                    who talked to whom, as a table
  weir replay --output jsonl --interval 0 web.pcap        one JSON object a flow
  weir replay --output jsonl --uniflow --interval 0 a.pcap | jq .bytes
  weir replay --local-net 10.0.0.0/8 --output csv a.pcap.gz > flows.csv
  weir replay --output clickhouse --rebase now day1.pcapng day2.pcapng
  weir replay --output clickhouse --token day1 day1.pcapng  counts once, however often it is run
  ssh host tcpdump -i eth0 -w - | weir replay -`,
		Args: func(_ *cobra.Command, files []string) error {
			if len(files) == 0 {
				return errors.New("name a capture file, or - for standard input")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, files []string) error {
			return f.run(cmd, cfg, files)
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&f.output, "output", "o", "table", "where flows go: table, jsonl, csv, clickhouse or none")
	fs.StringVar(&f.interval, "interval", "10s", "a record covers at most this much `TIME`, cut at its multiples; 0 makes the whole capture one interval")
	fs.StringVar(&f.idle, "idle-timeout", "1m", "a flow without packets for this `TIME` has ended; 0 means never")
	fs.StringVar(&f.active, "active-timeout", "30m", "a flow older than this `TIME` ends and goes on as a new one; 0 means never")
	fs.IntVar(&f.max, "max-flows", 4<<20, "flows that an interface's table holds; packets of more are summed up by protocol")
	fs.BoolVar(&f.uniflow, "uniflow", false, "one record per direction, unpaired")
	fs.StringSliceVar(&f.local, "local-net", nil, "`CIDR` of the host's side, tells in from out where the capture does not; may be repeated")
	fs.StringVar(&f.rebase, "rebase", "", "move the capture so that its first packet is at this `TIME`: now, or RFC 3339")
	fs.StringVar(&f.token, "token", "", "`NAME` for this replay into ClickHouse: the same records under the same name count once (default a random one)")
	fs.StringVar(&f.host, "host", "replay", "`NAME` in the column host")
	fs.StringVar(&f.iface, "interface", "", "`NAME` of interfaces that the capture does not name (default the file's name)")
	fs.BoolVar(&f.noProgress, "no-progress", false, "no progress bar on a terminal")
	for flag, values := range map[string][]string{
		"output": {"table", "jsonl", "csv", "clickhouse", "none"}, "rebase": {"now"},
		"interval": nil, "idle-timeout": nil, "active-timeout": nil, "max-flows": nil, "local-net": nil, "token": nil, "host": nil, "interface": nil,
	} {
		if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
			panic(err) // the flag is not there: a mistake above
		}
	}
	return cmd
}

// metering checks the flags and returns a replay of them.
func (f *replayFlags) metering(cmd *cobra.Command, cfg *config) (*metering, error) {
	m := &metering{host: f.host}
	for _, d := range []struct {
		flag, key string
		to        *time.Duration
	}{
		{"interval", "flows.interval", &m.interval},
		{"idle-timeout", "flows.idle_timeout", &m.tracker.Idle},
		{"active-timeout", "flows.active_timeout", &m.tracker.Active},
	} {
		var err error
		if *d.to, err = cfg.duration(d.key, cmd.Flags().Lookup(d.flag)); err != nil {
			return nil, usage("%w", err)
		}
	}
	m.max = cfg.v.GetInt("flows.max")
	if cmd.Flags().Changed("max-flows") {
		m.max = f.max
	}
	if m.max < 1 || m.max > 1<<28 {
		return nil, usage("flows.max, --max-flows: %d is not between 1 and %d", m.max, 1<<28)
	}
	m.tracker.Max, m.tracker.Uniflow = m.max, f.uniflow
	for _, s := range f.local {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			if a, aerr := netip.ParseAddr(s); aerr == nil {
				p, err = netip.PrefixFrom(a, a.BitLen()), nil
			}
		}
		if err != nil {
			return nil, usage("--local-net: %q is not an address range such as 10.0.0.0/8 or fd00::/8", s)
		}
		m.local = append(m.local, p.Masked())
	}
	var err error
	if m.shift, err = f.shift(); err != nil {
		return nil, err
	}
	if f.token != "" && f.output != "clickhouse" {
		return nil, usage("--token is for --output clickhouse")
	}
	return m, nil
}

// shift returns how --rebase moves time.
func (f *replayFlags) shift() (func(int64) int64, error) {
	if f.rebase == "" {
		return nil, nil
	}
	to := time.Now()
	if f.rebase != "now" {
		var err error
		if to, err = time.Parse(time.RFC3339Nano, f.rebase); err != nil {
			return nil, usage("--rebase: %q is neither now nor a time such as 2026-01-02T15:04:05Z", f.rebase)
		}
		if to.Before(time.Unix(0, 0)) || to.After(time.Unix(0, capture.MaxTime)) {
			return nil, usage("--rebase: %s is not between 1970 and 2116", f.rebase)
		}
	} else if f.token != "" {
		return nil, usage("--token with --rebase now: every run gives other records, which no token can match; name a time")
	}
	return func(first int64) int64 { return to.UnixNano() - first }, nil
}

// run replays the files. A first interrupt ends the input, not the output.
func (f *replayFlags) run(cmd *cobra.Command, cfg *config, files []string) error {
	ctx, stderr := cmd.Context(), cmd.ErrOrStderr()
	m, err := f.metering(cmd, cfg)
	if err != nil {
		return err
	}
	if err := checkFiles(files); err != nil {
		return err
	}
	sink, err := f.sink(ctx, cfg, cmd.OutOrStdout(), stderr)
	if err != nil {
		return err
	}
	p := newProgress(stderr, f.noProgress || f.sharesTerminal())
	began := time.Now()
	in := &input{files: files, iface: f.iface, progress: p}
	// Damage ends a file and not the replay; it is said when all is read, below
	// the progress bar.
	var damage error
	m.damaged = func(err error) { damage = errors.Join(damage, err) }
	patience := interrupted(ctx, stderr)
	err = m.run(ctx, in.next, sink)
	patience()
	p.done()
	for _, w := range in.unsupported(m) {
		fmt.Fprintln(stderr, "weir:", w)
	}
	if !m.exported {
		if f.output == "clickhouse" && f.rebase != "now" {
			err = fmt.Errorf("%w\nTo send it all again without counting twice what has arrived: the same command with --token %s", err, f.token)
		}
		return err // and no counts: nobody knows how much of them arrived
	}
	if err = errors.Join(damage, err); err == nil && m.total.Packets > 0 && m.total.Causes[flows.ErrorLinkType] == m.total.Packets {
		err = errors.New("no packet could be decoded: none is of a supported link type")
	}
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprint(stderr, "weir: ", line)
		}
		fmt.Fprintln(stderr)
	}
	fmt.Fprintln(stderr, m.summary(time.Since(began)))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pcap.ErrNotCapture):
		return &exitError{exitNotCapture, err, true}
	case damage != nil:
		return &exitError{exitDamaged, err, true}
	}
	return &exitError{exitFailure, err, true}
}

// interrupted tells somebody who has interrupted the replay and waits for more
// than a second what for. The function that it returns ends the watch.
func interrupted(ctx context.Context, stderr io.Writer) (done func()) {
	ended := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-ctx.Done():
		case <-ended:
			return
		}
		select {
		case <-time.After(time.Second):
			fmt.Fprintln(stderr, "weir: interrupted; writing what was read. Interrupt again to give up")
		case <-ended:
		}
	})
	return func() {
		close(ended)
		watch.Wait()
	}
}

// sharesTerminal reports whether records go to a terminal, where a progress bar
// would run into them.
func (f *replayFlags) sharesTerminal() bool {
	return f.output != "none" && f.output != "clickhouse" && term.IsTerminal(int(os.Stdout.Fd()))
}

// sink returns where the records go.
func (f *replayFlags) sink(ctx context.Context, cfg *config, out, stderr io.Writer) (exporter.Sink, error) {
	if sink := textSink(f.output, out, f.uniflow); sink != nil {
		return sink, nil
	}
	switch f.output {
	case "clickhouse":
		o, err := cfg.clickhouse()
		if err != nil {
			return nil, err
		}
		if f.token == "" {
			f.token = rand.Text()
		}
		return clickhouse.NewSink(ctx, o, clickhouse.SinkOptions{
			Token:   f.token,
			Version: versionString(),
			Report: func(err error) {
				if err == nil {
					err = errors.New("ClickHouse takes records again")
				}
				fmt.Fprintln(stderr, "weir:", err)
			},
		})
	}
	return nil, usage("--output: %q is not one of table, jsonl, csv, clickhouse, none", f.output)
}

// textSink returns the sink of an output that needs no server, nil for any other.
func textSink(output string, out io.Writer, uniflow bool) exporter.Sink {
	switch output {
	case "table":
		return table.NewSink(out, uniflow, table.ScreenOf(os.Stdout))
	case "jsonl":
		return jsonl.New(out, uniflow)
	case "csv":
		return table.NewCSV(out, uniflow)
	case "none":
		return nothing{}
	}
	return nil
}

// nothing is the sink of --output none.
type nothing struct{}

func (nothing) Write(context.Context, *flows.Batch) error { return nil }
func (nothing) Close(context.Context) error               { return nil }

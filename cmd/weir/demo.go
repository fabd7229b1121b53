package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/capture/pcap"
	"weir/exporter/clickhouse"
	"weir/exporter/clickhouse/local"
	"weir/testdata"
)

// demo is the whole path once, on a capture that the binary carries.
type demo struct {
	cfg        *config
	noWait     bool
	noProgress bool
	out        io.Writer // what the demo shows
	err        io.Writer // progress
	server     *local.Server
	options    clickhouse.Options
}

// demoDatabase keeps the demo's flows apart from all others.
const demoDatabase = "weir_demo"

// demoCapture is the capture in package testdata, and demoLocal the side of it
// that is taken for the own network.
const demoCapture = "long.pcap"

var demoLocal = []string{"10.99.1.0/24", "fd99::1:0/112"}

// demoTimeout bounds each step but the download.
const demoTimeout = time.Minute

func newDemoCommand(cfg *config) *cobra.Command {
	d := demo{cfg: cfg}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it at work: a ClickHouse, a capture, the first answers",
		Long: `Demo starts a local ClickHouse server (the first time it downloads one, 178 MB),
replays a capture of a small network that this program carries, and asks who talked
to whom. It then waits, so that you can ask further, and stops the server at Ctrl-C.

If a ClickHouse is configured, or a local one is running, it uses that one. Its flows
go to the database ` + demoDatabase + `, which it makes anew each time; it touches no other.`,
		Example: `  weir demo
  weir demo --no-wait
  weir demo --clickhouse db.example.net:9000 --user me --password-file pw`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("database") {
				return usage("--database: the demo has a database of its own, %s", demoDatabase)
			}
			d.out, d.err = cmd.OutOrStdout(), cmd.ErrOrStderr()
			err := d.run(cmd.Context())
			if d.server != nil {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), demoTimeout)
				defer cancel()
				if serr := d.server.Stop(ctx); err == nil {
					err = serr
				}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&d.noWait, "no-wait", false, "end after the answers")
	cmd.Flags().BoolVar(&d.noProgress, "no-progress", false, "no progress bars on a terminal")
	return cmd
}

func (d *demo) run(ctx context.Context) error {
	steps := []struct {
		title string
		do    func(context.Context) error
	}{
		{"ClickHouse", d.startServer},
		{"Tables", d.makeTables},
		{"Replay", d.replay},
		{"Answers", d.ask},
	}
	for i, s := range steps {
		fmt.Fprintf(d.out, "%d. %s\n", i+1, s.title)
		if err := s.do(ctx); err != nil {
			return err
		}
	}
	return d.wait(ctx)
}

// startServer finds a server or starts one.
func (d *demo) startServer(ctx context.Context) error {
	if len(d.cfg.addr()) == 0 {
		running, err := local.Running(d.cfg.v.GetString("clickhouse.data"))
		if err != nil {
			return err
		}
		if running == nil {
			began := time.Now()
			d.server, err = local.Start(ctx, local.Options{
				DataDir:    d.cfg.v.GetString("clickhouse.data"),
				TCPPort:    freeOr(9000),
				HTTPPort:   freeOr(8123),
				NoProgress: d.noProgress,
				Stderr:     d.err,
			})
			if err != nil {
				return err
			}
			d.say("ClickHouse %s, started in %.1f s, ends with this demo", d.server.Version, time.Since(began).Seconds())
			d.say("native protocol %s, HTTP %s, data in %s", d.server.Addr, d.server.HTTPAddr, d.server.DataDir)
		}
	}
	var err error
	if d.options, err = d.cfg.clickhouse(); err != nil {
		return err
	}
	if d.server == nil {
		d.say("the server at %s", d.options.Server())
	}
	d.options.Database = demoDatabase
	return nil
}

// freeOr returns port, or 0 for any free port if it is taken.
func freeOr(port int) int {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", fmt.Sprint(port)))
	if err != nil {
		return 0
	}
	l.Close()
	return port
}

func (d *demo) makeTables(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	if err := clickhouse.Drop(ctx, d.options); err != nil {
		return err
	}
	if err := clickhouse.Apply(ctx, d.options, clickhouse.SchemaOptions{}); err != nil {
		return err
	}
	d.say("database %s: flows, its sums per minute in flows_1m, and the ledger", demoDatabase)
	return nil
}

// replay sends the capture twice under one token, to show that it counts once.
func (d *demo) replay(ctx context.Context) error {
	span, err := captureSpan()
	if err != nil {
		return err
	}
	start := time.Now().Add(-span).Truncate(10 * time.Second)
	d.say("%s: %s of a small network (an office, some servers), moved to end about now", demoCapture, span.Round(time.Second))
	line, err := d.send(ctx, start)
	if err != nil {
		return err
	}
	d.say("%s", line)
	once, err := d.rows(ctx)
	if err != nil {
		return err
	}
	if _, err := d.send(ctx, start); err != nil {
		return err
	}
	twice, err := d.rows(ctx)
	if err != nil {
		return err
	}
	if once != twice {
		return fmt.Errorf("the capture sent again under the same token added %d rows", twice-once)
	}
	d.say("%d rows; the same sent again under the same token: %d rows", once, twice)
	return nil
}

// send replays the capture into ClickHouse and returns the line of counts.
func (d *demo) send(ctx context.Context, start time.Time) (string, error) {
	m := &metering{
		host:     "router",
		interval: 10 * time.Second,
		max:      1 << 16,
		shift:    func(first int64) int64 { return start.UnixNano() - first },
	}
	m.tracker.Idle, m.tracker.Active, m.tracker.Max = time.Minute, 30*time.Minute, m.max
	for _, s := range demoLocal {
		m.local = append(m.local, netip.MustParsePrefix(s))
	}
	sink, err := clickhouse.NewSink(ctx, d.options, clickhouse.SinkOptions{
		Token: fmt.Sprintf("demo/%d", start.Unix()), Version: versionString(),
	})
	if err != nil {
		return "", err
	}
	file, err := testdata.Demo.Open(demoCapture)
	if err != nil {
		return "", err
	}
	defer file.Close()
	r, err := pcap.NewReader(file, demoCapture)
	if err != nil {
		return "", err
	}
	began := time.Now()
	p := newProgress(d.err, d.noProgress)
	p.file(demoCapture, r)
	err = m.run(ctx, one(r, "lan"), sink)
	p.done()
	return m.summary(time.Since(began)), err
}

// captureSpan returns the time between the first and the last packet.
func captureSpan() (time.Duration, error) {
	file, err := testdata.Demo.Open(demoCapture)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	r, err := pcap.NewReader(file, demoCapture)
	if err != nil {
		return 0, err
	}
	var first, last int64
	for {
		packets, err := r.NextBatch()
		if err == io.EOF {
			return time.Duration(last - first), nil
		}
		if err != nil {
			return 0, err
		}
		if first == 0 {
			first = packets[0].Time
		}
		last = packets[len(packets)-1].Time
	}
}

func (d *demo) rows(ctx context.Context) (n uint64, err error) {
	r, err := clickhouse.NewReader(ctx, d.options, clickhouse.Limits{})
	if err != nil {
		return 0, err
	}
	defer r.Close()
	err = r.Query(ctx, "SELECT count() FROM "+r.Table(), nil, 1, func(rows clickhouse.Rows) error { return rows.Scan(&n) }, nil)
	return n, err
}

// ask asks the questions of the README with the commands that users have.
func (d *demo) ask(ctx context.Context) error {
	for _, args := range [][]string{
		{"top", "--by", "src_ip,dst_ip", "--limit", "8"},
		{"top", "--by", "proto"},
		{"series", "--every", "10s"},
	} {
		fmt.Fprintf(d.out, "\n$ %s query %s %s\n", os.Args[0], strings.Join(args, " "), d.reach())
		cmd := newQueryCommand(func() (clickhouse.Options, error) { return d.options, nil })
		cmd.SetArgs(args)
		cmd.SetOut(d.out)
		cmd.SetErr(d.err)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		if err := cmd.ExecuteContext(ctx); err != nil {
			return err
		}
	}
	return nil
}

// reach is what a further command needs on its command line to ask the same server.
func (d *demo) reach() string {
	flags := []string{"--database", demoDatabase}
	for _, name := range []string{"clickhouse", "user", "password-file", "data"} {
		if key := flagKeys[name]; d.cfg.v.IsSet(key) {
			if v := strings.Join(d.cfg.v.GetStringSlice(key), ","); v != "" {
				flags = append(flags, "--"+name, v)
			}
		}
	}
	return strings.Join(flags, " ")
}

// wait says how to ask further, and keeps the server that the demo started for it.
func (d *demo) wait(ctx context.Context) error {
	if d.server != nil && d.noWait {
		fmt.Fprintf(d.out, "\nTo ask further, start the server again (%s serve) and then, for instance:\n",
			filepath.Join(filepath.Dir(os.Args[0]), local.BinaryName))
	} else {
		fmt.Fprint(d.out, "\nAsk further, for instance:\n")
	}
	fmt.Fprintf(d.out, `  %[2]s query flows %[1]s --where "dst_port = 53" --limit 5
  %[2]s query top %[1]s --by dst_ip,dst_port --sort flows
  %[2]s query --help
`, d.reach(), os.Args[0])
	if d.server == nil || d.noWait {
		return nil
	}
	fmt.Fprintf(d.out, "The server listens at %s (HTTP http://%s/play, user %s) until Ctrl-C.\n",
		d.server.Addr, d.server.HTTPAddr, d.server.User)
	select {
	case <-ctx.Done():
		fmt.Fprintln(d.out, "Stopping the server.")
		return nil
	case <-d.server.Ended():
		return fmt.Errorf("the local ClickHouse server ended by itself; its log is in %s", d.server.DataDir)
	}
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.out, "   "+format+"\n", args...)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"weir/agent"
	"weir/capture/link"
	"weir/exporter"
	"weir/exporter/clickhouse"
	"weir/flows"
	"weir/notify"
	"weir/privileges"
)

func newRunCommand(cfg *config) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Meter this host's interfaces into flows, until it is stopped",
		Long: `Run captures on every interface that is up, makes flows of the packets, and writes
them to ClickHouse every 10 seconds: to the local one that weir-clickhouse serves, unless
another is named. Interfaces that come and go are followed. Nothing has to be configured;
config.example.yaml lists all that can be.

It needs CAP_NET_RAW. Started as root it changes to an unprivileged user and keeps that
capability alone. SIGHUP reads the configuration again. SIGINT and SIGTERM end it in good
order: what has arrived is read and written, and the last line on standard error is
  packets=N not_ip=N decode_errors=N drops=N flows=N bytes=N seconds=N`,
		Example: `  weir run                                        all interfaces, into the local ClickHouse
  weir run --output table --interface eth0        look without a database
  weir run --clickhouse db.example.net:9000 --user weir --password-file pw
  weir run --config /etc/weir/weir.yaml           as a service does
  weir run --interface '/^(eth|en)/' --exclude eth3`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runAgent(cmd, cfg) },
	}
	f := cmd.Flags()
	f.StringSliceP("interface", "i", nil, "`INTERFACE` to capture on, a name or a /regular expression/; may be repeated (default all that are up)")
	f.StringSlice("exclude", nil, "`INTERFACE` not to capture on, likewise")
	f.StringP("output", "o", "clickhouse", "where flows go: clickhouse, table, jsonl, csv or none")
	f.String("interval", "10s", "a record covers at most this much `TIME`, cut at its multiples")
	f.String("idle-timeout", "1m", "a flow without packets for this `TIME` has ended; 0 means never")
	f.String("active-timeout", "30m", "a flow older than this `TIME` ends and goes on as a new one; 0 means never")
	f.Int("max-flows", 4<<20, "flows that an interface's table holds; packets of more are summed up by protocol")
	f.String("host", "", "`NAME` in the column host (default the host's name)")
	f.String("buffer", "16MiB", "`SIZE` of each ring between kernel and program")
	f.Bool("promiscuous", false, "meter packets for other hosts, too")
	f.String("listen", "127.0.0.1:9780", "`ADDRESS` of metrics and health over HTTP; empty for none")
	f.String("spool", "", "`FOLDER` where records wait for ClickHouse (default /var/lib/weir/spool for root)")
	f.String("log-level", "info", "debug, info, warn or error")
	f.String("log-format", "text", "text or json")
	for flag, values := range map[string][]string{
		"output": {"clickhouse", "table", "jsonl", "csv", "none"}, "log-level": {"debug", "info", "warn", "error"}, "log-format": {"text", "json"},
	} {
		if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
			panic(err) // the flag is not there: a mistake above
		}
	}
	return cmd
}

// runAgent runs the agent and all that goes with it. The order is that of a service:
// what may fail for want of rights or settings first, then capture, then the rest.
func runAgent(cmd *cobra.Command, cfg *config) error {
	live, err := cfg.live()
	if err != nil {
		return err
	}
	log := live.logger(cmd.ErrOrStderr())
	if missing := privileges.Missing(live.need()); len(missing) > 0 {
		return lacking(missing)
	}
	sink, err := live.sink(cfg, cmd.OutOrStdout(), log)
	if err != nil {
		return err
	}
	var exclude func(*flows.Record) bool
	if !live.ownExport && live.output == "clickhouse" {
		servers := cfg.addr()
		if len(servers) == 0 {
			if o, err := cfg.clickhouse(); err == nil {
				servers = o.Addr
			}
		}
		if exclude, err = ownExport(cmd.Context(), servers); err != nil {
			return err
		}
	}
	a, err := agent.New(agent.Config{
		Host: live.host, Interval: live.interval, MaxFlows: live.maxFlows, Tracker: live.tracker,
		Watch: live.watch(), Interfaces: live.interfaces(), Counters: link.AllCounters, Exclude: exclude, Sink: sink, Log: log, Grace: live.grace,
	})
	if err != nil {
		return usage("%w", err)
	}
	forward, _ := sink.(*clickhouse.Forwarder)
	admin, err := live.listen(a, forward, log)
	if err != nil {
		return err
	}
	defer admin.close()
	if err := live.drop(log); err != nil {
		return err
	}

	began := time.Now()
	group, ctx := errgroup.WithContext(cmd.Context())
	work, stop := context.WithCancel(ctx)
	group.Go(func() error {
		defer stop()
		return a.Run(ctx)
	})
	group.Go(func() error { return admin.serve(work) })
	group.Go(func() error { return reloads(work, cmd, cfg, a, log) })
	group.Go(func() error {
		if err := notify.Watchdog(work, a.Alive); err != nil { // if he watches, he will act
			log.Warn("the service manager cannot be told that all is well", "error", err)
		}
		return nil
	})
	group.Go(func() error { return ready(work, a, live, log) })
	context.AfterFunc(cmd.Context(), func() {
		_ = errors.Join(notify.Stopping(), notify.Status("writes what is there")) // it is told for people alone
	})
	ended := make(chan error, 1)
	go func() { ended <- group.Wait() }()
	late := make(chan struct{})
	context.AfterFunc(cmd.Context(), func() { time.AfterFunc(live.grace+closing, func() { close(late) }) })
	select {
	case err = <-ended:
	case <-late: // it writes to somebody who does not read
		err = fmt.Errorf("the output takes nothing: not all records could be written within %v", live.grace)
	}
	s := a.Status()
	fmt.Fprintln(cmd.ErrOrStderr(), summary(&s.Total, s.Flows, time.Since(began)))
	return err
}

// closing is how long the end may take besides the grace: until a sink that was given
// up has closed its connections.
const closing = 12 * time.Second

// watch tells of interfaces: once, if none may come.
func (l *liveConfig) watch() func(context.Context, func(link.Event)) error {
	if l.hotplug {
		return link.Watch
	}
	return func(ctx context.Context, fn func(link.Event)) error {
		links, err := link.All()
		if err != nil {
			return err
		}
		for _, l := range links {
			fn(link.Event{Kind: link.Added, Link: l})
		}
		<-ctx.Done()
		return nil
	}
}

// ready waits until the interfaces are open, gives up the right to open others unless
// some may come, and tells the service manager.
func ready(ctx context.Context, a *agent.Agent, live *liveConfig, log *slog.Logger) error {
	select {
	case <-a.Opened():
	case <-ctx.Done():
		return nil
	}
	if !live.hotplug && !live.staysRoot() {
		if err := privileges.Drop("", privileges.Need{}); err != nil {
			return err
		}
	}
	if err := errors.Join(notify.Ready(), notify.Status("captures; weir status tells on what")); err != nil {
		log.Warn("the service manager cannot be told that we are ready", "error", err)
	}
	return nil
}

// lacking says what the process may not do, and what to do about it.
func lacking(missing []string) error {
	return fmt.Errorf("capturing needs %s, which this process has not: %s", strings.Join(missing, " and "), privileges.Advice(missing, executable()))
}

// sink returns where the records go. ClickHouse is tried for ever: the agent outlives its
// outages.
func (l *liveConfig) sink(cfg *config, out io.Writer, log *slog.Logger) (exporter.Sink, error) {
	if sink := textSink(l.output, out, false); sink != nil {
		return sink, nil
	}
	// Now: a wrong setting is not mended by waiting, and the file with the password may
	// be root's, who we shall not be.
	cfg.warn = func(err error) { log.Warn("certificates could not be read again", "error", err) }
	o, err := cfg.clickhouse()
	if err != nil {
		return nil, err
	}
	if servers := bare(o); len(servers) > 0 {
		log.Warn("records and the password go to ClickHouse in the clear: set clickhouse.tls", "servers", strings.Join(servers, ","))
	}
	var schema *clickhouse.SchemaOptions
	if l.applySchema || len(cfg.addr()) == 0 {
		schema = &clickhouse.SchemaOptions{Cluster: cfg.v.GetString("clickhouse.cluster")}
	}
	return l.forwarder(o, schema, log)
}

func (l *liveConfig) staysRoot() bool { return l.user == "root" && os.Geteuid() == 0 }

// drop gives up what rights are not needed any more.
func (l *liveConfig) drop(log *slog.Logger) error {
	if l.staysRoot() {
		return nil
	}
	user := l.user
	if user == "" {
		user = privileges.DefaultUser()
	}
	if os.Geteuid() != 0 {
		user = "" // nobody but root can change
	}
	if err := privileges.Drop(user, l.need()); err != nil {
		return err
	}
	if user != "" {
		log.Info("changed user", "user", user)
	}
	return nil
}

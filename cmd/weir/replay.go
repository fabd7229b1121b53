package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

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
		Args: cobra.MinimumNArgs(1),
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
	return cmd
}

// metering checks the flags and returns a replay of them.
func (f *replayFlags) metering(cmd *cobra.Command, cfg *config) (*metering, error) {
	m := &metering{host: f.host}
	for flag, key := range map[string]string{"interval": "flows.interval", "idle-timeout": "flows.idle_timeout", "active-timeout": "flows.active_timeout", "max-flows": "flows.max"} {
		if fl := cmd.Flags().Lookup(flag); fl.Changed {
			cfg.v.Set(key, fl.Value.String())
		}
	}
	var err error
	if m.interval, err = cfg.duration("flows.interval"); err != nil {
		return nil, usage("%w", err)
	}
	if m.tracker.Idle, err = cfg.duration("flows.idle_timeout"); err != nil {
		return nil, usage("%w", err)
	}
	if m.tracker.Active, err = cfg.duration("flows.active_timeout"); err != nil {
		return nil, usage("%w", err)
	}
	m.max = cfg.v.GetInt("flows.max")
	if m.max < 1 || m.max > 1<<28 {
		return nil, usage("flows.max: %d is not between 1 and %d", m.max, 1<<28)
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
	if m.shift, err = f.shift(); err != nil {
		return nil, err
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

// run replays the files.
func (f *replayFlags) run(cmd *cobra.Command, cfg *config, files []string) error {
	ctx := cmd.Context()
	m, err := f.metering(cmd, cfg)
	if err != nil {
		return err
	}
	if err := checkFiles(files); err != nil {
		return err
	}
	sink, err := f.sink(ctx, cfg, cmd.OutOrStdout())
	if err != nil {
		return err
	}
	p := newProgress(cmd.ErrOrStderr(), f.noProgress)
	began := time.Now()
	in := &input{ctx: ctx, files: files, iface: f.iface, progress: p}
	err = m.run(ctx, in.next, sink)
	p.done()
	for _, w := range in.unsupported(m) {
		fmt.Fprintln(cmd.ErrOrStderr(), "weir:", w)
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	var damaged *pcap.DamagedError
	if err == nil || errors.As(err, &damaged) {
		fmt.Fprintln(cmd.ErrOrStderr(), m.summary(time.Since(began)))
	}
	switch {
	case damaged != nil:
		return &exitError{exitDamaged, err}
	case errors.Is(err, pcap.ErrNotCapture):
		return &exitError{exitNotCapture, err}
	case err != nil:
		return err
	case m.total.Packets > 0 && m.total.Causes[flows.ErrorLinkType] == m.total.Packets:
		return errors.New("no packet could be decoded: none is of a supported link type")
	}
	return nil
}

// checkFiles sees that the files are there and are captures, so that a wrong name
// at the end of a long list is found before the first record is out. Standard
// input cannot be looked at twice.
func checkFiles(files []string) error {
	stdin := 0
	for _, path := range files {
		if path == "-" {
			if stdin++; stdin > 1 {
				return usage("standard input is named twice")
			}
			continue
		}
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			if err != nil {
				return err
			}
			if info.IsDir() {
				return fmt.Errorf("%s is a folder: name the capture files in it", path)
			}
			continue // a pipe or a device yields its bytes only once
		}
		r, err := pcap.Open(path)
		var damaged *pcap.DamagedError
		switch {
		case errors.Is(err, pcap.ErrNotCapture):
			return &exitError{exitNotCapture, err}
		case errors.As(err, &damaged):
			continue // to be said when its turn comes
		case err != nil:
			return err
		}
		if err := r.Close(); err != nil {
			return err
		}
	}
	return nil
}

// sink returns where the records go.
func (f *replayFlags) sink(ctx context.Context, cfg *config, out io.Writer) (exporter.Sink, error) {
	switch f.output {
	case "table":
		return table.NewSink(out, f.uniflow, table.ScreenOf(os.Stdout)), nil
	case "jsonl":
		return jsonl.New(out, f.uniflow), nil
	case "csv":
		return table.NewCSV(out, f.uniflow), nil
	case "none":
		return nothing{}, nil
	case "clickhouse":
		o, err := cfg.clickhouse()
		if err != nil {
			return nil, err
		}
		return clickhouse.NewSink(ctx, o, clickhouse.SinkOptions{Token: f.token, Version: versionString()})
	}
	return nil, usage("--output: %q is not one of table, jsonl, csv, clickhouse, none", f.output)
}

// nothing is the sink of --output none.
type nothing struct{}

func (nothing) Write(context.Context, *flows.Batch) error { return nil }
func (nothing) Close(context.Context) error               { return nil }

// input opens one file after the other.
type input struct {
	ctx      context.Context // of the replay
	files    []string
	iface    string
	progress *progress
	links    []string // interfaces of unsupported link types
	open     *pcap.Reader
	path     string
}

// next returns the next file's source and the name of interfaces that it leaves
// unnamed; a nil source after the last file.
func (in *input) next() (capture.Source, string, error) {
	in.leave()
	if len(in.files) == 0 {
		return nil, "", nil
	}
	in.path, in.files = in.files[0], in.files[1:]
	r, err := in.openPath()
	if err != nil {
		return nil, "", err
	}
	in.open = r
	in.progress.file(in.path, r)
	name := in.iface
	if name == "" {
		if name = filepath.Base(in.path); in.path == "-" {
			name = "stdin"
		}
	}
	return r, name, nil
}

// openPath opens the file. Reading standard input ends with the context: a pipe
// may be silent for ever.
func (in *input) openPath() (*pcap.Reader, error) {
	if in.path != "-" {
		return pcap.Open(in.path)
	}
	stdin, err := interruptible(in.ctx, os.Stdin)
	if err != nil {
		return nil, fmt.Errorf("open standard input: %w", err)
	}
	return pcap.NewReader(stdin, "standard input")
}

// interruptible returns a pipe such that reading from it fails once ctx is done. Of
// other files it returns the file itself, they do not make anybody wait.
func interruptible(ctx context.Context, f *os.File) (*os.File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode()&(fs.ModeNamedPipe|fs.ModeSocket) == 0 {
		return f, nil
	}
	// Only a file that does not block is watched by the runtime's poller, and only
	// such a one has deadlines.
	fd := f.Fd() // which makes it block
	if err := unix.SetNonblock(int(fd), true); err != nil {
		return nil, err
	}
	pipe := os.NewFile(fd, f.Name())
	context.AfterFunc(ctx, func() {
		_ = pipe.SetReadDeadline(time.Unix(1, 0)) // fails only where the pipe is closed
	})
	return pipe, nil
}

// leave takes note of what is to be said of the file that was read.
func (in *input) leave() {
	if in.open == nil {
		return
	}
	for i, l := range in.open.Interfaces() {
		if !l.LinkType.Supported() && len(in.links) < 8 {
			in.links = append(in.links, fmt.Sprintf("%s: interface %d %s: link type %s is not supported", in.path, i, l.Name, l.LinkType))
		}
	}
	in.open = nil
}

// unsupported returns what is to be said of packets that nobody can decode.
func (in *input) unsupported(m *metering) []string {
	in.leave()
	if m.total.Causes[flows.ErrorLinkType] == 0 {
		return nil
	}
	for i := range in.links {
		in.links[i] = strings.Join(strings.Fields(in.links[i]), " ")
	}
	return in.links
}

package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strconv"
	"time"

	"weir/agent"
	"weir/capture"
	"weir/capture/afring"
	"weir/capture/filter"
	"weir/capture/link"
	"weir/capture/socket"
	"weir/flows"
	"weir/privileges"
)

// liveConfig is what weir run does, checked.
type liveConfig struct {
	host        string
	output      string
	interval    time.Duration
	maxFlows    int
	tracker     flows.TrackerConfig
	grace       time.Duration
	server      []any // all that leads to ClickHouse, to be compared
	forward     forwardConfig
	applySchema bool
	ownExport   bool
	hotplug     bool

	selection agent.Selection
	ring      ringConfig
	special   []special // of interfaces that differ, in order

	listenOn string
	socket   string
	pprof    bool
	user     string

	level  slog.Level
	format string
}

// ringConfig is how an interface is captured on.
type ringConfig struct {
	Buffer      string
	Snaplen     string
	Promiscuous bool
	Rings       int
	Timestamps  string
	VLANs       bool
}

// special is a ringConfig for some interfaces. Keys that it leaves out are those of
// capture.
type special struct {
	selector link.Selector
	ring     ringConfig
}

// live checks the configuration of weir run.
func (c *config) live() (_ *liveConfig, err error) {
	l := &liveConfig{
		host:      c.v.GetString("host"),
		output:    c.v.GetString("output"),
		maxFlows:  c.v.GetInt("flows.max"),
		selection: agent.Selection{Include: c.list("interfaces.include"), Exclude: c.list("interfaces.exclude")},
		listenOn:  c.v.GetString("admin.listen"),
		socket:    c.v.GetString("admin.socket"),
		user:      c.v.GetString("user"),
		format:    c.v.GetString("log.format"),
		ring: ringConfig{
			Buffer: c.v.GetString("capture.buffer"), Snaplen: c.v.GetString("capture.snaplen"),
			Rings: c.v.GetInt("capture.rings"), Timestamps: c.v.GetString("capture.timestamps"),
		},
	}
	for key, to := range map[string]*bool{
		"clickhouse.apply_schema": &l.applySchema, "flows.own_export": &l.ownExport, "interfaces.hotplug": &l.hotplug, "admin.pprof": &l.pprof,
		"capture.promiscuous": &l.ring.Promiscuous, "capture.vlans": &l.ring.VLANs,
	} {
		var err error
		if *to, err = c.boolean(key); err != nil {
			return nil, err
		}
	}
	l.server = c.servers()
	if l.host == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("the host's name: %w; set host", err)
		}
		l.host = name
	}
	for _, d := range []struct {
		key string
		to  *time.Duration
	}{
		{"flows.interval", &l.interval}, {"flows.idle_timeout", &l.tracker.Idle}, {"flows.active_timeout", &l.tracker.Active}, {"shutdown_timeout", &l.grace},
	} {
		var err error
		if *d.to, err = c.duration(d.key, nil); err != nil {
			return nil, usage("%w", err)
		}
	}
	l.tracker.Max = l.maxFlows
	switch {
	case l.interval < time.Second || l.interval > 24*time.Hour:
		return nil, usage("flows.interval: %v is not within 1s and 24h", l.interval)
	case l.maxFlows < 1 || l.maxFlows > 1<<28:
		return nil, usage("flows.max: %d is not between 1 and %d", l.maxFlows, 1<<28)
	case !slices.Contains([]string{"clickhouse", "table", "jsonl", "csv", "none"}, l.output):
		return nil, usage("output: %q is not one of clickhouse, table, jsonl, csv, none", l.output)
	case l.format != "text" && l.format != "json":
		return nil, usage("log.format: %q is neither text nor json", l.format)
	}
	if err := l.level.UnmarshalText([]byte(c.v.GetString("log.level"))); err != nil {
		return nil, usage("log.level: %q is not one of debug, info, warn, error", c.v.GetString("log.level"))
	}
	if err := l.selection.Validate(); err != nil {
		return nil, usage("interfaces: %w", err)
	}
	if _, err := l.ring.afring(); err != nil {
		return nil, usage("capture.%w", err)
	}
	if l.forward, err = c.forward(); err != nil {
		return nil, err
	}
	return l, c.specials(l)
}

// specials reads interfaces.special.
func (c *config) specials(l *liveConfig) error {
	var entries []map[string]any
	if err := c.v.UnmarshalKey("interfaces.special", &entries); err != nil {
		return usage("interfaces.special: %w", err)
	}
	for i, entry := range entries {
		s := special{ring: l.ring}
		for key, value := range entry {
			text := fmt.Sprint(value)
			var err error
			switch key {
			case "match":
				s.selector.Include = []string{text}
				err = s.selector.Validate()
			case "buffer":
				s.ring.Buffer = text
			case "snaplen":
				s.ring.Snaplen = text
			case "timestamps":
				s.ring.Timestamps = text
			case "promiscuous", "vlans":
				on, ok := value.(bool)
				if !ok {
					err = fmt.Errorf("%s: %q is neither true nor false", key, text)
				} else if key == "promiscuous" {
					s.ring.Promiscuous = on
				} else {
					s.ring.VLANs = on
				}
			case "rings":
				if s.ring.Rings, err = strconv.Atoi(text); err != nil {
					err = fmt.Errorf("rings: %q is not a number", text)
				}
			default:
				err = fmt.Errorf("unknown key %s: config.example.yaml lists all keys", key)
			}
			if err != nil {
				return usage("interfaces.special, entry %d: %w", i+1, err)
			}
		}
		if len(s.selector.Include) == 0 {
			return usage("interfaces.special, entry %d: match says which interfaces it is for", i+1)
		}
		if _, err := s.ring.afring(); err != nil {
			return usage("interfaces.special, entry %d: %w", i+1, err)
		}
		l.special = append(l.special, s)
	}
	return nil
}

const (
	leastBlocks = 16
	leastBlock  = 128 << 10
)

// setBuffer divides a size such as 16MiB into the blocks of a ring.
func setBuffer(c *afring.Config, size string) error {
	buffer, err := parseSize(size)
	if err != nil {
		return err
	}
	if buffer < 2*afring.DefaultBlockSize || buffer > 1<<40 {
		return fmt.Errorf("%s is not within 2MiB and 1TiB", size)
	}
	// The retire timeout takes a block however little is in it: few large ones would all
	// be on their way to the reader at once.
	c.BlockSize = int(min(max(buffer/leastBlocks, leastBlock), afring.DefaultBlockSize)) &^ (leastBlock - 1)
	c.Blocks = int(buffer) / c.BlockSize
	return nil
}

// maxRings bounds a fanout: each ring has a goroutine and memory of its own.
const maxRings = 64

// afring returns the configuration of each ring.
func (r *ringConfig) afring() (c afring.Config, err error) {
	if err := setBuffer(&c, r.Buffer); err != nil {
		return c, fmt.Errorf("buffer: %w", err)
	}
	if c.CaptureLength, err = filter.ParseLength(r.Snaplen); err != nil {
		return c, fmt.Errorf("snaplen: %w", err)
	}
	switch r.Timestamps {
	case "software":
	case "hardware":
		c.Timestamps = socket.TimestampsHardware
	default:
		return c, fmt.Errorf("timestamps: %q is neither software nor hardware", r.Timestamps)
	}
	if r.Rings < 1 || r.Rings > maxRings {
		return c, fmt.Errorf("rings: %d is not within 1 and %d", r.Rings, maxRings)
	}
	if r.Rings > 1 {
		c.Fanout = socket.Fanout{Mode: socket.FanoutHash, Defragment: true}
	}
	c.Promiscuous, c.IgnoreVLANs = r.Promiscuous, !r.VLANs
	c.NoFilter = true // what is not IP is counted
	return c, c.Validate()
}

// ringOf returns how an interface is captured on.
func (l *liveConfig) ringOf(i link.Link) ringConfig {
	for _, s := range l.special {
		if picked, err := s.selector.Select([]link.Link{i}); err == nil && len(picked) > 0 {
			return s.ring
		}
	}
	return l.ring
}

func (l *liveConfig) interfaces() agent.Interfaces {
	return agent.Interfaces{
		Select:   l.selection.Pick,
		Missing:  l.selection.Missing,
		Settings: func(i link.Link) string { return fmt.Sprint(l.ringOf(i)) },
		Open: func(i link.Link) ([]capture.Source, error) {
			r := l.ringOf(i)
			return openRings(i, r)
		},
	}
}

// openRings opens all rings of an interface, or none.
func openRings(i link.Link, r ringConfig) (sources []capture.Source, err error) {
	c, err := r.afring()
	if err != nil {
		return nil, err
	}
	for range r.Rings {
		ring, err := afring.Open(i, c)
		if err != nil {
			for _, s := range sources {
				s.Close()
			}
			return nil, err
		}
		sources = append(sources, ring)
		c.Fanout.Group = ring.FanoutGroup() // the first one has begun it
	}
	return sources, nil
}

// need returns the capabilities that capturing takes.
func (l *liveConfig) need() privileges.Need {
	n := privileges.Need{Raw: true}
	for _, r := range append([]ringConfig{l.ring}, l.rings()...) {
		n.Admin = n.Admin || r.Timestamps == "hardware"
	}
	return n
}

func (l *liveConfig) rings() (all []ringConfig) {
	for _, s := range l.special {
		all = append(all, s.ring)
	}
	return all
}

// fixed returns the keys in which the two differ and that do not change while the
// agent runs.
func (l *liveConfig) fixed(next *liveConfig) (keys []string) {
	for _, f := range []struct {
		key  string
		a, b any
	}{
		{"host", l.host, next.host}, {"output", l.output, next.output}, {"clickhouse", l.server, next.server}, {"spool, or clickhouse about inserts", l.forward, next.forward},
		{"flows", []any{l.interval, l.tracker, l.ownExport}, []any{next.interval, next.tracker, next.ownExport}},
		{"interfaces.hotplug", l.hotplug, next.hotplug},
		{"admin", []any{l.listenOn, l.socket, l.pprof}, []any{next.listenOn, next.socket, next.pprof}}, {"user", l.user, next.user},
		{"log", []any{l.level, l.format}, []any{next.level, next.format}}, {"shutdown_timeout", l.grace, next.grace},
	} {
		if !reflect.DeepEqual(f.a, f.b) {
			keys = append(keys, f.key)
		}
	}
	if how := func(l *liveConfig) []any { return []any{l.selection, l.ring, l.special} }; !l.hotplug && !reflect.DeepEqual(how(l), how(next)) {
		keys = append(keys, "interfaces", "capture")
	}
	return keys
}

func (l *liveConfig) logger(w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: l.level}
	if l.format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

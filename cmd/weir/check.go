package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"weir/exporter"
	"weir/exporter/table"
)

func newCheckCommand(cfg *config) *cobra.Command {
	var output string
	var unread error
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say whether weir run can do its work here",
		Long: `Check looks at all that weir run needs: configuration, permissions, interfaces, memory,
ClickHouse, the clock. Under what is not well stands what to do about it.

It changes nothing: no table is made, no interface is set to anything. On each interface
that would be captured on a ring is opened and closed. Run it as the user and with the
settings that weir run has; it takes the same flags, but for --output, which is about its
own answer: where flows go is said by the key output, or by WEIR_OUTPUT.

Exit status: 0 no errors, though there may be warnings; 1 there are errors; 2 wrong usage.`,
		Example: `  weir check
  weir check --config /etc/weir/weir.yaml
  sudo -u weir weir check                    as the service would see it
  WEIR_OUTPUT=none weir check -i eth0        without a database
  weir check --output json | jq 'select(.state != "ok")'`,
		Args: cobra.NoArgs,
		// Instead of that of all commands: what is wrong with the file is a finding.
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			unread = cfg.load(cmd)
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return usage("--output: %q is neither table nor json", output)
			}
			c := check{cfg: cfg}
			c.all(cmd.Context(), unread)
			q := query{output: output, out: cmd.OutOrStdout(), screen: table.ScreenOf(os.Stdout)}
			if err := c.write(&q); err != nil {
				return &exitError{code: exitFailure, err: err}
			}
			if n := c.count(stateError); n > 0 {
				return &exitError{code: exitFailure, err: fmt.Errorf("%d errors", n), said: true}
			}
			return nil
		},
	}
	f, run := cmd.Flags(), newRunCommand(cfg).Flags()
	for flag := range runFlagKeys {
		if flag != "output" {
			f.AddFlag(run.Lookup(flag))
		}
	}
	f.StringVarP(&output, "output", "o", "table", "table, or json (one object a line)")
	return cmd
}

// The states of a finding.
const (
	stateOK      = "ok"
	stateWarning = "warning" // weir run works, but not as somebody may think
	stateError   = "error"   // weir run cannot do its work
)

// finding is what was found out about something. Advice says what to do unless it is ok.
type finding struct{ state, what, detail, advice string }

// check gathers findings.
type check struct {
	cfg   *config
	live  *liveConfig
	found []finding
}

func (c *check) ok(what, format string, args ...any) {
	c.found = append(c.found, finding{stateOK, what, fmt.Sprintf(format, args...), ""})
}

func (c *check) add(state, what, advice, format string, args ...any) {
	c.found = append(c.found, finding{state, what, fmt.Sprintf(format, args...), advice})
}

func (c *check) count(state string) (n int) {
	for _, f := range c.found {
		if f.state == state {
			n++
		}
	}
	return n
}

// all looks at everything. What depends on something that is wrong is left out.
func (c *check) all(ctx context.Context, unread error) {
	c.clock(time.Now())
	if !c.configuration(unread) {
		return
	}
	c.environment()
	permitted := c.capabilities()
	c.user()
	c.socket(ctx)
	c.listen(ctx)
	c.interfaces(permitted)
	c.spool()
	c.output(ctx)
}

func (c *check) clock(now time.Time) {
	if now.Year() < 2020 { // a board without a battery, before it has asked for the time
		c.add(stateError, "clock", "set it, such as with: timedatectl set-ntp true", "it says %s", now.UTC().Format(time.DateTime))
		return
	}
	c.ok("clock", "%s UTC", now.UTC().Format(time.DateTime))
}

func (c *check) configuration(err error) bool {
	const what = "configuration"
	path := c.cfg.file()
	correct := "correct " + path + ": config.example.yaml lists all keys"
	if err == nil {
		if c.live, err = c.cfg.live(); err != nil {
			key, _, _ := strings.Cut(err.Error(), ":")
			correct = "correct " + key + ", in " + path + ", the environment or a flag: config.example.yaml says what it may be"
		}
	} else if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		correct = "name a file that this user can read: --config FILE"
	}
	if err != nil {
		c.add(stateError, what, correct, "%v", err)
		return false
	}
	if c.file() == "" {
		c.ok(what, "no file (%s is not there): defaults, environment and flags", systemConfig)
	} else {
		c.ok(what, "%s, environment and flags", path)
	}
	return true
}

// file returns the configuration file that was read, "" if there is none.
func (c *check) file() string {
	if _, err := os.Stat(systemConfig); c.cfg.path == "" && err != nil {
		return ""
	}
	return c.cfg.file()
}

// environment looks for variables that nobody reads: a misspelt one is silently ignored.
func (c *check) environment() {
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		short, ours := strings.CutPrefix(name, "WEIR_")
		// Kubernetes sets those of a service that is called weir; the last is weir-clickhouse's.
		if !ours || strings.HasPrefix(short, "SERVICE_") || strings.HasPrefix(short, "PORT") || short == "CLICKHOUSE_ENGINE" {
			continue
		}
		known := false
		for key := range defaults {
			known = known || strings.ToUpper(strings.ReplaceAll(key, ".", "_")) == short
		}
		if !known {
			c.add(stateWarning, "environment", "correct or unset it: config.example.yaml lists all keys", "%s belongs to no key", name)
		}
	}
}

// write writes the findings.
func (c *check) write(q *query) error {
	if q.output == "json" {
		columns := []answerColumn{{name: "state"}, {name: "what"}, {name: "detail"}, {name: "advice"}}
		var rows [][]cell
		for _, f := range c.found {
			rows = append(rows, []cell{{raw: f.state}, {raw: f.what}, {raw: f.detail}, {raw: f.advice}})
		}
		return q.write(columns, rows)
	}
	escape := func(s string) string { return exporter.Escape(s, q.screen.ASCII) }
	width := 0
	for _, f := range c.found {
		width = max(width, utf8.RuneCountInString(escape(f.what)))
	}
	var b strings.Builder
	for _, f := range c.found {
		fmt.Fprintf(&b, "%-7s  %-*s  %s\n", f.state, width, escape(f.what), escape(f.detail)) // not cut: it is what is to be read
		if f.state != stateOK {
			fmt.Fprintf(&b, "         -> %s\n", escape(f.advice))
		}
	}
	errs, warnings := c.count(stateError), c.count(stateWarning)
	verdict := "weir run can do its work here"
	if errs > 0 {
		verdict = "weir run cannot do its work here"
	}
	fmt.Fprintf(&b, "\n%s: errors %d, warnings %d\n", verdict, errs, warnings)
	return writeAll(q.out, []byte(b.String()))
}

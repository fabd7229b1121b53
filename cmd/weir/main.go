// Command weir meters packets into flows and carries them to ClickHouse.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes. Scripts depend on them.
const (
	exitOK         = 0
	exitFailure    = 1
	exitUsage      = 2
	exitDamaged    = 3 // a capture file is damaged or cut
	exitNotCapture = 4 // a file is no capture
)

// exitError carries an exit code other than exitFailure.
type exitError struct {
	code int
	err  error
	said bool // standard error has it already
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the first signal ends the work in good order, the second ends the program
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// run runs one command line and returns its exit code.
func run(ctx context.Context, args []string) int {
	started := false // the arguments were understood
	root := newRootCommand(func() { started = true })
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	e := new(exitError)
	if errors.As(err, &e) && e.said {
		return e.code
	}
	fmt.Fprintln(os.Stderr, "weir:", err)
	if e.err != nil {
		return e.code
	}
	if !started {
		fmt.Fprintln(os.Stderr, "Try 'weir --help', or 'weir COMMAND --help'.")
		return exitUsage
	}
	return exitFailure
}

func newRootCommand(started func()) *cobra.Command {
	var cfg config
	root := &cobra.Command{
		Use:   "weir",
		Short: "Measure who talks to whom, and keep it in ClickHouse",
		Long: `weir meters packets into flows and carries every record to ClickHouse exactly once.

  weir run       meters this host's interfaces, until it is stopped
  weir status    tells how the running agent is
  weir check     says whether weir run can do its work here
  weir top       shows live who talks to whom
  weir demo      sees it at work within a minute, on a ClickHouse of its own
  weir replay    makes flows of capture files
  weir query     asks ClickHouse who talked to whom
  weir audit     says whether all of it is there, once
  weir record    writes an interface's packets to a capture file
  weir interfaces lists what can be captured, and why not
  weir schema    prints, applies or checks the tables`,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(cmd.ValidateRequiredFlags(), cmd.ValidateFlagGroups()); err != nil {
				return err
			}
			if err := cfg.load(cmd); err != nil {
				return err
			}
			started()
			return nil
		},
	}
	cfg.addFlags(root.PersistentFlags())
	root.AddCommand(
		newRunCommand(&cfg),
		newStatusCommand(&cfg),
		newCheckCommand(&cfg),
		newLiveTopCommand(&cfg),
		newDemoCommand(&cfg),
		newReplayCommand(&cfg),
		newQueryCommand(cfg.clickhouse),
		newAuditCommand(cfg.clickhouse),
		newRecordCommand(),
		newInterfacesCommand(),
		newSchemaCommand(cfg.clickhouse, func() string { return cfg.v.GetString("clickhouse.database") }, func() string { return cfg.v.GetString("clickhouse.cluster") }),
		newVersionCommand(),
	)
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.HasSubCommands() && !c.Runnable() {
			// Or cobra shows the help and is content, whatever is asked of it.
			c.RunE = func(c *cobra.Command, args []string) error {
				if len(args) > 0 {
					return usage("unknown command %q for %q: see %s --help", args[0], c.CommandPath(), c.CommandPath())
				}
				return c.Help()
			}
		}
	}
	return root
}

// usage marks an error as wrong usage.
func usage(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

//go:build linux && amd64

// Command weir-clickhouse is a local ClickHouse server for those who have none: it
// fetches the ClickHouse engine as a shared library once, and serves it.
//
// It is a program of its own because loading a shared library needs glibc's
// loader, and the agent is static.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"weir/exporter/clickhouse/local"
)

func init() {
	// The engine runs in the main thread, whose stack grows as ulimit -s allows, and
	// credentials are dropped and the program is replaced in one and the same thread.
	runtime.LockOSThread()
}

func main() {
	if err := run(); err != nil {
		var failed *serveError
		if errors.As(err, &failed) && failed.asJSON {
			json.NewEncoder(os.Stdout).Encode(local.State{Error: err.Error()})
		} else {
			fmt.Fprintln(os.Stderr, "weir-clickhouse: "+err.Error())
		}
		if errors.Is(err, errUsage) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

var errUsage = errors.New("see weir-clickhouse --help")

func run() error {
	if cfg, ok, err := takeEngineConfig(); err != nil {
		return err
	} else if ok {
		return serveEngine(cfg)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return newCommand().ExecuteContext(ctx)
}

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "weir-clickhouse",
		Short: "A local ClickHouse server for weir",
		Long: `A local ClickHouse server for weir, for those who have none. It listens on
loopback only. The engine (` + engineSize + `) is fetched once, checked and kept in the
user's cache folder.`,
		Example: `  weir-clickhouse serve                      # ports 9000 and 8123, Ctrl-C ends it
  weir-clickhouse serve --tcp-port 0 --http-port 0 --data /tmp/try
  weir-clickhouse fetch                      # only fetch the engine`,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", err, errUsage) })
	root.AddCommand(newServeCommand(), newFetchCommand(), newVersionCommand())
	return root
}

// noArgs is cobra.NoArgs with the exit status of wrong usage.
func noArgs(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return fmt.Errorf("%w: %w", err, errUsage)
	}
	return nil
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of the ClickHouse engine",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "weir-clickhouse with ClickHouse %s (%s)\n", engineVersion, runtime.Version())
			return err
		},
	}
}

//go:build linux && amd64

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"weir/exporter/clickhouse/local"
)

// serveOptions are the flags of serve.
type serveOptions struct {
	data         string
	cacheDir     string
	listen       string
	tcpPort      uint16
	httpPort     uint16
	user         string
	memory       string
	cluster      string
	secretFile   string
	parentPID    int
	noProgress   bool
	errorsAsJSON bool
}

func newServeCommand() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server until SIGTERM or Ctrl-C",
		Long: `Run the server until SIGTERM or Ctrl-C, and fetch the engine first if it is not there.

Once the server answers, one line of JSON on standard output says how to reach it:
addr, http, user, password_file, reader, reader_password_file, data, pid, version.
With --parent-pid nothing else is said, else standard error has it for people.
Passwords are made at the first start and kept in the data folder (mode 0600).

Started by root, the server runs as user "weir" if there is one, else as "nobody".

With --cluster, servers on this machine form a cluster for weir schema --cluster NAME
--unreplicated: each is started with the same names and secret.`,
		Example: `  weir-clickhouse serve
  weir-clickhouse serve --tcp-port 0 --http-port 0 --data /tmp/try   # free ports
  weir-clickhouse serve --parent-pid $$                              # ends with this shell
  weir-clickhouse serve --data /tmp/b --tcp-port 9001 --http-port 8124 \\
    --cluster two=127.0.0.1:9000,127.0.0.1:9001 --cluster-secret secret`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return wrapServe(o.serve(cmd.Context()), o.errorsAsJSON)
		},
	}
	data, _ := local.DefaultDataDir() // an error shows when the folder is needed
	f := cmd.Flags()
	f.StringVar(&o.data, "data", data, "data folder")
	f.StringVar(&o.cacheDir, "cache-dir", "", "where the engine is kept (default: weir in the user's cache folder)")
	f.StringVar(&o.listen, "listen", "127.0.0.1", "loopback address to listen on")
	f.Uint16Var(&o.tcpPort, "tcp-port", 9000, "port of the native protocol, 0 for a free one")
	f.Uint16Var(&o.httpPort, "http-port", 8123, "port of the HTTP interface, 0 for a free one")
	f.StringVar(&o.user, "user", "", "user to run as when started by root (default: weir if there is one, else nobody)")
	f.StringVar(&o.memory, "memory", "4GiB", "upper bound for the server's memory, and never more than half of the machine's")
	f.StringVar(&o.cluster, "cluster", "", "servers to spread tables over, each a shard, as `NAME=HOST:PORT,HOST:PORT`; this one is among them")
	f.StringVar(&o.secretFile, "cluster-secret", "", "`FILE` with the secret by which these servers know each other")
	f.IntVar(&o.parentPID, "parent-pid", 0, "end when this process has ended, 0 for none")
	f.BoolVar(&o.noProgress, "no-progress", false, "no progress bar")
	f.BoolVar(&o.errorsAsJSON, "errors-as-json", false, "")
	f.MarkHidden("errors-as-json") // for the package exporter/clickhouse/local
	return cmd
}

// serveError is a failure of serve with the way to report it.
type serveError struct {
	error
	asJSON bool
}

func (e *serveError) Unwrap() error { return e.error }

func wrapServe(err error, asJSON bool) error {
	if err == nil {
		return nil
	}
	return &serveError{err, asJSON}
}

// engineConfig goes from the process that was started to the same process once it
// has dropped its privileges. The descriptors are inherited.
type engineConfig struct {
	Listen       string
	TCPPort      uint16
	HTTPPort     uint16
	Data         string
	Account      string
	LibraryFD    int
	LockFD       int
	ParentFD     int // pidfd of the process to end with, -1 for none
	ErrorsAsJSON bool
}

// engineEnv carries the engineConfig in JSON. It is not a flag, so that the process
// goes by the command line that it was started with.
const engineEnv = "WEIR_CLICKHOUSE_ENGINE"

// serve prepares the server's folder with the starter's rights and then becomes
// the server.
func (o *serveOptions) serve(ctx context.Context) error {
	listen, err := netip.ParseAddr(o.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w: %w", err, errUsage)
	}
	if !listen.IsLoopback() {
		return fmt.Errorf("--listen %s: only loopback addresses, since this server has no TLS and passwords would be readable on the way: "+
			"for other machines run a ClickHouse server of your own", listen)
	}
	memory, err := parseSize(o.memory)
	if err != nil {
		return fmt.Errorf("--memory: %w: %w", err, errUsage)
	}
	if o.data == "" {
		if o.data, err = local.DefaultDataDir(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	parent := -1
	if o.parentPID != 0 {
		if parent, err = openParent(o.parentPID); err != nil {
			return err
		}
		go func() {
			waitParent(parent)
			cancel(errParentEnded)
		}()
	}
	unix.Umask(0o022) // the server's user must be able to enter folders that root makes
	as, err := chooseAccount(o.user)
	if err != nil {
		return err
	}
	c, err := parseCluster(o.cluster, o.secretFile)
	if err != nil {
		return err
	}
	data, err := openDataDir(o.data, as, memory, c)
	if err != nil {
		return err
	}
	library, err := openLibrary(ctx, o.cacheDir, newProgress(os.Stderr, o.noProgress))
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	cfg := engineConfig{
		Listen: listen.String(), TCPPort: o.tcpPort, HTTPPort: o.httpPort, Data: data.path, Account: as.name,
		LibraryFD: int(library.Fd()), LockFD: int(data.lock.Fd()), ParentFD: parent, ErrorsAsJSON: o.errorsAsJSON,
	}
	err = cfg.exec(as)
	runtime.KeepAlive(library) // or the garbage collector may close what cfg names
	runtime.KeepAlive(data)
	return err
}

// exec replaces this program by the engine.
func (c *engineConfig) exec(as account) error {
	for _, fd := range []int{c.LibraryFD, c.LockFD, c.ParentFD} {
		if fd < 0 {
			continue
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("keep descriptor %d: %w", fd, err)
		}
	}
	b, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("start the engine: %w", err)
	}
	// Nothing else of the starter's environment is the server's business.
	return as.become([]string{engineEnv + "=" + string(b), "PATH=/usr/bin:/bin", "LANG=C.UTF-8"})
}

// takeEngineConfig returns the configuration that exec left, if it did.
func takeEngineConfig() (*engineConfig, bool, error) {
	value, ok := os.LookupEnv(engineEnv)
	if !ok {
		return nil, false, nil
	}
	os.Unsetenv(engineEnv)
	c := new(engineConfig)
	if err := json.Unmarshal([]byte(value), c); err != nil {
		return nil, false, fmt.Errorf("%s: %w", engineEnv, err)
	}
	for _, fd := range []int{c.LibraryFD, c.LockFD, c.ParentFD} {
		if fd >= 0 {
			unix.CloseOnExec(fd)
		}
	}
	return c, true, nil
}

func parseState(b []byte) (local.State, error) {
	var st local.State
	err := json.Unmarshal(b, &st)
	return st, err
}

// parseSize parses a number of octets with an optional unit K, M, G or T, which
// are powers of 1024 however they are written (2G, 2GB, 2GiB).
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "KMGTiB")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%q is not a size such as 2GiB", s)
	}
	unit := strings.TrimSuffix(strings.TrimSuffix(s[len(digits):], "B"), "i")
	shift := map[string]uint{"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
	bits, ok := shift[unit]
	if !ok || n > (1<<62)>>bits {
		return 0, fmt.Errorf("%q is not a size such as 2GiB", s)
	}
	const least = 512 << 20
	if n <<= bits; n < least {
		return 0, errors.New("the server needs at least 512MiB")
	}
	return n, nil
}

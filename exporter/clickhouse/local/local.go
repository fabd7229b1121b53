// Package local starts a ClickHouse server on this machine for those who have
// none: `weir demo` and the tests. The server is a child process, weir-clickhouse,
// because it needs glibc's loader, which the agent must not.
package local

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// BinaryName is the name of the server's program.
const BinaryName = "weir-clickhouse"

// Options say what server to start. The zero value is a server on free ports
// with its data in DefaultDataDir.
type Options struct {
	Binary   string // path of weir-clickhouse; "" looks beside this program, then in PATH
	DataDir  string // "" for DefaultDataDir
	CacheDir string // where the ClickHouse library is kept; "" for the user's cache folder
	TCPPort  int    // native protocol; 0 for a free port
	HTTPPort int    // 0 for a free port
	Memory   string // upper bound for the server, such as "2GiB"; "" for its default
	// Cluster makes the server one of a cluster, all of whose servers it names:
	// NAME=HOST:PORT,HOST:PORT. ClusterSecret is a file with the secret that they share.
	Cluster       string
	ClusterSecret string
	NoProgress    bool      // no progress bar for the download even on a terminal
	Stderr        io.Writer // the server's messages, download progress included; nil for none
}

// Server is a running server. Its fields are not to be changed.
type Server struct {
	Addr     string // host:port of the native protocol
	HTTPAddr string // host:port of the HTTP interface
	User     string
	Password string

	Reader         string // a user that may read all tables and change nothing
	ReaderPassword string

	Version string // of ClickHouse
	DataDir string
	PID     int

	child *child // nil if Running found the server
}

// Start starts a server and returns when it answers. The first start on a machine
// downloads ClickHouse (178 MB). ctx bounds the start, not the server's life: that
// ends with Stop, or else with this process, however this process ends.
func Start(ctx context.Context, o Options) (*Server, error) {
	s, err := start(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("start the local ClickHouse server: %w", err)
	}
	return s, nil
}

func start(ctx context.Context, o Options) (*Server, error) {
	binary, err := o.binary()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, o.args()...)
	cmd.Stderr = o.Stderr
	// Ctrl-C goes to the whole process group. It is for this process, which then
	// stops the server: a server that gets two signals does not stop in good order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{process: cmd.Process, ended: make(chan struct{})}
	line := make(chan []byte, 1)
	go func() {
		r := bufio.NewReader(io.LimitReader(stdout, maxState))
		l, _ := r.ReadBytes('\n')
		line <- l
		io.Copy(io.Discard, stdout) // Wait wants the pipe read to its end
		c.exit = cmd.Wait()
		close(c.ended)
	}()
	var state []byte
	select {
	case state = <-line:
	case <-ctx.Done():
		c.abandon()
		return nil, context.Cause(ctx)
	}
	if len(bytes.TrimSpace(state)) == 0 {
		c.abandon()
		return nil, fmt.Errorf("%s did not say how to reach it: %w", binary, c.exitError())
	}
	s, err := newServer(state)
	if err != nil {
		c.abandon()
		return nil, err
	}
	s.child = c
	return s, nil
}

// Stop ends a server that Start started, and waits for it; a client that is still
// connected makes that some seconds longer. When ctx is done first, the server is
// killed, which loses no row that was acknowledged. Stop may be called again.
// A server that Running found is left alone.
func (s *Server) Stop(ctx context.Context) error {
	if s.child == nil {
		return nil
	}
	if err := s.child.stop(ctx); err != nil {
		return fmt.Errorf("stop the local ClickHouse server: %w", err)
	}
	return nil
}

// Ended is closed when a server that Start started has ended, by Stop or by
// itself. It is nil, and thus never ready, for a server that Running found.
func (s *Server) Ended() <-chan struct{} {
	if s.child == nil {
		return nil
	}
	return s.child.ended
}

func (o *Options) binary() (string, error) {
	if o.Binary != "" {
		return o.Binary, nil
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), BinaryName)
		if st, err := os.Stat(beside); err == nil && st.Mode().IsRegular() {
			return beside, nil
		}
	}
	path, err := exec.LookPath(BinaryName)
	if err != nil {
		return "", fmt.Errorf("%s is neither beside this program nor in PATH: build it with `go build -o bin/ ./cmd/...`, "+
			"or use a ClickHouse of your own (clickhouse.addr)", BinaryName)
	}
	return path, nil
}

func (o *Options) args() []string {
	args := []string{
		"serve", "--errors-as-json",
		"--parent-pid", strconv.Itoa(os.Getpid()),
		"--tcp-port", strconv.Itoa(o.TCPPort),
		"--http-port", strconv.Itoa(o.HTTPPort),
	}
	if o.DataDir != "" {
		args = append(args, "--data", o.DataDir)
	}
	if o.CacheDir != "" {
		args = append(args, "--cache-dir", o.CacheDir)
	}
	if o.Memory != "" {
		args = append(args, "--memory", o.Memory)
	}
	if o.Cluster != "" {
		args = append(args, "--cluster", o.Cluster, "--cluster-secret", o.ClusterSecret)
	}
	if o.NoProgress {
		args = append(args, "--no-progress")
	}
	return args
}

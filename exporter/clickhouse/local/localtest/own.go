package localtest

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"weir/exporter/clickhouse/local"
)

// Own is a server of a test's own, to be stopped or killed and started again. It keeps
// its data and its address.
type Own struct {
	*local.Server // nil before the first Start
	Options       local.Options
}

// NewOwn returns a server that was not started yet. Its data are in a new folder unless
// o names one. It is stopped at the end of the test.
func NewOwn(t testing.TB, o local.Options) *Own {
	t.Helper()
	if o.Binary == "" {
		o.Binary = Binary(t)
	}
	if o.DataDir == "" {
		o.DataDir = filepath.Join(Folder(t), "data")
	}
	o.NoProgress, o.Stderr = true, os.Stderr
	s := &Own{Options: o}
	t.Cleanup(func() {
		if s.Server != nil {
			s.Server.Stop(context.Background()) // a second time, or after the test has failed
		}
	})
	return s
}

// Start starts the server, at the address it had before.
func (s *Own) Start(t testing.TB) {
	t.Helper()
	server, err := local.Start(context.Background(), s.Options)
	if err != nil {
		t.Fatal(err)
	}
	s.Server = server
	_, port, err := net.SplitHostPort(s.Addr)
	if err == nil {
		s.Options.TCPPort, err = strconv.Atoi(port)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Stop stops the server in good order.
func (s *Own) Stop(t testing.TB) {
	t.Helper()
	if err := s.Server.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// Kill ends the server as a crash would.
func (s *Own) Kill(t testing.TB) {
	t.Helper()
	if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-s.Ended()
}

// Folder returns a folder that users who are not root can get into, which those of
// t.TempDir are not: a server that root starts runs as another user.
func Folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "weir-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Package localtest gives tests a real ClickHouse server: one for each test binary,
// started at its first use.
//
// The tests of a package that uses it call Main from TestMain:
//
//	func TestMain(m *testing.M) { localtest.Main(m) }
package localtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/exporter/clickhouse/local"
)

// Main runs the tests, stops the server if one of them started it, removes its data,
// calls after, for what else the tests share, and exits.
func Main(m *testing.M, after ...func()) {
	code := m.Run()
	for _, f := range after {
		f()
	}
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "localtest:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// Start returns the test binary's server. Tests share it, so each makes a database
// of its own. It fails the test if there can be no server: nothing is skipped.
func Start(t testing.TB) *local.Server {
	t.Helper()
	s, err := startOnce()
	if err != nil {
		t.Fatalf("a real ClickHouse server is needed: %v", err)
	}
	return s
}

// Binary returns the path of a weir-clickhouse built from this module, for tests
// that start servers of their own.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// shared is what this test binary has made.
var shared state

type state struct {
	dir    string // of the binary and the data; "" if nothing was made
	server *local.Server
}

func (s *state) stop() error {
	var err error
	if s.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		err = s.server.Stop(ctx)
	}
	if s.dir != "" {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}

var buildOnce = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "weir-localtest-")
	if err != nil {
		return "", err
	}
	shared.dir = dir
	// A test that root runs has its server run as another user, who must get here.
	if err := os.Chmod(dir, 0o711); err != nil {
		return "", err
	}
	path := filepath.Join(dir, local.BinaryName)
	out, err := exec.Command("go", "build", "-o", path, "weir/cmd/weir-clickhouse").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build weir/cmd/weir-clickhouse: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return path, nil
})

var startOnce = sync.OnceValues(func() (*local.Server, error) {
	binary, err := buildOnce()
	if err != nil {
		return nil, err
	}
	// Ample for a first download on a slow line; go test's own limit comes before.
	ctx, cancel := context.WithTimeout(context.Background(), 9*time.Minute)
	defer cancel()
	shared.server, err = local.Start(ctx, local.Options{
		Binary:     binary,
		DataDir:    filepath.Join(shared.dir, "data"),
		Memory:     "2GiB",
		NoProgress: true,
		Stderr:     os.Stderr,
	})
	return shared.server, err
})

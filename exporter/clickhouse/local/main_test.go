//go:build linux && amd64

package local_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"weir/exporter/clickhouse/local"
	"weir/exporter/clickhouse/local/localtest"
)

// asParent makes the test binary a program that starts a server and then waits to
// be killed. Its value is the Options of that server in JSON.
const asParent = "WEIR_LOCAL_TEST_AS_PARENT"

func TestMain(m *testing.M) {
	if options := os.Getenv(asParent); options != "" {
		parent(options)
	}
	localtest.Main(m)
}

func parent(options string) {
	var o local.Options
	if err := json.Unmarshal([]byte(options), &o); err != nil {
		panic(err)
	}
	s, err := local.Start(context.Background(), o)
	if err != nil {
		panic(err)
	}
	fmt.Println(s.PID)
	select {}
}

// dataDir is a folder that the user a server runs as can reach, which those of
// t.TempDir are not under every umask.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "weir-local-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "data")
}

func options(t *testing.T, dir string) local.Options {
	return local.Options{Binary: localtest.Binary(t), DataDir: dir, NoProgress: true, Stderr: os.Stderr}
}

func start(t *testing.T, o local.Options) *local.Server {
	t.Helper()
	s, err := local.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *local.Server) {
	t.Helper()
	if err := s.Stop(context.WithoutCancel(t.Context())); err != nil && !t.Failed() && !strings.Contains(err.Error(), "signal: ") {
		t.Error(err)
	}
}

// connect is a client of the native protocol.
func connect(t *testing.T, addr, user, password string) driver.Conn {
	t.Helper()
	conn, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{addr},
		Auth: clickhouse.Auth{Username: user, Password: password},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func execute(t *testing.T, conn driver.Conn, queries ...string) {
	t.Helper()
	for _, query := range queries {
		if err := conn.Exec(t.Context(), query); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
}

func count(t *testing.T, conn driver.Conn, table string) (n uint64) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), "SELECT count() FROM "+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// code is ClickHouse's number for an error.
func code(err error) int32 {
	var e *clickhouse.Exception
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// processStatus returns a field of /proc/PID/status.
func processStatus(t *testing.T, pid int, field string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	t.Fatalf("no %s in the status of process %d", field, pid)
	return ""
}

func takePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

// signal sends sig to the server's process and waits until that has ended.
func signal(t *testing.T, s *local.Server, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(s.PID, sig); err != nil {
		t.Fatal(err)
	}
	<-s.Ended()
}

func parentCommand(t *testing.T, o local.Options) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o.Stderr = nil // not for JSON
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), asParent+"="+string(b))
	return cmd
}

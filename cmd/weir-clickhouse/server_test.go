//go:build linux && amd64

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"weir/exporter/clickhouse"
	"weir/exporter/clickhouse/local"
	"weir/flows"
)

// asRedirected makes the test binary a process that has called keepStandardFiles.
// Its value is the folder of the logs.
const asRedirected = "WEIR_CLICKHOUSE_TEST_AS_REDIRECTED"

// redirected prints what descriptors 0 to 2 are once the collector has run.
func redirected(dir string) {
	if _, err := openLogs(dir); err != nil {
		panic(err)
	}
	for range 2 {
		collect()
	}
	for fd := range 3 {
		name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		fmt.Println(name, err)
	}
	fmt.Fprintln(os.Stderr, "still heard")
}

// collect returns once the collector has closed a file that was dropped.
func collect() {
	read, _, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	defer read.Close()
	closed := make(chan struct{})
	go func() {
		read.Read(make([]byte, 1)) // ends when no process has the other end
		close(closed)
	}()
	for {
		runtime.GC()
		runtime.GC()
		select {
		case <-closed:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

const collected = "collected\n"

// collectOnSignal runs the collector in a server of the tests when they ask for it:
// what the engine opens next would be descriptor 1 if that were free.
func collectOnSignal() {
	sigs := make(chan os.Signal, 1)
	signal.Notify(sigs, syscall.SIGUSR1)
	for range sigs {
		for range 2 {
			collect()
		}
		fmt.Fprint(os.Stderr, collected)
	}
}

// TestStandardFilesStay: the descriptors that the engine writes on are the log's
// for good, however often the garbage collector runs.
func TestStandardFilesStay(t *testing.T) {
	dir := t.TempDir()
	cmd := program(t)
	cmd.Env = append(cmd.Env, asRedirected+"="+dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	console, err := filepath.EvalSymlinks(filepath.Join(dir, "console.log"))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("/dev/null <nil>\n%[1]s <nil>\n%[1]s <nil>\n", console); string(out) != want {
		t.Errorf("descriptors 0 to 2 are\n%swant\n%s", out, want)
	}
	if stderr.String() != "still heard\n" {
		t.Errorf("standard error is %q", &stderr)
	}
}

// TestTokenOutlivesRestart: what a token has inserted is remembered by the server's
// next life, from files with nothing else in them.
func TestTokenOutlivesRestart(t *testing.T) {
	t.Setenv(asProgram, "1")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "weir-server-") // unlike t.TempDir's, one that the server's user can reach
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil { // as /proc names it
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer write.Close()
	stderr := bufio.NewReader(read)
	console := filepath.Join(data, logsDir, "console.log")
	for life := range 3 {
		s, err := local.Start(t.Context(), local.Options{Binary: self, DataDir: data, NoProgress: true, Stderr: write})
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(s.PID, syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		for line := ""; line != collected; {
			if line, err = stderr.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		for _, fd := range []string{"1", "2"} {
			name, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", s.PID, fd))
			if err != nil || name != console {
				t.Errorf("life %d: descriptor %s is %s, %v; want %s", life+1, fd, name, err, console)
			}
		}
		insertOnce(t, s)
		if err := s.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		checkStore(t, data)
		log, err := os.ReadFile(filepath.Join(data, logsDir, "server.log"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, "CANNOT_PARSE") || strings.Contains(line, "Cannot parse") {
				t.Errorf("life %d: %s", life+1, line)
			}
		}
	}
}

// insertOnce inserts the same records under the same token at each call, and counts.
func insertOnce(t *testing.T, s *local.Server) {
	t.Helper()
	ctx := t.Context()
	o := clickhouse.Options{Addr: []string{s.Addr}, User: s.User, Password: s.Password, Database: "d"}
	if err := clickhouse.Apply(ctx, o, clickhouse.SchemaOptions{}); err != nil {
		t.Fatal(err)
	}
	sink, err := clickhouse.NewSink(ctx, o, clickhouse.SinkOptions{Token: "same", MaxRows: 2})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC).UnixNano()
	b := &flows.Batch{Host: "h", Interface: "eth0", Start: start, End: start + 10e9, Ledger: &flows.Ledger{Packets: 10, Metered: 10}}
	for i := range 10 {
		b.Records = append(b.Records, flows.Record{
			Key:     flows.NewKey(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.1"), uint16(40000+i), 443, 0, 6, flows.DirectionIn),
			Forward: flows.Counters{Packets: 1, Octets: 40},
			First:   start, Last: start, Start: start,
		})
	}
	if err := sink.Write(ctx, b); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(ctx); err != nil {
		t.Fatal(err)
	}
	for table, want := range map[string]string{"flows": "10", "ledger": "1"} {
		if got := ask(t, s, "SELECT count() FROM d."+table); got != want {
			t.Errorf("%s has %s rows, want %s", table, got, want)
		}
	}
	for _, table := range []string{"flows_1m", "flows_1h"} {
		if got := ask(t, s, "SELECT sum(records) FROM d."+table); got != "10" {
			t.Errorf("%s has %s records, want 10", table, got)
		}
	}
}

// operation is a line of a deduplication log: what was done, part, id of the block.
var operation = regexp.MustCompile(`^[12]\t[0-9a-z_]+\t[!-~]+\n$`)

func checkStore(t *testing.T, data string) {
	t.Helper()
	seen := 0
	err := filepath.WalkDir(filepath.Join(data, storeDir), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasPrefix(d.Name(), "deduplication_log_") {
			return err
		}
		b, err := os.ReadFile(path)
		for line := range strings.Lines(string(b)) {
			seen++
			if !operation.MatchString(line) {
				t.Errorf("%s: %q", path, line)
			}
		}
		return err
	})
	if err != nil || seen == 0 {
		t.Errorf("%d lines of deduplication logs, %v", seen, err)
	}
}

// ask returns the answer of the HTTP interface, which is one value.
func ask(t *testing.T, s *local.Server, query string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.HTTPAddr, strings.NewReader(query))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(s.User, s.Password)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", query, b)
	}
	return strings.TrimSpace(string(b))
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"weir/exporter/clickhouse"
	"weir/exporter/clickhouse/local/localtest"
)

// serverFlags returns the flags that reach the test's server, with a database of
// the test's own.
func serverFlags(t *testing.T, database string) (flags []string, o clickhouse.Options) {
	t.Helper()
	s := localtest.Start(t)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(s.Password), 0o600); err != nil {
		t.Fatal(err)
	}
	o = clickhouse.Options{Addr: []string{s.Addr}, User: s.User, Password: s.Password, Database: database}
	return []string{"--clickhouse", s.Addr, "--user", s.User, "--password-file", password, "--database", database}, o
}

// count returns the answer to a question whose answer is one number.
func count(t *testing.T, o clickhouse.Options, sql string) (n uint64) {
	t.Helper()
	// In a goroutine of its own: that of the test may be in another network namespace.
	result := make(chan error)
	go func() {
		r, err := clickhouse.NewReader(context.Background(), o, clickhouse.Limits{})
		if err == nil {
			defer r.Close()
			err = r.Query(context.Background(), sql, nil, 1, func(rows clickhouse.Rows) error { return rows.Scan(&n) }, nil)
		}
		result <- err
	}()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	return n
}

// TestReplayCountsOnce replays a capture into ClickHouse twice under one token:
// rows and roll-ups count once. Under another token they count again.
func TestReplayCountsOnce(t *testing.T) {
	flags, o := serverFlags(t, "once")
	if r := weir(t, nil, append([]string{"schema", "--apply"}, flags...)...); r.code != exitOK {
		t.Fatal(r.stderr)
	}
	replay := func(token string) {
		t.Helper()
		args := append([]string{"replay", "--output", "clickhouse", "--token", token}, flags...)
		r := weir(t, nil, append(args, captures+"/long.pcap", captures+"/web.pcap")...)
		if r.code != exitOK || r.stdout != "" {
			t.Fatalf("exit %d: %s", r.code, r.stderr)
		}
	}
	sums := func() [3]uint64 {
		return [3]uint64{
			count(t, o, "SELECT count() FROM once.flows"),
			count(t, o, "SELECT toUInt64(sum(bytes + reverse_bytes)) FROM once.flows"),
			count(t, o, "SELECT toUInt64(sum(bytes + reverse_bytes)) FROM once.flows_1m"),
		}
	}
	replay("a")
	once := sums()
	lines := strings.Count(weir(t, nil, "replay", "--output", "jsonl", captures+"/long.pcap", captures+"/web.pcap").stdout, "\n")
	if once[0] != uint64(lines) || once[1] == 0 || once[1] != once[2] {
		t.Fatalf("rows, bytes, bytes rolled up: %v; JSON has %d lines", once, lines)
	}
	replay("a")
	if got := sums(); got != once {
		t.Errorf("again under the same token: %v, want %v", got, once)
	}
	replay("b")
	if got, want := sums(), [3]uint64{2 * once[0], 2 * once[1], 2 * once[2]}; got != want {
		t.Errorf("under another token: %v, want %v", got, want)
	}
	if ledger := count(t, o, "SELECT toUInt64(sum(records)) FROM once.ledger"); ledger != 2*once[0] {
		t.Errorf("the ledger knows of %d records, there are %d", ledger, 2*once[0])
	}
}

// TestSameInClickHouse: what a query answers is what a replay prints.
func TestSameInClickHouse(t *testing.T) {
	flags, _ := serverFlags(t, "same")
	if r := weir(t, nil, append([]string{"schema", "--apply"}, flags...)...); r.code != exitOK {
		t.Fatal(r.stderr)
	}
	file := captures + "/cooked.pcap"
	if r := weir(t, nil, append(append([]string{"replay", "--output", "clickhouse"}, flags...), file)...); r.code != exitOK {
		t.Fatal(r.stderr)
	}
	answer := weir(t, nil, append([]string{"query", "flows", "--output", "csv", "--limit", "100000"}, flags...)...)
	if answer.code != exitOK {
		t.Fatal(answer.stderr)
	}
	printed := weir(t, nil, "replay", "--output", "csv", file)
	names := []string{"direction", "proto", "src_ip", "dst_ip", "src_port", "dst_port", "vlan", "packets", "bytes",
		"tcp_flags", "reverse_packets", "reverse_bytes", "reverse_tcp_flags", "initiator", "end_reason"}
	got, want := columns(t, answer.stdout, names), columns(t, printed.stdout, names)
	slices.Sort(got)
	slices.Sort(want)
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("ClickHouse has %d records, replay %d:\n%s", len(got), len(want),
			firstDifference(strings.Join(want, "\n"), strings.Join(got, "\n")))
	}
}

// columns returns the named columns of a CSV text, a line a row.
func columns(t *testing.T, text string, names []string) (lines []string) {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var at []int
	for _, n := range names {
		i := slices.Index(rows[0], n)
		if i < 0 {
			t.Fatalf("no column %s in %v", n, rows[0])
		}
		at = append(at, i)
	}
	for _, row := range rows[1:] {
		var cells []string
		for _, i := range at {
			cells = append(cells, row[i])
		}
		lines = append(lines, strings.Join(cells, ","))
	}
	return lines
}

// TestExportErrors: what is wrong with the server is said, with what to do.
func TestExportErrors(t *testing.T) {
	flags, _ := serverFlags(t, "nothing_here")
	web := captures + "/web.pcap"
	args := append([]string{"replay", "--output", "clickhouse"}, flags...)
	r := weir(t, nil, append(args, web)...)
	if r.code != exitFailure || !strings.Contains(r.stderr, "weir schema --apply") {
		t.Errorf("no tables: exit %d: %s", r.code, r.stderr)
	}
	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, []byte("wrong-secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	r = weir(t, nil, append(args, "--password-file", wrong, web)...)
	if r.code != exitFailure || !strings.Contains(r.stderr, "password") || strings.Contains(r.stderr, "wrong-secret") {
		t.Errorf("wrong password: exit %d: %s", r.code, r.stderr)
	}
	r = weir(t, nil, "replay", "--output", "clickhouse", "--data", t.TempDir(), web)
	if r.code != exitFailure || !strings.Contains(r.stderr, "weir-clickhouse serve") {
		t.Errorf("no server: exit %d: %s", r.code, r.stderr)
	}
}

// TestDemoElsewhere runs the demo on a server that is configured, and says how to ask
// that one further.
func TestDemoElsewhere(t *testing.T) {
	flags, o := serverFlags(t, "untouched")
	r := weir(t, nil, append([]string{"demo"}, flags[:len(flags)-2]...)...) // without --database; does not wait: the server is not its own
	if r.code != exitOK || !strings.Contains(r.stdout, "--clickhouse "+o.Addr[0]) || strings.Contains(r.stdout, o.Password) {
		t.Fatalf("exit %d: %s%s", r.code, r.stderr, r.stdout)
	}
	o.Database = demoDatabase
	if n := count(t, o, "SELECT count() FROM "+demoDatabase+".flows"); n == 0 {
		t.Error("no flows")
	}
}

// TestDemo runs the demo on a server that it starts itself, twice.
func TestDemo(t *testing.T) {
	server := localtest.Binary(t)
	program, err := buildProgram()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Dir(server) + string(os.PathListSeparator) + os.Getenv("PATH")
	if filepath.Dir(program) == filepath.Dir(server) {
		t.Fatal("the test wants the server found in PATH")
	}
	data := openDir(t)
	for range 2 {
		r := weirEnv(t, []string{"PATH=" + path, "LC_ALL=C.UTF-8"}, nil, "demo", "--no-wait", "--data", data)
		if r.code != exitOK {
			t.Fatalf("exit %d: %s", r.code, r.stderr)
		}
		for _, want := range []string{"packets=6529 ", "10.99.1.10", "icmp6", "weir query", "█"} {
			if !strings.Contains(r.stdout, want) {
				t.Errorf("the demo does not show %q:\n%s", want, r.stdout)
			}
		}
	}
}

// TestDemoCtrlC: the signal of a terminal goes to the demo and to all that it has
// started; the demo stops its server in good order.
func TestDemoCtrlC(t *testing.T) {
	program, err := buildProgram()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "demo", "--data", openDir(t))
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(localtest.Binary(t))+string(os.PathListSeparator)+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "until Ctrl-C") {
			if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, stderr.String())
	}
}

// openDir returns a temporary folder that others may enter: started by root, the
// server runs as another user.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weir/capture/capturetest"
	"weir/capture/link"
	"weir/exporter/clickhouse/local/localtest"
)

// checked is what weir check has found.
type checked struct {
	t    *testing.T
	text string
	code int
	rows []struct{ State, What, Detail, Advice string }
}

// runCheck runs weir check in the namespace of the calling goroutine, with a socket that
// can be made and without a database, unless env or flags say otherwise.
func runCheck(t *testing.T, env []string, flags ...string) *checked {
	t.Helper()
	return checkAs(t, nil, nil, env, flags...)
}

// checkAs runs it as another user, or by another program.
func checkAs(t *testing.T, as *syscall.Credential, by, env []string, flags ...string) *checked {
	t.Helper()
	path, err := buildProgram()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	args := slices.Concat(by, []string{path, "check", "--output", "json"}, flags)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	cmd.Env = append(append(os.Environ(), "WEIR_OUTPUT=none", "WEIR_ADMIN_SOCKET="+filepath.Join(os.TempDir(), "weir-check.sock")), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	c := &checked{t: t, text: stdout.String(), code: cmd.ProcessState.ExitCode()}
	for line := range strings.Lines(c.text) {
		c.rows = append(c.rows, struct{ State, What, Detail, Advice string }{})
		if err := json.Unmarshal([]byte(line), &c.rows[len(c.rows)-1]); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
	}
	bad := 0
	for _, r := range c.rows {
		if r.State == stateError {
			bad++
		}
		if (r.Advice == "") != (r.State == stateOK) || r.What == "" || r.Detail == "" {
			t.Errorf("%+v", r)
		}
	}
	if len(c.rows) == 0 || stderr.Len() > 0 || c.code != min(bad, 1) {
		t.Errorf("%v: exit %d with %d errors: %s%s", flags, c.code, bad, c.text, stderr.String())
	}
	return c
}

// has holds that there is a finding, of whose text parts are given, and whose advice, if
// it is not ok, names something.
func (c *checked) has(state, what, detail, advice string) {
	c.t.Helper()
	for _, r := range c.rows {
		if r.State == state && r.What == what && strings.Contains(r.Detail, detail) && strings.Contains(r.Advice, advice) {
			return
		}
	}
	c.t.Errorf("no %s of %s with %q and advice with %q in\n%s", state, what, detail, advice, c.text)
}

// errors holds which things alone there are errors of.
func (c *checked) errors(whats ...string) {
	c.t.Helper()
	var have []string
	for _, r := range c.rows {
		if r.State == stateError {
			have = append(have, r.What)
		}
	}
	if !slices.Equal(have, whats) {
		c.t.Errorf("errors of %q, want %q:\n%s", have, whats, c.text)
	}
}

func TestCheckInterfaces(t *testing.T) {
	capturetest.Namespace(t)
	cables(t, 3)
	capturetest.IP(t, "link set c1 down")
	capturetest.IP(t, "link add br0 type bridge")
	capturetest.IP(t, "link set c2 master br0")
	capturetest.IP(t, "link set br0 up")
	const mayCapture = "can be captured on"

	here(t, "default", func() {
		c := runCheckHere(t)
		c.errors()
		for _, name := range []string{"c0", "s0", "br0"} {
			c.has(stateOK, "interface "+name, mayCapture, "")
		}
		c.has(stateOK, "interface lo", "left out: loopback", "")
		c.has(stateOK, "interface c1", "left out: interface is down", "")
		c.has(stateOK, "interface c2", "left out: member of br0", "")
		c.has(stateOK, "capabilities", "CAP_NET_RAW", "")
		c.has(stateOK, "memory", "flows.max", "")
		c.has(stateOK, "clock", "UTC", "")
		c.has(stateOK, "output", "none", "")
	})
	for _, x := range []struct {
		name                        string
		flags                       string
		state, what, detail, advice string
		errors                      string
	}{
		{"not there", "-i c0,c9", stateWarning, "interfaces.include", `"c9"`, "weir interfaces", ""},
		{"nothing there", "-i c9", stateError, "interfaces", "nothing", "interfaces.include", "interfaces"},
		{"fits none", "-i c0,/^wlan/", stateWarning, "interfaces.include", "/^wlan/", "interfaces.include", ""},
		{"down", "-i c0,c1", stateWarning, "interface c1", "down", "ip link set c1 up", ""},
		{"down by pattern", "-i /^c/", stateWarning, "interface c1", "down", "ip link set c1 up", ""},
		{"excluded", "--exclude c0", stateOK, "interface c0", "interfaces.exclude", "", ""},
		{"not picked", "-i c0", stateOK, "interface s0", "interfaces.include", "", ""},
		{"loopback", "-i lo", stateOK, "interface lo", mayCapture, "", ""},
		{"member of a captured one", "-i c2,br0", stateWarning, "interface c2", "twice", "interfaces.exclude", ""},
		{"memory", "-i c0 --buffer 1TiB", stateError, "memory", "1.1 TB", "capture.buffer", "memory"},
		{"not tried without memory", "-i c0 --buffer 1TiB", stateOK, "interface c0", "not tried", "", "memory"},
		{"flows", "-i c0 --max-flows 268435456", stateWarning, "memory", "54 GB", "flows.max", ""},
	} {
		here(t, x.name, func() {
			if x.name == "flows" && min(availableMemory(), cgroupMemory()) > 53e9 {
				return // there is memory enough
			}
			c := runCheckHere(t, strings.Fields(x.flags)...)
			c.has(x.state, x.what, x.detail, x.advice)
			c.errors(strings.Fields(x.errors)...)
		})
	}
	here(t, "special", func() {
		c := runCheckHere(t, "--config", checkFile(t, "output: none\ninterfaces: {include: [c0, s0], hotplug: false, special: [{match: c0, timestamps: hardware}, {match: s0, rings: 3, buffer: 2MiB}]}\n"))
		c.has(stateError, "interface c0", "hardware timestamps", "capture.timestamps")
		c.has(stateOK, "interface s0", "3 of 2MiB", "")
		c.has(stateOK, "capabilities", "CAP_NET_ADMIN", "")
		c.errors("interface c0")
	})
	here(t, "no IP", func() {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		r, err := unix.NewIfreq("can7")
		if err != nil {
			t.Fatal(err)
		}
		r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err != nil {
			t.Fatal(err)
		}
		if err := unix.IoctlSetInt(fd, unix.TUNSETLINK, 280); err != nil { // ARPHRD_CAN
			t.Fatal(err)
		}
		capturetest.IP(t, "link set can7 up")
		runCheckHere(t).has(stateOK, "interface can7", "unsupported link type CAN", "")
		c := runCheckHere(t, "-i", "c0", "-i", "can7")
		c.has(stateError, "interface can7", "unsupported link type CAN", "interfaces.exclude")
		c.errors("interface can7")
	})
	here(t, "changes nothing", func() {
		links := func() string {
			out, err := exec.Command("ip", "-d", "link", "show", "c0").CombinedOutput() // a bridge has timers
			if err != nil {
				t.Fatal(err)
			}
			return string(out)
		}
		dir := shortDir(t)
		before := links()
		c := runCheck(t, []string{"WEIR_ADMIN_SOCKET=" + filepath.Join(dir, "new", "weir.sock")}, "--promiscuous")
		c.has(stateOK, "interface c0", "promiscuous", "")
		c.has(stateOK, "admin.socket", "can be made", "")
		if after := links(); after != before {
			t.Errorf("before\n%s\nafter\n%s", before, after)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("%v, %v", entries, err)
		}
	})
	here(t, "table", func() {
		if out, err := exec.Command("ip", "link", "add", "\x1b[31m", "type", "veth").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		r := weirEnv(t, []string{"WEIR_OUTPUT=none", "LC_ALL=C"}, nil, "check", "-i", "c0", "-i", "\x1b[31m", "-i", "c9")
		if r.code != exitOK || strings.Contains(r.stdout, "\x1b") || !strings.Contains(r.stdout, `interface \x1b[31m `) {
			t.Errorf("exit %d: %q", r.code, r.stdout)
		}
		lines := strings.Split(r.stdout, "\n")
		i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "warning  interfaces.include") })
		if i < 0 || !strings.HasPrefix(lines[i+1], "         -> correct interfaces.include") || !strings.Contains(r.stdout, "\nweir run can do its work here: errors 0, warnings ") {
			t.Errorf("%s", r.stdout)
		}
	})
}

// here is t.Run without a goroutine, which would not be in the test's namespace.
func here(t *testing.T, name string, f func()) {
	t.Helper()
	if f(); t.Failed() {
		t.Fatalf("in: %s", name)
	}
}

// runCheckHere is runCheck without anything in the environment.
func runCheckHere(t *testing.T, flags ...string) *checked {
	t.Helper()
	return runCheck(t, nil, flags...)
}

func checkFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weir.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// shortDir returns a folder in which the path of a socket has room.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "weir")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

var nobody = &syscall.Credential{Uid: 65534, Gid: 65534}

func TestCheckPermissions(t *testing.T) {
	capturetest.Namespace(t)
	cables(t, 1)
	here(t, "nobody", func() {
		c := checkAs(t, nobody, nil, nil)
		c.has(stateError, "capabilities", "CAP_NET_RAW", "setcap cap_net_raw+ep ")
		c.has(stateOK, "user", "stays user 65534", "")
		c.has(stateOK, "interface c0", "not tried", "")
		c.errors("capabilities")
	})
	here(t, "nobody with the capability", func() {
		by := []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=+net_raw", "--ambient-caps=+net_raw"}
		c := checkAs(t, nil, by, nil)
		c.has(stateOK, "interface c0", "can be captured on", "")
		c.errors()
	})
	here(t, "in a user namespace", func() {
		c := checkAs(t, nil, []string{"unshare", "--user", "--map-root-user"}, []string{"WEIR_USER=root"}, "-i", "c0")
		c.has(stateError, "interface c0", "operation not permitted", "user namespace")
		c.errors("interface c0")
	})
	here(t, "root", func() {
		runCheck(t, []string{"WEIR_USER=nobody"}).has(stateOK, "user", "changes to nobody (65534)", "")
		runCheck(t, []string{"WEIR_USER=root"}).has(stateOK, "user", "stays root", "")
		runCheck(t, []string{"WEIR_USER=4242"}).has(stateOK, "user", "changes to 4242 (4242)", "")
		for _, name := range []string{"weir-nobody-knows", "0"} {
			c := runCheck(t, []string{"WEIR_USER=" + name})
			c.has(stateError, "user", name, "useradd")
			c.errors("user")
		}
	})
	here(t, "root that may not change", func() {
		c := checkAs(t, nil, []string{"setpriv", "--bounding-set=-setuid"}, nil)
		c.has(stateError, "user", "CAP_SETUID is missing", "key user")
		c.errors("user")
	})
	here(t, "configuration", func() {
		path := checkFile(t, "output: none\n")
		c := runCheckHere(t, "--config", path)
		c.has(stateWarning, "user", "permission denied", "chmod")
		c.errors()
		for dir := path; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if c := runCheckHere(t, "--config", path); strings.Contains(c.text, "chmod") {
			t.Error(c.text)
		}
	})
	here(t, "cgo", func() {
		path := filepath.Join(t.TempDir(), "weir")
		build := exec.Command("go", "build", "-o", path, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=1")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		cmd := exec.Command(path, "check")
		cmd.Env = append(os.Environ(), "WEIR_OUTPUT=none")
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() != exitFailure || !strings.Contains(string(out), "-> build it with CGO_ENABLED=0") {
			t.Errorf("%v: %s", err, out)
		}
	})
}

func TestCheckSockets(t *testing.T) {
	capturetest.Namespace(t)
	cables(t, 1)
	listen := func(addr string) string {
		t.Helper()
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		go http.Serve(ln, http.NotFoundHandler())
		return ln.Addr().String()
	}
	at := func(path string) []string { return []string{"WEIR_ADMIN_SOCKET=" + path} }
	dir := shortDir(t)
	here(t, "address", func() {
		taken := listen("127.0.0.1:0")
		c := runCheckHere(t, "--listen", taken)
		c.has(stateError, "admin.listen", "address already in use", "admin.listen")
		c.errors("admin.listen")
		listen("127.0.0.1:9780")
		c = runCheckHere(t)
		c.has(stateWarning, "admin.listen", "address already in use", "admin.listen")
		c.errors()
		runCheckHere(t, "--listen", "").has(stateOK, "admin.listen", "no metrics", "")
		runCheckHere(t, "--listen", "192.0.2.1:1").errors("admin.listen")
		runCheckHere(t, "--listen", "nonsense").errors("admin.listen")
	})
	here(t, "agent", func() {
		const addr = "127.0.0.1:9781"
		p := startAgent(t, "--output", "none", "--interface", "c0", "--listen", addr)
		p.captures("c0")
		c := runCheck(t, at(p.socket), "--listen", addr)
		c.has(stateOK, "admin.listen", "a weir listens", "")
		c.has(stateOK, "admin.socket", fmt.Sprintf("process %d", p.cmd.Process.Pid), "")
		c.errors()
		p.stop()
	})
	here(t, "socket", func() {
		file := filepath.Join(dir, "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		other := filepath.Join(dir, "other")
		ln, err := net.Listen("unix", other)
		if err != nil {
			t.Fatal(err)
		}
		go http.Serve(ln, http.NotFoundHandler())
		left := filepath.Join(dir, "left")
		gone, err := net.ListenUnix("unix", &net.UnixAddr{Name: left, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		gone.SetUnlinkOnClose(false)
		gone.Close()
		for path, want := range map[string]string{file: "no socket", other: "another program", dir + "/" + strings.Repeat("x", 100): "longer than the 107"} {
			c := runCheck(t, at(path))
			c.has(stateError, "admin.socket", want, "admin.socket")
			c.errors("admin.socket")
		}
		ln.Close()
		runCheck(t, at(left)).has(stateOK, "admin.socket", "can be made", "")
		own := t.TempDir() // root's alone
		if err := os.Chmod(own, 0o700); err != nil {
			t.Fatal(err)
		}
		c := checkAs(t, nobody, nil, at(own+"/weir/weir.sock"))
		c.has(stateError, "admin.socket", "permission denied", "admin.socket")
		c.errors("capabilities", "admin.socket")
		c = checkAs(t, nobody, nil, []string{"WEIR_ADMIN_SOCKET=", "XDG_RUNTIME_DIR="})
		c.has(stateWarning, "admin.socket", "/run", "let this user write to /run")
		c.errors("capabilities")
	})
}

func TestCheckConfiguration(t *testing.T) {
	capturetest.Namespace(t)
	cables(t, 1)
	for _, x := range []struct{ name, text, detail, advice string }{
		{"misspelt key", "clickhouse:\n  adr: [localhost:9000]\n", "clickhouse.adr", "config.example.yaml"},
		{"no YAML", "clickhouse: [\n", "weir.yaml", "config.example.yaml"},
		{"value", "flows: {interval: 3}\n", "flows.interval", "correct flows.interval"},
		{"special", "interfaces: {special: [{buffer: 2MiB}]}\n", "entry 1", "correct interfaces.special"},
	} {
		here(t, x.name, func() {
			c := runCheckHere(t, "--config", checkFile(t, x.text))
			c.has(stateError, "configuration", x.detail, x.advice)
			c.errors("configuration")
		})
	}
	here(t, "no file", func() {
		c := runCheckHere(t, "--config", filepath.Join(t.TempDir(), "none"))
		c.has(stateError, "configuration", "no such file", "--config")
	})
	here(t, "file", func() {
		path := checkFile(t, "log: {level: warn}\n")
		runCheckHere(t, "--config", path).has(stateOK, "configuration", path, "")
	})
	here(t, "environment", func() {
		c := runCheck(t, []string{"WEIR_CLICKHOUSE_ADR=x", "WEIR_PORT_9780_TCP=x", "WEIR_SERVICE_HOST=x", "WEIR_CLICKHOUSE_PASSWORD=secret"})
		c.has(stateWarning, "environment", "WEIR_CLICKHOUSE_ADR", "unset")
		if strings.Count(c.text, `"environment"`) != 1 || strings.Contains(c.text, "secret") {
			t.Error(c.text)
		}
	})
	here(t, "usage", func() {
		for _, args := range []string{"--output xml", "--nonsense", "extra"} {
			if r := weir(t, nil, append([]string{"check"}, strings.Fields(args)...)...); r.code != exitUsage || r.stdout != "" {
				t.Errorf("%s: exit %d: %s%s", args, r.code, r.stdout, r.stderr)
			}
		}
	})
}

func TestCheckClickHouse(t *testing.T) {
	s := localtest.Start(t)
	out := []string{"WEIR_OUTPUT=clickhouse"}
	c := runCheck(t, out, "--data", s.DataDir, "--database", "check_local")
	c.has(stateOK, "ClickHouse", s.Version, "")
	c.has(stateOK, "ClickHouse tables", "weir run makes what is missing", "")
	c.has(stateOK, "ClickHouse ledger", "may be inserted", "")

	flags, o, f := database(t, "check")
	cables(t, 1)
	with := func(replace ...string) []string { // a flag and its value, and so on
		args := slices.Clone(flags)
		for i := 0; i < len(replace); i += 2 {
			args[slices.Index(args, replace[i])+1] = replace[i+1]
		}
		return args
	}
	wrong := filepath.Join(t.TempDir(), "wrong")
	reader := filepath.Join(t.TempDir(), "reader")
	for path, text := range map[string]string{wrong: "wrong", reader: s.ReaderPassword} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	here(t, "well", func() {
		c := runCheck(t, out, flags...)
		c.errors()
		c.has(stateOK, "ClickHouse", s.Version, "")
		c.has(stateOK, "ClickHouse tables", "database check has schema version", "")
		c.has(stateOK, "ClickHouse flows", "may be inserted", "")
		c.has(stateOK, "ClickHouse ledger", "may be inserted", "")
		if strings.Contains(c.text, o.Password) || strings.Contains(c.text, "ClickHouse clock") {
			t.Error(c.text)
		}
	})
	here(t, "wrong password", func() {
		c := runCheck(t, out, with("--password-file", wrong)...)
		c.has(stateError, "ClickHouse", "Authentication failed", "clickhouse.password_file")
		c.errors("ClickHouse")
	})
	here(t, "no password file", func() {
		c := runCheck(t, out, with("--password-file", wrong+"er")...)
		c.has(stateError, "ClickHouse", "no such file", "clickhouse.password_file")
		c.errors("ClickHouse")
	})
	here(t, "no tables", func() {
		c := runCheck(t, out, with("--database", "check_none")...)
		c.has(stateError, "ClickHouse tables", "lacks weir_schema, flows", "weir schema --apply")
		c.errors("ClickHouse tables")
		c = runCheck(t, append(out, "WEIR_CLICKHOUSE_APPLY_SCHEMA=true"), with("--database", "check_none")...)
		c.has(stateOK, "ClickHouse tables", "weir run makes", "")
		c.errors()
		if n := count(t, o, "SELECT count() FROM system.databases WHERE name = 'check_none'"); n != 0 {
			t.Error("the check has made a database")
		}
	})
	here(t, "reader", func() {
		c := runCheck(t, out, with("--user", s.Reader, "--password-file", reader)...)
		c.has(stateError, "ClickHouse rights", "readonly", "clickhouse.user")
		c.has(stateError, "ClickHouse flows", "may not be inserted", "GRANT INSERT ON `check`.flows TO "+s.Reader)
		c.has(stateError, "ClickHouse ledger", "may not be inserted", "GRANT INSERT ON `check`.ledger TO "+s.Reader)
		c.errors("ClickHouse rights", "ClickHouse flows", "ClickHouse ledger")
		c = runCheck(t, append(out, "WEIR_CLICKHOUSE_APPLY_SCHEMA=true"), with("--database", "check_none", "--user", s.Reader, "--password-file", reader)...)
		c.has(stateError, "ClickHouse tables", "may not make", "GRANT CREATE DATABASE, CREATE TABLE, CREATE VIEW ON `check_none`.*")
	})
	here(t, "no server", func() {
		c := runCheck(t, out, with("--clickhouse", "127.0.0.1:1")...)
		c.has(stateError, "ClickHouse", "connection refused", "clickhouse.addr")
		c.errors("ClickHouse")
		c = runCheck(t, out, with("--clickhouse", "127.0.0.1:1,"+f.addr)...)
		c.has(stateWarning, "ClickHouse 127.0.0.1:1", "connection refused", "clickhouse.addr")
		c.has(stateOK, "ClickHouse "+f.addr, "answers", "")
		c.has(stateOK, "ClickHouse", s.Version, "")
		c.errors()
		c = runCheck(t, out, with("--clickhouse", "nonsense")...)
		c.has(stateError, "ClickHouse", "nonsense", "clickhouse.addr")
		c = runCheck(t, out, "--data", t.TempDir())
		c.has(stateError, "ClickHouse", "no ClickHouse", "weir-clickhouse serve")
		f.outage(true)
		defer f.outage(false)
		c = runCheck(t, out, flags...)
		c.has(stateError, "ClickHouse", "closed the connection", "native protocol")
		c.errors("ClickHouse")
	})
	here(t, "nobody", func() {
		c := checkAs(t, nobody, nil, out, flags...)
		c.has(stateError, "ClickHouse", "permission denied", "clickhouse.password_file")
		c.errors("capabilities", "ClickHouse")
	})
}

// TestCheckVLANs has the VLANs that not every kernel can make.
func TestCheckVLANs(t *testing.T) {
	parent := link.Link{Index: 2, Name: "eth0", Hardware: unix.ARPHRD_ETHER, Up: true}
	vlan := link.Link{Index: 3, Name: "eth0.7", Hardware: unix.ARPHRD_ETHER, Up: true, IsVLAN: true, VLAN: 7, Parent: 2}
	far := link.Link{Index: 4, Name: "far", Hardware: unix.ARPHRD_ETHER, Up: true, IsVLAN: true, VLAN: 7}
	links := []link.Link{parent, vlan, far}
	l := &liveConfig{ring: ringConfig{Buffer: "16MiB", Rings: 1, Snaplen: "all", Timestamps: "software"}}
	picked := l.selection.Pick(links)
	if why, wanted := l.leftOut(vlan, picked); len(picked) != 2 || why != "VLAN 7 of eth0, which is captured on" || wanted {
		t.Errorf("%v: %s, %v", picked, why, wanted)
	}
	l.selection.Include = []string{"eth0.7", "eth0", "far"}
	c := check{live: l}
	for _, i := range links {
		c.captured(i.Name, i, l.selection.Pick(links), false)
	}
	if len(c.found) != 4 || c.found[1].state != stateWarning || c.found[1].what != "eth0.7" || !strings.Contains(c.found[1].detail, "twice") ||
		!strings.Contains(c.found[1].advice, "interfaces.exclude") {
		t.Errorf("%+v", c.found)
	}
}

func TestCheckClocks(t *testing.T) {
	var c check
	c.clock(time.Date(2019, 12, 31, 23, 59, 59, 0, time.UTC))
	c.serverClock(-6 * time.Second)
	if len(c.found) != 2 || c.found[0].state != stateError || c.found[1].state != stateWarning || !strings.Contains(c.found[1].detail, "-6s") ||
		!strings.Contains(c.found[0].advice, "timedatectl") || !strings.Contains(c.found[1].advice, "timedatectl") {
		t.Errorf("%+v", c.found)
	}
	c.found = nil
	c.clock(time.Now())
	c.serverClock(4 * time.Second)
	if len(c.found) != 1 || c.found[0].state != stateOK {
		t.Errorf("%+v", c.found)
	}
}

func TestGrants(t *testing.T) {
	for _, x := range []struct {
		name  string
		lines grants
		want  bool
	}{
		{"none", nil, false},
		{"everything", grants{"GRANT ALL ON *.* TO u WITH GRANT OPTION"}, true},
		{"among others", grants{"GRANT SHOW, SELECT, INSERT, ALTER ON *.* TO u"}, true},
		{"database", grants{"GRANT INSERT ON `my-db`.* TO u"}, true},
		{"table", grants{"GRANT INSERT ON `my-db`.flows TO u"}, true},
		{"prefix", grants{"GRANT INSERT ON my*.* TO u"}, true},
		{"other database", grants{"GRANT INSERT ON other.* TO u"}, false},
		{"other table", grants{"GRANT INSERT ON `my-db`.ledger TO u"}, false},
		{"other right", grants{"GRANT SELECT ON *.* TO u"}, false},
		{"some columns", grants{"GRANT INSERT(a, b) ON `my-db`.flows TO u"}, false},
		{"revoked", grants{"GRANT INSERT ON *.* TO u", "REVOKE INSERT ON `my-db`.flows FROM u"}, false},
		{"revoked elsewhere", grants{"GRANT INSERT ON *.* TO u", "REVOKE INSERT ON other.* FROM u"}, true},
		{"no table", grants{"GRANT TABLE ENGINE ON * TO u"}, false},
	} {
		if got := x.lines.has("my-db", "flows", "INSERT"); got != x.want || x.lines.roles() {
			t.Errorf("%s: %v", x.name, got)
		}
	}
	if g := (grants{"GRANT CREATE ON *.* TO u", "GRANT r TO u"}); !g.roles() || !g.has("d", "*", "CREATE DATABASE", "CREATE VIEW") || g.has("d", "*", "CREATE VIEW", "INSERT") {
		t.Error("roles, or groups of rights")
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weir/capture/capturetest"
	"weir/exporter/clickhouse"
)

// database returns the flags that lead weir run in the calling goroutine's namespace,
// which begins here, to a database of the test's own.
func database(t *testing.T, name string) (flags []string, o clickhouse.Options, f *forwarder) {
	t.Helper()
	flags, o = serverFlags(t, name)
	if r := weir(t, nil, append([]string{"schema", "--apply"}, flags...)...); r.code != exitOK {
		t.Fatal(r.stderr)
	}
	capturetest.Namespace(t)
	f = forward(t)
	flags[1] = f.addr
	return append(flags, "--interval", "1s"), o, f
}

// cables makes pairs of interfaces, of which the agent sees those called c.
func cables(t *testing.T, n int) (senders []*capturetest.Sender, names []string) {
	t.Helper()
	for i := range n {
		a, b := capturetest.Cable(t, fmt.Sprintf("s%d", i), fmt.Sprintf("c%d", i))
		senders = append(senders, capturetest.NewSender(t, a))
		names = append(names, b.Name)
	}
	return senders, names
}

// send sends packets of 500 flows, letting the kernel take breath.
func send(t *testing.T, s *capturetest.Sender, n int) {
	t.Helper()
	for i := range n {
		if err := s.Send(capturetest.UDP(100, uint64(i))); err != nil {
			t.Fatal(err)
		}
		if i%500 == 499 {
			time.Sleep(time.Millisecond) // net.core.netdev_max_backlog is 1000
		}
	}
}

// rows returns how many packets of an interface are in the table.
func rows(t *testing.T, o clickhouse.Options, iface string) uint64 {
	t.Helper()
	return count(t, o, fmt.Sprintf("SELECT toUInt64(sum(packets + reverse_packets)) FROM %s.flows WHERE iface = '%s'", o.Database, iface))
}

// TestRunInterfaces captures on 1, 10 and 100 interfaces at once: each has its packets
// in ClickHouse, and the ledger agrees.
func TestRunInterfaces(t *testing.T) {
	for _, n := range []int{1, 10, 100} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			flags, o, _ := database(t, fmt.Sprintf("run_%d", n))
			senders, names := cables(t, n)
			p := startAgent(t, append(flags, "--interface", "/^c/", "--buffer", "2MiB")...)
			p.captures(names...)
			const each = 2000
			for i, s := range senders {
				send(t, s, each+i)
			}
			sum := uint64(n*each + n*(n-1)/2)
			s := p.stop()
			if s.packets+s.drops != sum {
				t.Fatalf("%+v, sent %d", s, sum)
			}
			ledger := func(column, iface string) uint64 {
				return count(t, o, fmt.Sprintf("SELECT toUInt64(sum(%s)) FROM %s.ledger WHERE iface LIKE '%s'", column, o.Database, iface))
			}
			for i, name := range names {
				got, drops := rows(t, o, name), uint64(0)
				if s.drops > 0 {
					drops = ledger("drops", name)
				}
				if got+drops != uint64(each+i) {
					t.Errorf("%s: %d packets in ClickHouse, %d dropped, sent %d", name, got, drops, each+i)
				}
			}
			if packets := ledger("packets", "%"); packets != s.packets || ledger("metered", "%") != packets || ledger("drops", "%") != s.drops {
				t.Errorf("ledger: %d packets, %d metered, %d drops; %+v", packets, ledger("metered", "%"), ledger("drops", "%"), s)
			}
			if records, all := ledger("records", "%"), count(t, o, "SELECT count() FROM "+o.Database+".flows"); records != all {
				t.Errorf("ledger: %d records; there are %d", records, all)
			}
		})
	}
}

// TestRunHotplug has interfaces come, go, flap, and change their names under traffic.
func TestRunHotplug(t *testing.T) {
	flags, o, _ := database(t, "run_hotplug")
	p := startAgent(t, append(flags, "--interface", "/^c/")...)
	p.says("changed user")
	sent := uint64(0)
	arrive := func(s *capturetest.Sender, name string, n int) {
		t.Helper()
		before := p.status().of(name).Packets
		send(t, s, n)
		sent += uint64(n)
		until(t, fmt.Sprintf("%d packets on %s", n, name), func() bool { return p.status().of(name).Packets == before+uint64(n) })
	}
	a, _ := capturetest.Cable(t, "s0", "c0")
	s0 := capturetest.NewSender(t, a)
	p.captures("c0")
	arrive(s0, "c0", 1000)
	capturetest.IP(t, "link set c0 down")
	capturetest.IP(t, "link set c0 up")
	capturetest.Up(t, "s0", "c0")
	until(t, "c0 is captured on again", func() bool { s := p.status(); i := s.of("c0"); return i.Name != "" && i.Error == "" })
	arrive(s0, "c0", 1000)
	capturetest.IP(t, "link set c0 down")
	capturetest.IP(t, "link set c0 name c9")
	capturetest.IP(t, "link set c9 up")
	capturetest.Up(t, "s0", "c9")
	until(t, "c9 is captured on", func() bool { s := p.status(); i := s.of("c9"); return i.Name != "" && i.Error == "" })
	arrive(s0, "c9", 1000)
	capturetest.IP(t, "link del s0")
	p.says("interface is gone")
	for i := range 5 { // the same name, another interface
		a, _ := capturetest.Cable(t, "s0", "c0")
		s := capturetest.NewSender(t, a)
		until(t, "c0 is captured on once more", func() bool { s := p.status(); i := s.of("c0"); return i.Name != "" && i.Error == "" })
		arrive(s, "c0", 500+i)
		capturetest.IP(t, "link del s0")
		until(t, "c0 is gone", func() bool { s := p.status(); return s.of("c0").Name == "" })
	}
	s := p.stop()
	all := count(t, o, "SELECT toUInt64(sum(packets + reverse_packets)) FROM run_hotplug.flows")
	if s.packets != sent || s.drops != 0 || all != sent {
		t.Fatalf("%+v, %d packets in ClickHouse; sent %d", s, all, sent)
	}
	if c9 := rows(t, o, "c9"); c9 < 1000 {
		t.Errorf("%d packets under the new name", c9)
	}
}

// TestRunTun captures on a tunnel device, whose packets begin with the IP header, and
// which goes away with the program that made it.
func TestRunTun(t *testing.T) {
	capturetest.Namespace(t)
	p := startAgent(t, "--output", "csv", "--interface", "tun9", "--interval", "1s")
	p.says("no interface of that name")
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	request, err := unix.NewIfreq("tun9")
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		t.Fatal(err)
	}
	capturetest.NoIPv6(t, "tun9")
	capturetest.IP(t, "addr add 10.99.9.1/24 dev tun9")
	capturetest.IP(t, "link set tun9 up")
	p.captures("tun9")
	c, err := net.Dial("udp", "10.99.9.2:9")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 100 {
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "100 packets are there", func() bool { return p.status().of("tun9").Packets == 100 })
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
	p.says("interface is gone")
	s := p.stop()
	if s.packets != 100 || s.notIP != 0 || s.decodeErrors != 0 || s.bytes != 100*33 || s.flows != 1 {
		t.Fatalf("%+v", s)
	}
	if sums := tuples(t, p.stdout.String(), ""); len(sums) != 1 || !strings.Contains(p.stdout.String(), ",out,17,10.99.9.1,10.99.9.2,") {
		t.Errorf("%s", p.stdout.String())
	}
}

// TestRunTerminated ends the agent while packets are still on their way through the
// kernel: all that were sent are metered or counted as dropped.
func TestRunTerminated(t *testing.T) {
	capturetest.Namespace(t)
	for range 5 {
		senders, names := cables(t, 3)
		p := startAgent(t, "--output", "none", "--interface", "/^c/")
		p.captures(names...)
		for _, s := range senders {
			send(t, s, 20000)
		}
		if s := p.stop(); s.packets+s.drops != 60000 {
			t.Fatalf("%+v, sent 60000", s)
		}
		for i := range senders {
			capturetest.IP(t, fmt.Sprintf("link del s%d", i))
		}
	}
}

// TestRunReload changes the configuration under traffic: an interface whose settings
// stay the same loses nothing.
func TestRunReload(t *testing.T) {
	capturetest.Namespace(t)
	senders, _ := cables(t, 2)
	path := configFile(t, "")
	configure := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	configure("output: none\ninterfaces: {include: [c0]}\n")
	p := startAgent(t, "--config", path)
	p.captures("c0")
	done := make(chan struct{})
	const sent = 50000
	go func() {
		defer close(done)
		for i := range sent {
			if err := senders[0].Send(capturetest.UDP(100, uint64(i))); err != nil {
				t.Error(err)
				return
			}
			if i%250 == 249 {
				time.Sleep(5 * time.Millisecond)
			}
		}
	}()
	for i, step := range []struct{ text, said string }{
		{"output: none\ninterfaces: {include: [c0, c1]}\n", "msg=capturing interface=c1 "},
		{"output: none\ninterfaces: {include: [c0, c1], special: [{match: c1, buffer: 8MiB}]}\n", `msg="no longer capturing" interface=c1`},
		{"output: nothing\n", "stays as it was"},
		{"output: none\nhost: other\ninterfaces: {include: [c0]}\n", "need a restart"},
	} {
		configure(step.text)
		if i%2 == 0 { // else the change is noticed
			p.cmd.Process.Signal(syscall.SIGHUP)
		}
		until(t, fmt.Sprintf("step %d: %s", i, step.said), func() bool { return strings.Contains(p.stderr(), step.said) })
	}
	<-done
	s := p.stop()
	if s.packets+s.drops != sent || s.drops != 0 {
		t.Fatalf("%+v, sent %d", s, sent)
	}
	if n := strings.Count(p.stderr(), "msg=capturing interface=c0 "); n != 1 {
		t.Errorf("c0 was opened %d times", n)
	}
	if n := strings.Count(p.stderr(), "msg=capturing interface=c1 "); n != 2 {
		t.Errorf("c1 was opened %d times", n)
	}
}

// TestRunOutage has ClickHouse away when the agent starts and again while it runs:
// every packet is in a row in the end, once.
func TestRunOutage(t *testing.T) {
	flags, o, f := database(t, "run_outage")
	senders, names := cables(t, 1)
	f.outage(true)
	p := startAgent(t, append(flags, "--interface", "c0")...)
	p.captures(names...)
	p.says("records wait for ClickHouse")
	sent := uint64(0)
	more := func(n int) {
		send(t, senders[0], n)
		sent += uint64(n)
	}
	more(1000)
	time.Sleep(2 * time.Second) // intervals go by
	more(1000)
	f.outage(false)
	until(t, "the first packets arrive", func() bool { return rows(t, o, "c0") >= 1000 })
	for range 3 {
		more(1000)
		time.Sleep(700 * time.Millisecond)
		f.outage(true)
		more(1000)
		time.Sleep(1500 * time.Millisecond)
		f.outage(false)
	}
	s := p.stop()
	if got := rows(t, o, "c0"); s.packets != sent || got != sent || s.drops != 0 {
		t.Fatalf("%+v, %d packets in ClickHouse; sent %d", s, got, sent)
	}
	if records, all := count(t, o, "SELECT toUInt64(sum(records)) FROM run_outage.ledger"), count(t, o, "SELECT count() FROM run_outage.flows"); records != all {
		t.Errorf("the ledger knows of %d records, there are %d", records, all)
	}
}

// TestRunSurroundings runs the agent where something is wrong.
func TestRunSurroundings(t *testing.T) {
	capturetest.Namespace(t)
	t.Run("no interface of that name", func(t *testing.T) {
		capturetest.Namespace(t)
		p := startAgent(t, "--output", "none", "--interface", "c0")
		p.says("no interface of that name")
		a, _ := capturetest.Cable(t, "s0", "c0")
		p.captures("c0")
		send(t, capturetest.NewSender(t, a), 100)
		if s := p.stop(); s.packets != 100 {
			t.Fatalf("%+v", s)
		}
	})
	t.Run("two agents", func(t *testing.T) {
		capturetest.Namespace(t)
		senders, _ := cables(t, 1)
		first := startAgent(t, "--output", "none", "--interface", "c0", "--listen", "127.0.0.1:9780")
		first.captures("c0")
		second := startAgent(t, "--output", "none", "--interface", "c0", "--listen", "127.0.0.1:9780")
		second.captures("c0")
		second.says("no metrics over HTTP")
		send(t, senders[0], 100)
		for _, p := range []*process{first, second} {
			if s := p.stop(); s.packets != 100 {
				t.Errorf("%+v", s)
			}
		}
	})
	t.Run("an interface that is down", func(t *testing.T) {
		capturetest.Namespace(t)
		senders, _ := cables(t, 2)
		capturetest.IP(t, "link set c1 down")
		p := startAgent(t, "--output", "none", "--interface", "c0", "--interface", "c1", "--interface", "/^nothing/")
		p.captures("c0")
		send(t, senders[0], 100)
		capturetest.Up(t, "s1", "c1")
		p.captures("c1")
		send(t, senders[1], 100)
		if s := p.stop(); s.packets != 200 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("wrong settings", func(t *testing.T) {
		for _, c := range []struct{ args, want string }{
			{"--interval 0.5s", "flows.interval"}, {"--interval 3", "flows.interval"}, {"--output disk", "output"}, {"--max-flows 0", "flows.max"},
			{"--buffer 1MiB", "buffer"}, {"--interface /(/", "interfaces"}, {"--log-level loud", "log.level"}, {"--log-format xml", "log.format"},
		} {
			r := weir(t, nil, append([]string{"run"}, strings.Fields(c.args)...)...)
			if r.code != exitUsage || !strings.Contains(r.stderr, c.want) {
				t.Errorf("%s: exit %d: %s", c.args, r.code, r.stderr)
			}
		}
	})
	t.Run("neither true nor false", func(t *testing.T) {
		for _, key := range []string{"INTERFACES_HOTPLUG", "FLOWS_OWN_EXPORT", "CAPTURE_VLANS", "CAPTURE_PROMISCUOUS", "CLICKHOUSE_APPLY_SCHEMA", "ADMIN_PPROF"} {
			r := weirEnv(t, []string{"WEIR_" + key + "=yes"}, nil, "run", "--output", "none")
			name := strings.ToLower(strings.Replace(key, "_", ".", 1))
			if r.code != exitUsage || !strings.Contains(r.stderr, name) {
				t.Errorf("%s: exit %d: %s", name, r.code, r.stderr)
			}
		}
	})
	t.Run("a name that is no UTF-8", func(t *testing.T) {
		capturetest.Namespace(t)
		capturetest.IP(t, "link add s0 type veth peer name c\xff\xfe")
		capturetest.Up(t, "s0", "c\xff\xfe")
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := ln.Addr().String()
		ln.Close()
		p := startAgent(t, "--output", "none", "--interface", "/^c/", "--listen", addr)
		p.says("msg=capturing")
		out, err := exec.Command("curl", "-sf", "http://"+addr+"/metrics").Output()
		if err != nil || !strings.Contains(string(out), "weir_interface_up{interface=\"c\ufffd\"} 1") {
			t.Errorf("%v: %.300s", err, out)
		}
		p.stop()
	})
	t.Run("no permission", func(t *testing.T) {
		path, err := buildProgram()
		if err != nil {
			t.Fatal(err)
		}
		os.Chmod(filepath.Dir(path), 0o755)
		cmd := exec.Command(path, "run", "--output", "none")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "CAP_NET_RAW") || !strings.Contains(string(out), "setcap") {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// TestRunPrivileges holds what the agent is once it captures: nobody, with one
// capability in all of its threads.
func TestRunPrivileges(t *testing.T) {
	capturetest.Namespace(t)
	cables(t, 1)
	p := startAgent(t, "--output", "none", "--interface", "c0")
	p.captures("c0")
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.cmd.Process.Pid))
	if err != nil || len(tasks) == 0 {
		t.Fatal(err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for _, want := range []string{"Uid:\t65534\t65534\t65534\t65534", "CapEff:\t0000000000002000", "CapPrm:\t0000000000002000",
			"CapInh:\t0000000000000000", "CapAmb:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"} {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s: no %q in\n%s", task, want, text)
			}
		}
	}
	p.stop()
}

// TestRunFixed has no capability left once its interfaces are open, and goes on.
func TestRunFixed(t *testing.T) {
	capturetest.Namespace(t)
	senders, _ := cables(t, 1)
	path := configFile(t, "interfaces: {hotplug: false}\n")
	p := startAgent(t, "--output", "none", "--interface", "c0", "--config", path)
	p.captures("c0")
	status := fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid)
	until(t, "no capability is left", func() bool {
		text, err := os.ReadFile(status)
		return err == nil && strings.Contains(string(text), "CapPrm:\t0000000000000000") && strings.Contains(string(text), "CapEff:\t0000000000000000")
	})
	send(t, senders[0], 1000)
	// Nothing could be opened again, so nothing is closed.
	if err := os.WriteFile(path, []byte("interfaces: {hotplug: false}\ncapture: {buffer: 8MiB}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.says("need a restart")
	capturetest.IP(t, "link set c0 down")
	capturetest.IP(t, "link set c0 up")
	capturetest.Up(t, "s0", "c0")
	send(t, senders[0], 1000)
	until(t, "all packets are there", func() bool { return p.status().of("c0").Packets == 2000 })
	if s := p.stop(); s.packets != 2000 {
		t.Fatalf("%+v", s)
	}
}

// TestRunRoot stays root if it is told to.
func TestRunRoot(t *testing.T) {
	capturetest.Namespace(t)
	cables(t, 1)
	p := startAgent(t, "--output", "none", "--interface", "c0", "--config", configFile(t, "user: root\n"))
	p.captures("c0")
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil || !strings.Contains(string(text), "Uid:\t0\t0\t0\t0") {
		t.Errorf("%v: %s", err, text)
	}
	p.stop()
}

// TestRunUnread ends although nobody reads what it writes.
func TestRunUnread(t *testing.T) {
	capturetest.Namespace(t)
	senders, _ := cables(t, 1)
	path, err := buildProgram()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(path, "run", "--output", "jsonl", "--interface", "c0", "--interval", "1s", "--listen", "",
		"--config", configFile(t, "shutdown_timeout: 1s\n"))
	dir := t.TempDir()
	cmd.Env = append(os.Environ(), "WEIR_ADMIN_SOCKET="+filepath.Join(dir, "s"))
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = w, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	status := []string{"WEIR_ADMIN_SOCKET=" + filepath.Join(dir, "s")}
	until(t, "c0 is captured on", func() bool { return weirEnv(t, status, nil, "status").code == exitOK })
	for range 3 {
		send(t, senders[0], 2000)
		time.Sleep(1200 * time.Millisecond)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		cmd.Process.Kill()
		t.Fatal("it does not end")
	}
	if code := cmd.ProcessState.ExitCode(); code != exitFailure || !strings.Contains(said.String(), "packets=6000 ") || !strings.Contains(said.String(), "could be written") {
		t.Errorf("exit %d: %s", code, said.String())
	}
}

// configFile returns the path of a file that the user whom the agent changes to can
// read.
func configFile(t *testing.T, text string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "weir-config-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	path := filepath.Join(dir, "weir.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRunOwnExport captures where the agent's own records pass, and leaves them out.
func TestRunOwnExport(t *testing.T) {
	flags, o, f := database(t, "run_own_export")
	_, port, _ := strings.Cut(f.addr, ":")
	p := startAgent(t, append(flags, "--interface", "lo", "--config", configFile(t, "flows: {own_export: false}\n"))...)
	p.captures("lo")
	taker, err := net.ListenPacket("udp", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer taker.Close()
	sender, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	const packets = 30
	for range packets {
		sender.Write([]byte("x"))
		time.Sleep(100 * time.Millisecond)
	}
	s := p.stop()
	own := count(t, o, "SELECT count() FROM run_own_export.flows WHERE src_port = "+port+" OR dst_port = "+port)
	others := count(t, o, "SELECT toUInt64(sum(packets)) FROM run_own_export.flows WHERE dst_port = 9")
	excluded := count(t, o, "SELECT toUInt64(sum(not_ip['excluded'])) FROM run_own_export.ledger")
	metered := count(t, o, "SELECT toUInt64(sum(metered)) FROM run_own_export.ledger")
	all := count(t, o, "SELECT toUInt64(sum(packets + reverse_packets)) FROM run_own_export.flows")
	if own != 0 || others != packets || excluded == 0 || metered != all || metered+excluded > s.packets {
		t.Fatalf("%d own rows, %d other packets, %d excluded, %d metered of which rows have %d; %+v", own, others, excluded, metered, all, s)
	}
}

// TestRunWatched looks at a running agent by all that it offers.
func TestRunWatched(t *testing.T) {
	capturetest.Namespace(t)
	senders, _ := cables(t, 1)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	p := startAgent(t, "--output", "none", "--interface", "c0", "--listen", addr, "--interval", "1s")
	p.captures("c0")
	send(t, senders[0], 1000)
	// Connections have to be made in this namespace, by this goroutine's thread.
	get := func(path string) (string, int) {
		out, err := exec.Command("curl", "-s", "-w", "\n%{http_code}", "http://"+addr+path).Output()
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		text := string(out)
		i := strings.LastIndexByte(text, '\n')
		code, _ := strconv.Atoi(text[i+1:])
		return text[:i], code
	}
	until(t, "1000 packets are metered", func() bool {
		text, code := get("/metrics")
		if code != http.StatusOK {
			t.Fatal(code)
		}
		return strings.Contains(text, `weir_metered_packets_total{interface="c0"} 1000`)
	})
	text, _ := get("/metrics")
	for _, want := range []string{`weir_packets_total{interface="c0"} 1000`, `weir_drops_total{interface="c0"} 0`, `weir_interface_up{interface="c0"} 1`,
		"weir_flows_total 500", "weir_export_behind 0", "weir_rotation_seconds_count", "process_resident_memory_bytes", "go_goroutines"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the metrics", want)
		}
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/debug/pprof/": 404, "/status": 404, "/top": 404} {
		if _, code := get(path); code != want {
			t.Errorf("%s: %d, want %d", path, code, want)
		}
	}
	if info, err := os.Stat(p.socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v %v", info, err)
	}
	s := p.status()
	if i := s.of("c0"); i.Packets != 1000 || i.Drops != 0 || i.Rings != 1 || s.Flows != 500 || s.trouble() != "" {
		t.Errorf("status %+v", s)
	}
	top := exec.Command("curl", "-sN", "--max-time", "3", "--unix-socket", p.socket, "http://weir/top?group=dst_ip,dst_port,proto&sort=packets&limit=1")
	lines := make(chan []byte)
	go func() {
		out, _ := top.Output() // which ends with an error, for want of time
		lines <- out
	}()
	for range 10 {
		send(t, senders[0], 500)
		time.Sleep(100 * time.Millisecond)
	}
	seen := uint64(0)
	for line := range strings.Lines(string(<-lines)) {
		var r topReply
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		seen += r.Total.Packets
		if len(r.Rows) > 0 && (strings.Join(r.Rows[0].Group, " ") != "10.99.0.2 2000 udp" || r.Rows[0].Packets != r.Total.Packets || r.Groups != 1) {
			t.Errorf("top: %s", line)
		}
	}
	if seen < 4000 {
		t.Errorf("top has seen %d packets of 5000", seen)
	}
	if s := p.stop(); s.packets != 6000 || s.flows != 500 {
		t.Errorf("%+v", s)
	}
}

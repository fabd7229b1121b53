package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"weir/capture/capturetest"
)

// lan is a bridge in the test's namespace with hosts, namespaces of their own, behind
// its ports p1, p2, ...; host i is 10.99.0.i and fd99::i.
type lan struct {
	t     *testing.T
	hosts []string // names of the namespaces
}

func newLAN(t *testing.T, n int) *lan {
	t.Helper()
	capturetest.IP(t, "link add br0 type bridge")
	l := &lan{t: t}
	for i := 1; i <= n; i++ {
		ns, port := fmt.Sprintf("weir-%d-h%d", os.Getpid(), i), fmt.Sprintf("p%d", i)
		l.hosts = append(l.hosts, ns)
		capturetest.IP(t, "netns add "+ns)
		t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
		capturetest.IP(t, fmt.Sprintf("link add %s type veth peer name eth0 netns %s", port, ns))
		capturetest.NoIPv6(t, port)
		// Whole packets on the wire, so that tcpdump sees what the wire would carry.
		l.run(0, "ethtool", "-K", port, "tso", "off", "gso", "off", "gro", "off")
		l.run(i, "ethtool", "-K", "eth0", "tso", "off", "gso", "off", "gro", "off", "tx", "off")
		l.run(i, "ip", "addr", "add", fmt.Sprintf("10.99.0.%d/24", i), "dev", "eth0")
		l.run(i, "ip", "addr", "add", fmt.Sprintf("fd99::%d/64", i), "dev", "eth0", "nodad")
		l.run(i, "ip", "link", "set", "lo", "up")
		l.run(i, "ip", "link", "set", "eth0", "up")
		capturetest.IP(t, "link set "+port+" master br0 up")
	}
	capturetest.NoIPv6(t, "br0")
	capturetest.IP(t, "link set br0 up")
	return l
}

// command returns a program on host i, 0 for the test's own namespace.
func (l *lan) command(i int, args ...string) *exec.Cmd {
	if i > 0 {
		args = append([]string{"ip", "netns", "exec", l.hosts[i-1]}, args...)
	}
	return exec.Command(args[0], args[1:]...)
}

// run runs a program on a host to its end.
func (l *lan) run(i int, args ...string) {
	l.t.Helper()
	if out, err := l.command(i, args...).CombinedOutput(); err != nil {
		l.t.Fatalf("host %d: %s: %v: %s", i, strings.Join(args, " "), err, out)
	}
}

// serve starts a program on a host that runs until the test ends.
func (l *lan) serve(i int, args ...string) *exec.Cmd {
	l.t.Helper()
	cmd := l.command(i, args...)
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	return cmd
}

// on calls fn on a thread in host i's namespace: sockets that it opens are there.
func (l *lan) on(i int, fn func() error) {
	l.t.Helper()
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		f, err := os.Open("/run/netns/" + l.hosts[i-1])
		if err == nil {
			defer f.Close()
			if err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err == nil {
				err = fn()
			}
		}
		result <- err
	}()
	if err := <-result; err != nil {
		l.t.Fatal(err)
	}
}

// traffic is all that passed a port, both ways.
type traffic struct{ packets, octets uint64 }

// linkStats returns what the kernel says has passed a port.
func (l *lan) linkStats(port string) (c traffic) {
	l.t.Helper()
	out, err := exec.Command("ip", "-s", "-o", "link", "show", port).Output()
	if err != nil {
		l.t.Fatal(err)
	}
	// "... RX: bytes packets errors ...\ 1 2 0 ...\ TX: bytes packets ...\ 3 4 ..."
	parts := strings.Split(string(out), `\`)
	for i, p := range parts {
		if p = strings.TrimSpace(p); (strings.HasPrefix(p, "RX:") || strings.HasPrefix(p, "TX:")) && i+1 < len(parts) {
			f := strings.Fields(parts[i+1])
			b, _ := strconv.ParseUint(f[0], 10, 64) // numbers
			n, _ := strconv.ParseUint(f[1], 10, 64)
			c.octets += b
			c.packets += n
		}
	}
	return c
}

// quiet waits until no port has had a packet for a second.
func (l *lan) quiet() {
	l.t.Helper()
	var before []traffic
	since := time.Now()
	until(l.t, "the network is quiet", func() bool {
		var now []traffic
		for i := range l.hosts {
			now = append(now, l.linkStats(fmt.Sprintf("p%d", i+1)))
		}
		if fmt.Sprint(now) != fmt.Sprint(before) {
			before, since = now, time.Now()
		}
		return time.Since(since) > time.Second
	})
}

// tuple is a direction of a flow.
type tuple struct{ iface, src, dst, sport, dport, proto string }

// tuples sums up the records of a CSV text by tuple, both directions.
func tuples(t *testing.T, text, iface string) map[tuple]traffic {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]int{}
	for i, name := range rows[0] {
		at[name] = i
	}
	sums := map[tuple]traffic{}
	for _, row := range rows[1:] {
		get := func(name string) string {
			if i, ok := at[name]; ok {
				return row[i]
			}
			return "0"
		}
		number := func(name string) uint64 { n, _ := strconv.ParseUint(get(name), 10, 64); return n }
		add := func(k tuple, packets, octets uint64) {
			if packets == 0 {
				return
			}
			s := sums[k]
			sums[k] = traffic{s.packets + packets, s.octets + octets}
		}
		name := iface
		if name == "" {
			name = get("iface")
		}
		there := tuple{name, get("src_ip"), get("dst_ip"), get("src_port"), get("dst_port"), get("proto")}
		back := tuple{name, there.dst, there.src, there.dport, there.sport, there.proto}
		// Type and code are in the port: of echo and of neighbour discovery. Fragments
		// behind the first have none.
		switch there.proto {
		case "1":
			back.sport, back.dport = "0", map[string]string{"2048": "0", "0": "2048"}[there.dport]
		case "58":
			back.sport, back.dport = "0", map[string]string{"32768": "33024", "33024": "32768", "34560": "34816", "34816": "34560", "0": "0"}[there.dport]
		}
		add(there, number("packets"), number("bytes"))
		add(back, number("reverse_packets"), number("reverse_bytes"))
	}
	return sums
}

// TestRunEndToEnd has hosts talk with real programs, over bridge ports that the agent
// captures on. What is in ClickHouse then equals, flow by flow, packets and octets,
// what weir replay makes of tcpdump's captures of the same interfaces; and the sums
// equal those of ip -s link.
func TestRunEndToEnd(t *testing.T) {
	flags, o, _ := database(t, "run_end_to_end")
	l := newLAN(t, 3)
	l.on(2, func() error {
		web, err := net.Listen("tcp", ":8080")
		if err != nil {
			return err
		}
		t.Cleanup(func() { web.Close() })
		go http.Serve(web, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 300_000)) }))
		return nil
	})
	l.on(3, func() error {
		dns, err := net.ListenPacket("udp", ":53")
		if err != nil {
			return err
		}
		t.Cleanup(func() { dns.Close() })
		go answerDNS(dns)
		return nil
	})
	l.serve(1, "iperf3", "-s", "-D", "-I", filepath.Join(t.TempDir(), "pid"))
	l.quiet()

	dir, err := os.MkdirTemp("", "weir-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := startAgent(t, append(flags, "--interface", "/^p/")...)
	p.captures("p1", "p2", "p3")
	var dumps []*exec.Cmd
	for i := range l.hosts {
		port := fmt.Sprintf("p%d", i+1)
		cmd := l.command(0, "tcpdump", "-n", "-i", port, "-B", "65536", "-Z", "root", "-w", filepath.Join(dir, port+".pcap"))
		said, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// It says that it listens once it does.
		if _, err := io.ReadAtLeast(said, make([]byte, 20), 20); err != nil {
			t.Fatal(err)
		}
		go io.Copy(io.Discard, said)
		dumps = append(dumps, cmd)
	}
	before := map[string]traffic{}
	for i := range l.hosts {
		port := fmt.Sprintf("p%d", i+1)
		before[port] = l.linkStats(port)
	}

	for _, c := range []struct {
		host int
		args string
	}{
		{1, "ping -c 5 -i 0.05 10.99.0.2"},
		{1, "ping -c 5 -i 0.05 -s 4000 10.99.0.3"}, // in fragments
		{3, "ping -6 -c 5 -i 0.05 fd99::1"},
		{1, "curl -sS -o /dev/null http://10.99.0.2:8080/"},
		{3, "curl -sS -o /dev/null http://[fd99::2]:8080/"},
		{2, "dig +tries=1 +time=5 @10.99.0.3 www.example.net A"},
		{1, "dig +tries=1 +time=5 @fd99::3 www.example.net AAAA"},
		{2, "iperf3 -c 10.99.0.1 -n 20M"},
		{3, "iperf3 -c 10.99.0.1 -u -b 20M -t 2"},
		{2, "iperf3 -c fd99::1 -n 5M -R"},
	} {
		l.run(c.host, strings.Fields(c.args)...)
	}
	l.quiet()
	after := map[string]traffic{}
	for port := range before {
		after[port] = l.linkStats(port)
	}
	for _, d := range dumps {
		d.Process.Signal(syscall.SIGINT)
		d.Wait()
	}
	s := p.stop()
	if s.drops != 0 || s.decodeErrors != 0 {
		t.Fatalf("%+v", s)
	}

	answer := weir(t, nil, append(flags[:len(flags)-2:len(flags)-2], "query", "flows", "--output", "csv", "--limit", "1000000")...)
	if answer.code != exitOK {
		t.Fatal(answer.stderr)
	}
	until := time.Unix(int64(count(t, o, "SELECT toUInt64(max(ts)) FROM run_end_to_end.ledger"))+1, 0).UTC().Format(time.RFC3339)
	if r := weir(t, nil, append(flags[:len(flags)-2:len(flags)-2], "audit", "--until", until, "--since", "1h")...); r.code != exitOK || strings.Count(r.stdout, "  complete\n") != 3 {
		t.Errorf("weir audit: %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	got := tuples(t, answer.stdout, "")
	want := map[tuple]traffic{}
	for port := range before {
		r := weir(t, nil, "replay", "--output", "csv", "--uniflow", "--interval", "0", filepath.Join(dir, port+".pcap"))
		if r.code != exitOK {
			t.Fatal(r.stderr)
		}
		for k, v := range tuples(t, r.stdout, port) {
			want[k] = v
		}
	}
	if len(want) < 40 {
		t.Fatalf("%d directions of flows only", len(want))
	}
	for k, w := range want {
		if got[k] != w {
			t.Errorf("%v: %+v in ClickHouse, %+v in tcpdump's capture", k, got[k], w)
		}
	}
	for k, g := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%v: %+v in ClickHouse, and not in tcpdump's capture", k, g)
		}
	}
	const ethernet, arp = 14, 28
	for port := range before {
		var ip traffic
		for k, v := range got {
			if k.iface == port {
				ip.packets += v.packets
				ip.octets += v.octets
			}
		}
		notIP := count(t, o, fmt.Sprintf("SELECT toUInt64(sum(arraySum(mapValues(not_ip)))) FROM run_end_to_end.ledger WHERE iface = '%s'", port))
		link := traffic{after[port].packets - before[port].packets, after[port].octets - before[port].octets}
		all := traffic{ip.packets + notIP, ip.octets + notIP*arp + (ip.packets+notIP)*ethernet}
		if link != all {
			t.Errorf("%s: ip -s link counted %+v, the agent %+v with %d packets that are not IP", port, link, all, notIP)
		}
	}
}

// answerDNS answers every question with an address.
func answerDNS(c net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) == 0 {
			continue
		}
		q := m.Questions[0]
		m.Response, m.Additionals = true, nil
		h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}
		m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}}}
		if q.Type == dnsmessage.TypeAAAA {
			m.Answers[0].Body = &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("2001:db8::1").As16()}
		}
		if b, err := m.Pack(); err == nil {
			c.WriteTo(b, from)
		}
	}
}

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"weir/exporter/clickhouse/local/localtest"
)

// process is a running weir run.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	socket string
	mu     sync.Mutex
	said   bytes.Buffer
	stdout bytes.Buffer
	ended  chan error
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.Write(b)
}

func (p *process) stderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

// startAgent starts weir run in the network namespace of the calling goroutine. It has
// a socket of its own, and no metrics unless the flags say so.
func startAgent(t *testing.T, flags ...string) *process {
	t.Helper()
	return startAgentWith(t, nil, flags...)
}

// startAgentWith is startAgent with more in the environment.
func startAgentWith(t *testing.T, env []string, flags ...string) *process {
	t.Helper()
	path, err := buildProgram()
	if err != nil {
		t.Fatal(err)
	}
	dir := localtest.Folder(t) // short enough for a socket, and the agent's user must get to its spool
	p := &process{t: t, socket: filepath.Join(dir, "weir.sock"), ended: make(chan error, 1)}
	p.cmd = exec.Command(path, append([]string{"run", "--listen", ""}, flags...)...)
	p.cmd.Env = append(os.Environ(), "WEIR_ADMIN_SOCKET="+p.socket, "WEIR_SPOOL_FOLDER="+filepath.Join(dir, "spool"))
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			p.cmd.Process.Kill()
			<-p.ended
		}
		if t.Failed() {
			t.Logf("weir run %s said:\n%s", strings.Join(flags, " "), p.stderr())
		}
	})
	return p
}

// until waits for a condition to hold, for half a minute at the most.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// says waits until the agent has logged a text.
func (p *process) says(text string) {
	p.t.Helper()
	until(p.t, fmt.Sprintf("%q is logged", text), func() bool {
		select {
		case err := <-p.ended:
			p.t.Fatalf("the agent has ended: %v\n%s", err, p.stderr())
		default:
		}
		return strings.Contains(p.stderr(), text)
	})
}

// captures waits until the agent captures on the interfaces.
func (p *process) captures(interfaces ...string) {
	p.t.Helper()
	for _, name := range interfaces {
		p.says("msg=capturing interface=" + name + " ")
	}
}

// status asks the agent how it is.
func (p *process) status() (s statusReply) {
	p.t.Helper()
	r := weirEnv(p.t, []string{"WEIR_ADMIN_SOCKET=" + p.socket}, nil, "status", "--output", "json")
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
		p.t.Fatalf("status: %v: %s%s", err, r.stdout, r.stderr)
	}
	return s
}

func (s statusReply) of(name string) *statusInterface {
	for i := range s.Interfaces {
		if s.Interfaces[i].Name == name {
			return &s.Interfaces[i]
		}
	}
	return &statusInterface{}
}

var runSummaryLine = regexp.MustCompile(`(?m)^packets=(\d+) not_ip=(\d+) decode_errors=(\d+) drops=(\d+) flows=(\d+) bytes=(\d+) seconds=[\d.]+$`)

// runSummary is what the last line of a run says.
type runSummary struct{ packets, notIP, decodeErrors, drops, flows, bytes uint64 }

// stop ends the agent with SIGTERM, and returns what it says at the end.
func (p *process) stop() (s runSummary) {
	p.t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.ended:
		if err != nil {
			p.t.Fatalf("weir run: %v\n%s", err, p.stderr())
		}
	case <-time.After(40 * time.Second):
		p.t.Fatalf("the agent does not end:\n%s", p.stderr())
	}
	m := runSummaryLine.FindStringSubmatch(p.stderr())
	if m == nil {
		p.t.Fatalf("no line of counts in\n%s", p.stderr())
	}
	for i, to := range []*uint64{&s.packets, &s.notIP, &s.decodeErrors, &s.drops, &s.flows, &s.bytes} {
		*to, _ = strconv.ParseUint(m[i+1], 10, 64) // digits
	}
	return s
}

// forwarder lets programs in a network namespace reach the test's ClickHouse server,
// which is outside.
type forwarder struct {
	addr string // in the namespace
	mu   sync.Mutex
	shut bool
	open []net.Conn
}

// forward begins to forward connections in the namespace of the calling goroutine.
// localtest.Start must have been called outside before.
func forward(t *testing.T) *forwarder {
	t.Helper()
	return forwardTo(t, localtest.Start(t).Addr)
}

// forwardTo is forward to another server.
func forwardTo(t *testing.T, server string) *forwarder {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	f := &forwarder{addr: ln.Addr().String()}
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			go f.connect(in, server)
		}
	}()
	return f
}

func (f *forwarder) connect(in net.Conn, server string) {
	defer in.Close()
	f.mu.Lock()
	if f.shut {
		f.mu.Unlock()
		return
	}
	out, err := net.Dial("tcp", server)
	if err != nil {
		f.mu.Unlock()
		return
	}
	defer out.Close()
	f.open = append(f.open, in, out)
	f.mu.Unlock()
	go func() {
		io.Copy(out, in)
		out.Close()
	}()
	io.Copy(in, out)
}

// outage cuts all connections, and lets none in until it is called with false.
func (f *forwarder) outage(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shut = on
	for _, c := range f.open {
		c.Close()
	}
	f.open = nil
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"
	"golang.org/x/sys/unix"

	"weir/internal/lack"
)

// fakeAgent answers /top on a socket as the agent does, with the lines that a test
// gives it.
type fakeAgent struct {
	path  string
	asked chan string // group, sort and limit of each request
	lines chan string // each goes to the latest request that was read from asked; closed, the answer ends
	stop  func()
}

// awaits reads requests until there is this one.
func (a *fakeAgent) awaits(want string) {
	for q := range a.asked {
		if q == want {
			return
		}
	}
}

func newFakeAgent(t *testing.T, path string) *fakeAgent {
	t.Helper()
	a := &fakeAgent{path: path, asked: make(chan string, 100), lines: make(chan string, 100)}
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	turn := make(chan func(), 1) // ends the answer before
	turn <- func() {}
	mux.HandleFunc("GET /top", func(w http.ResponseWriter, r *http.Request) {
		// Who asks anew may be here before his last connection is known to be closed.
		ctx, cancel := context.WithCancel(r.Context())
		done := make(chan struct{})
		defer close(done)
		(<-turn)()
		turn <- func() { cancel(); <-done }
		v := r.URL.Query()
		a.asked <- v.Get("group") + " " + v.Get("sort") + " " + v.Get("limit")
		out := http.NewResponseController(w)
		_ = out.Flush()
		for {
			select {
			case line, ok := <-a.lines:
				if !ok {
					return
				}
				io.WriteString(w, line+"\n")
				_ = out.Flush()
			case <-ctx.Done():
				return
			}
		}
	})
	server := &http.Server{Handler: mux}
	var wait sync.WaitGroup
	wait.Go(func() { server.Serve(ln) })
	a.stop = sync.OnceFunc(func() { server.Close(); wait.Wait() })
	t.Cleanup(a.stop)
	return a
}

func (a *fakeAgent) env() []string { return []string{"WEIR_ADMIN_SOCKET=" + a.path, "LC_ALL=C"} }

// secondOf is a second with so many pairs of addresses, the greatest first.
func secondOf(pairs int, evil ...string) *topReply {
	r := &topReply{Time: time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC), Seconds: 1.25, Rows: []topRow{}}
	for i := range pairs {
		c := topCounts{uint64(1000 * (pairs - i)), uint64(1_000_000 * (pairs - i)), uint64(1 + i%3)}
		group := []string{fmt.Sprintf("192.0.2.%d", i%256), "2001:db8::" + fmt.Sprint(i)}
		if i < len(evil) {
			group[0] = evil[i]
		}
		r.Rows = append(r.Rows, topRow{group, c})
		r.Total.add(c)
	}
	r.Others = topCounts{7, 777_777, 3}
	r.Total.add(r.Others)
	r.Groups = pairs + 3
	return r
}

func lineOf(t *testing.T, r *topReply) string {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTopOnce(t *testing.T) {
	a := newFakeAgent(t, filepath.Join(t.TempDir(), "s"))
	first := secondOf(1)
	first.Seconds = 0.01
	a.lines <- lineOf(t, first) // not a full second
	a.lines <- lineOf(t, secondOf(3, "evil\x1b[31m\u202e"))
	r := weirEnv(t, a.env(), nil, "top", "--limit", "3")
	want := `2026-01-02 15:04:05 UTC, 1.2 s: 6 groups by bytes
src_ip              dst_ip           rate  packets/s  flows   share
evil\x1b[31m\u202e  2001:db8::0   19 Mb/s      2.4 k      1   44.3%  ##############################
192.0.2.1           2001:db8::1   13 Mb/s      1.6 k      2   29.5%  ####################
192.0.2.2           2001:db8::2  6.4 Mb/s        800      3   14.8%  ##########
3 others                         5.0 Mb/s          6      3   11.5%
total                             43 Mb/s      4.8 k      9  100.0%
`
	if r.code != exitOK || r.stdout != want || r.stderr != "" {
		t.Errorf("exit %d, standard error %q, got\n%swant\n%s", r.code, r.stderr, r.stdout, want)
	}
	if q := <-a.asked; q != "src_ip,dst_ip bytes 3" {
		t.Errorf("asked for %q", q)
	}
}

func TestTopJSON(t *testing.T) {
	a := newFakeAgent(t, filepath.Join(t.TempDir(), "s"))
	evil := "\u009b31m\u202e\x7f\U0001F600"
	for n := range 3 {
		a.lines <- lineOf(t, secondOf(n+1, evil))
	}
	close(a.lines)
	r := weirEnv(t, a.env(), nil, "top", "--output", "json", "--sort", "src_ip", "--limit", "7")
	if r.code != exitFailure || !strings.Contains(r.stderr, "the agent has gone away") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	if q := <-a.asked; q != "src_ip,dst_ip src_ip 7" {
		t.Errorf("asked for %q", q)
	}
	n := 0
	for line := range strings.Lines(r.stdout) {
		n++
		var got topReply
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Rows) != n || got.Rows[0].Group[0] != evil || got.Total != secondOf(n).Total {
			t.Errorf("line %d is %s", n, line)
		}
		if i := strings.IndexFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return r < ' ' || r >= 0x7f }); i >= 0 {
			t.Errorf("line %d drives terminals: %q", n, line)
		}
	}
	if n != 3 {
		t.Errorf("%d lines", n)
	}

	b := newFakeAgent(t, filepath.Join(t.TempDir(), "s"))
	b.lines <- lineOf(t, secondOf(1))
	b.lines <- lineOf(t, secondOf(2))
	r = weirEnv(t, b.env(), nil, "top", "--output", "json", "--once")
	if r.code != exitOK || strings.Count(r.stdout, "\n") != 1 || !strings.Contains(r.stdout, `"groups":5`) {
		t.Errorf("once: exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
}

func TestTopFailures(t *testing.T) {
	good := lineOf(t, secondOf(1))
	for name, c := range map[string]struct {
		lines []string
		want  string
	}{
		"gone":      {[]string{good}, "the agent has gone away"},
		"malformed": {[]string{good, `{"rows":[{"group":["a","b"]`}, "read the agent's answer: unexpected end of JSON input"},
		"no JSON":   {[]string{"\x1b[31m"}, `read the agent's answer: invalid character '\x1b'`},
		"narrow":    {[]string{good, `{"seconds":1,"rows":[{"group":["a"]}]}`}, "a group of 1 columns, 2 were asked for"},
		"timeless":  {[]string{good, `{"rows":[]}`}, "counts of 0 seconds"},
		"negative":  {[]string{good, `{"seconds":1,"total":{"bytes":-1}}`}, "read the agent's answer: json: cannot unmarshal number -1"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newFakeAgent(t, filepath.Join(t.TempDir(), "s"))
			for _, line := range c.lines {
				a.lines <- line
			}
			close(a.lines)
			r := weirEnv(t, a.env(), nil, "top", "--once")
			if r.code != exitFailure || r.stdout != "" || !strings.Contains(r.stderr, c.want) || strings.Contains(r.stderr, "\x1b") {
				t.Errorf("exit %d: %q%q", r.code, r.stdout, r.stderr)
			}
		})
	}
	for _, args := range [][]string{{"--group-by", "nope"}, {"--group-by", ""}, {"--sort", "dst_port"}, {"--limit", "0"}, {"--output", "csv"}, {"more"}} {
		if r := weir(t, nil, append([]string{"top"}, args...)...); r.code != exitUsage || r.stderr == "" {
			t.Errorf("%q: exit %d: %s", args, r.code, r.stderr)
		}
	}
	absent := filepath.Join(t.TempDir(), "absent")
	r := weirEnv(t, []string{"WEIR_ADMIN_SOCKET=" + absent}, nil, "top")
	if r.code != exitFailure || !strings.Contains(r.stderr, "no agent listens on "+absent) {
		t.Errorf("no agent: exit %d: %s", r.code, r.stderr)
	}
}

// TestTopForbidden asks as somebody who may not.
func TestTopForbidden(t *testing.T) {
	lack.Root(t) // to be somebody else
	dir, err := os.MkdirTemp("/tmp", "weir-top-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	a := newFakeAgent(t, filepath.Join(dir, "s"))
	if err := os.Chmod(a.path, 0o600); err != nil {
		t.Fatal(err)
	}
	path, err := buildProgram()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "weir") // where the other one may run it
	if err := os.WriteFile(program, text, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "top", "--once")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), a.env()...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != exitFailure || !strings.Contains(string(out), "permission denied: ask as its owner") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestTopCompletion(t *testing.T) {
	for _, c := range []struct{ args, want, not string }{
		{"--group-by ", "src_ip\ndst_ip\n", "bytes"},
		{"--group-by src_ip,", "src_ip,dst_ip\n", "src_ip,src_ip"},
		{"--sort ", "bytes\npackets\nflows\nsrc_ip\ndst_ip\n", "proto"},
		{"--group-by proto --sort ", "bytes\npackets\nflows\nproto\n", "src_ip"},
		{"--output ", "table\njson\n", "csv"},
	} {
		r := weir(t, nil, append([]string{"__complete", "top"}, strings.Split(c.args, " ")...)...)
		if r.code != exitOK || !strings.HasPrefix(r.stdout, c.want) || strings.Contains(r.stdout, c.not) {
			t.Errorf("%s: exit %d: %s", c.args, r.code, r.stdout)
		}
	}
}

// topDriver drives a screen without a terminal.
type topDriver struct {
	m     topScreen
	asked []string
}

func newTopDriver(t *testing.T, ascii bool) *topDriver {
	t.Helper()
	q, err := parseTopRequest("src_ip,dst_ip", "bytes", screenLimit)
	if err != nil {
		t.Fatal(err)
	}
	d := &topDriver{}
	d.m = newTopScreen(q, ascii, func(a topAsk) { d.asked = append(d.asked, strings.Join(a.q.names, ",")+" "+a.q.sort) })
	return d
}

// send returns the message of the command that the screen wants run, nil if there is none.
func (d *topDriver) send(msg tea.Msg) tea.Msg {
	m, cmd := d.m.Update(msg)
	d.m = m.(topScreen)
	if cmd == nil {
		return nil
	}
	return cmd()
}

func (d *topDriver) second(r *topReply) { d.send(topSecondMsg{d.m.wish, r}) }

func (d *topDriver) key(name string) tea.Msg {
	special := map[string]tea.Key{"up": {Code: tea.KeyUp}, "down": {Code: tea.KeyDown}, "pgup": {Code: tea.KeyPgUp}, "pgdown": {Code: tea.KeyPgDown},
		"home": {Code: tea.KeyHome}, "end": {Code: tea.KeyEnd}, "enter": {Code: tea.KeyEnter}, "esc": {Code: tea.KeyEscape},
		"space": {Code: tea.KeySpace, Text: " "}, "ctrl+c": {Code: 'c', Mod: tea.ModCtrl}}
	if k, ok := special[name]; ok {
		return d.send(tea.KeyPressMsg(k))
	}
	return d.send(tea.KeyPressMsg(tea.Key{Code: rune(name[0]), Text: name}))
}

var sgr = regexp.MustCompile("\x1b\\[[0-9;]*m")

// text is the screen without its colours.
func (d *topDriver) text() string { return sgr.ReplaceAllString(d.m.view(), "") }

func TestTopScreen(t *testing.T) {
	d := newTopDriver(t, false)
	if !strings.Contains(d.text(), "waiting for the agent") {
		t.Errorf("before the first second:\n%s", d.text())
	}
	d.send(tea.WindowSizeMsg{Width: 80, Height: 10})
	d.second(secondOf(5, "evil\x1b[31m\u202e"))
	want := `weir top  15:04:05 UTC  1.2 s  8 groups by src_ip,dst_ip, bytes first
src_ip              dst_ip          rate▼   packets/s   flows   share
evil\x1b[31m\u202e  2001:db8::0   32 Mb/s       4.0 k       1   31.7%  █████████
192.0.2.1           2001:db8::1   26 Mb/s       3.2 k       2   25.4%  ███████▎
192.0.2.2           2001:db8::2   19 Mb/s       2.4 k       3   19.0%  █████▍
192.0.2.3           2001:db8::3   13 Mb/s       1.6 k       1   12.7%  ███▋
192.0.2.4           2001:db8::4  6.4 Mb/s         800       2    6.3%  █▊
3 others                         5.0 Mb/s           6       3    4.9%
total                            101 Mb/s        12 k      12  100.0%
q quit  s sort  g group  p pause  ? help                                1-5 of 5`
	if got := d.text(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTopKeys(t *testing.T) {
	d := newTopDriver(t, false)
	d.second(secondOf(100))
	shows := func(what string) {
		t.Helper()
		if !strings.Contains(d.text(), what) {
			t.Errorf("%q is not in\n%s", what, d.text())
		}
	}
	// 24 lines less title, header, others, total and keys.
	for _, c := range []struct{ key, where string }{{"down", "2-20"}, {"up", "1-19"}, {"up", "1-19"}, {"pgdown", "19-37"}, {"end", "82-100"},
		{"pgdown", "82-100"}, {"pgup", "64-82"}, {"home", "1-19"}, {"end", "82-100"}} {
		d.key(c.key)
		shows(c.where + " of 100")
	}
	d.second(secondOf(20)) // fewer rows than the offset
	shows("2-20 of 20")

	// What is sorted by, around and back.
	for _, k := range []string{"s", "s", "s", "s", "s", "S"} {
		d.key(k)
	}
	want := []string{"src_ip,dst_ip packets", "src_ip,dst_ip flows", "src_ip,dst_ip src_ip", "src_ip,dst_ip dst_ip", "src_ip,dst_ip bytes", "src_ip,dst_ip dst_ip"}
	if !slices.Equal(d.asked, want) {
		t.Errorf("asked for %q", d.asked)
	}

	// A second of an earlier wish comes too late.
	d.send(topSecondMsg{topAsk{1, d.m.wish.q}, secondOf(1)})
	shows("1-19 of 20")

	// Digits count while the bar is there.
	d.asked = nil
	d.key("5")
	d.key("g")
	shows("1*src_ip  2*dst_ip  3 src_port  4 dst_port  5 proto  6 direction  7 vlan")
	for _, k := range []string{"5", "2", "1", "9", "0", "5"} {
		d.key(k)
	}
	shows("one column must be left")
	want = []string{"src_ip,dst_ip,proto dst_ip", "src_ip,proto bytes", "proto bytes"}
	if !slices.Equal(d.asked, want) {
		t.Errorf("asked for %q", d.asked)
	}
	d.key("enter")
	shows("q quit")
	shows("192.0.2.18") // until the answer is there, the one before stays
	other := &topReply{Seconds: 1, Rows: []topRow{{[]string{"tcp"}, topCounts{1, 2, 3}}}, Groups: 1, Total: topCounts{1, 2, 3}}
	d.second(other)
	shows("tcp")

	d.key("p")
	d.second(secondOf(0))
	shows("weir top  paused")
	shows("tcp")
	d.key("space")
	d.second(&topReply{Seconds: 1, Rows: []topRow{{[]string{"udp"}, topCounts{1, 2, 3}}}})
	shows("udp")

	d.key("?")
	shows("quit")
	shows("a second")
	d.key("esc")
	shows("udp")
	for _, k := range []string{"q", "ctrl+c"} {
		if _, ok := d.key(k).(tea.QuitMsg); !ok {
			t.Errorf("%s does not quit", k)
		}
	}
}

// TestTopFits: no line is wider, and no screen higher, than the terminal.
func TestTopFits(t *testing.T) {
	long := "2001:db8:1111:2222:3333:4444:5555:6666"
	wide := secondOf(60, long, strings.Repeat("\u202e界", 20), long+"/"+long)
	wide.Rows[0].Group[1] = long
	wide.Rows[0].topCounts = topCounts{1 << 63, 1 << 63, 1 << 63}
	wide.Groups = 1 << 40
	small := secondOf(1)
	states := map[string]func(*topDriver){
		"waiting":  func(*topDriver) {},
		"rows":     func(d *topDriver) { d.second(wide) },
		"few":      func(d *topDriver) { d.second(small) },
		"none":     func(d *topDriver) { d.second(&topReply{Seconds: 1}) },
		"end":      func(d *topDriver) { d.second(wide); d.key("end") },
		"help":     func(d *topDriver) { d.second(wide); d.key("?") },
		"grouping": func(d *topDriver) { d.second(wide); d.key("g"); d.key("1"); d.key("2") },
		"paused":   func(d *topDriver) { d.second(wide); d.key("p") },
		"by name":  func(d *topDriver) { d.key("S"); d.second(wide) },
		"by flows": func(d *topDriver) { d.key("s"); d.key("s"); d.second(wide) },
		"lost":     func(d *topDriver) { d.second(wide); d.send(topLostMsg{1, strings.Repeat("gone\x1b[2J\n界", 50)}) },
	}
	for name, state := range states {
		for _, ascii := range []bool{false, true} {
			for _, size := range [][2]int{{20, 5}, {80, 24}, {300, 100}, {1, 1}, {7, 2}, {40, 3}, {79, 8}, {120, 40}} {
				d := newTopDriver(t, ascii)
				d.send(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
				state(d)
				lines := strings.Split(d.text(), "\n")
				if len(lines) > size[1] {
					t.Errorf("%s at %v: %d lines", name, size, len(lines))
				}
				for _, l := range lines {
					if utf8.RuneCountInString(l) > size[0] {
						t.Errorf("%s at %v: %d columns: %s", name, size, utf8.RuneCountInString(l), l)
					}
					for _, r := range l {
						if r < ' ' || r == 0x7f || ascii && r > 0x7f || !ascii && r > 0x7f && !strings.ContainsRune("▏▎▍▌▋▊▉█…▲▼", r) {
							t.Errorf("%s at %v: %q in %q", name, size, r, l)
						}
					}
				}
			}
		}
	}
	for width := 1; width <= 200; width++ { // resized with rows on the screen
		d := newTopDriver(t, false)
		d.second(wide)
		d.key("end")
		d.send(tea.WindowSizeMsg{Width: width, Height: 1 + width%30})
		for l := range strings.Lines(d.text()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(l, "\n")); n > width {
				t.Errorf("%d columns of %d: %s", n, width, l)
			}
		}
	}
}

// TestTopFeed: the agent goes away in the middle, answers nonsense, hangs and comes
// back, and what is asked for changes meanwhile.
func TestTopFeed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	a := newFakeAgent(t, path)
	q, err := parseTopRequest("src_ip,dst_ip", "bytes", 9)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan tea.Msg, 1000)
	f := &topFeed{retry: time.Millisecond, quiet: time.Hour, last: topAsk{1, q}, send: func(m tea.Msg) { got <- m },
		open: func(ctx context.Context, q topRequest) (*topStream, error) { return openTop(ctx, path, q) }}
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() { f.run(ctx) })
	defer wait.Wait()
	defer cancel()
	second := func(n, rows int) {
		t.Helper()
		for m := range got {
			if s, ok := m.(topSecondMsg); ok {
				if s.n != n || len(s.reply.Rows) != rows {
					t.Errorf("second of wish %d with %d rows", s.n, len(s.reply.Rows))
				}
				return
			}
		}
	}
	lost := func(why string) {
		t.Helper()
		for m := range got {
			if l, ok := m.(topLostMsg); ok && strings.Contains(l.why, why) {
				return
			}
		}
	}
	const first = "src_ip,dst_ip bytes 9"
	a.awaits(first)
	a.lines <- lineOf(t, secondOf(1))
	second(1, 1)
	a.lines <- "nonsense"
	lost("read the agent's answer")
	a.awaits(first)
	a.lines <- lineOf(t, secondOf(2))
	second(1, 2)
	a.stop()
	lost("gone away")
	lost("no agent listens")
	b := newFakeAgent(t, path)
	b.lines <- lineOf(t, secondOf(3))
	second(1, 3)
	b.awaits(first)
	q.sort = "flows"
	f.ask(topAsk{3, q})
	f.ask(topAsk{2, topRequest{}}) // overtaken
	b.awaits("src_ip,dst_ip flows 9")
	b.lines <- lineOf(t, secondOf(4))
	second(3, 4)
}

// TestTopFeedHangs: an agent that is there and says nothing.
func TestTopFeedHangs(t *testing.T) {
	a := newFakeAgent(t, filepath.Join(t.TempDir(), "s"))
	got := make(chan tea.Msg, 100)
	f := &topFeed{retry: time.Millisecond, quiet: time.Millisecond, last: topAsk{n: 1}, send: func(m tea.Msg) { got <- m },
		open: func(ctx context.Context, q topRequest) (*topStream, error) { return openTop(ctx, a.path, q) }}
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() { f.run(ctx) })
	if m, ok := (<-got).(topLostMsg); !ok || m.why != "no answer for 1ms" {
		t.Errorf("%v", m)
	}
	cancel()
	wait.Wait()
}

// topTerminal is weir top on a terminal of its own.
type topTerminal struct {
	t       *testing.T
	screen  *os.File
	program *os.File
	cmd     *exec.Cmd
	before  *unix.Termios
	chunks  chan []byte
	all     []byte // everything it has written
	seen    int    // of which wait has read
}

func startTop(t *testing.T, env []string) *topTerminal {
	t.Helper()
	path, err := buildProgram()
	if err != nil {
		t.Fatal(err)
	}
	return startOnTerminal(t, env, path, "top")
}

func startOnTerminal(t *testing.T, env []string, path string, args ...string) *topTerminal {
	t.Helper()
	var err error
	s := &topTerminal{t: t, chunks: make(chan []byte)}
	s.screen, s.program = terminal(t)
	s.resize(100, 30)
	if s.before, err = unix.IoctlGetTermios(int(s.program.Fd()), unix.TCGETS); err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(path, args...)
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = s.program, s.program, s.program
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	s.cmd.Env = append(append(os.Environ(), "TERM=xterm-256color", "TERM_PROGRAM=", "NO_COLOR="), env...)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.cmd.Process.Kill(); s.program.Close() })
	go func() {
		defer close(s.chunks)
		for {
			b := make([]byte, 4096)
			n, err := s.screen.Read(b)
			if err != nil {
				return // the terminal is closed
			}
			select {
			case s.chunks <- b[:n]:
			case <-t.Context().Done():
				return
			}
		}
	}()
	return s
}

func (s *topTerminal) resize(width, height uint16) {
	s.t.Helper()
	if err := unix.IoctlSetWinsize(int(s.screen.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}); err != nil {
		s.t.Fatal(err)
	}
}

// wait reads until the terminal was told to show what, after what was waited for before.
func (s *topTerminal) wait(what string) {
	s.t.Helper()
	for {
		if i := bytes.Index(s.all[s.seen:], []byte(what)); i >= 0 {
			s.seen += i + len(what)
			return
		}
		b, ok := <-s.chunks
		if !ok {
			s.t.Fatalf("%q does not come after %q", what, s.all)
		}
		s.all = append(s.all, b...)
	}
}

func (s *topTerminal) press(keys string) {
	s.t.Helper()
	if _, err := s.screen.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// ended holds that the terminal is as it was: the alternate screen left, the cursor
// there, and its settings back.
func (s *topTerminal) ended() int {
	s.t.Helper()
	s.wait("\x1b[?1049l")
	done := make(chan error, 1)
	go func() { done <- s.cmd.Wait() }()
	for ended := false; !ended; {
		select {
		case b := <-s.chunks:
			s.all = append(s.all, b...)
		case err := <-done:
			if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
				s.t.Fatal(err)
			}
			ended = true
		}
	}
	after, err := unix.IoctlGetTermios(int(s.program.Fd()), unix.TCGETS)
	if err != nil {
		s.t.Fatal(err)
	}
	if *after != *s.before {
		s.t.Errorf("the terminal is left with %+v, it had %+v", after, s.before)
	}
	s.program.Close() // by the last who has it open: reading ends
	for b := range s.chunks {
		s.all = append(s.all, b...)
	}
	return s.cmd.ProcessState.ExitCode()
}

const altScreen = "\x1b[?1049h"

func TestTopOnTerminal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	a := newFakeAgent(t, path)
	s := startTop(t, append(a.env(), "LC_ALL=C.UTF-8"))
	s.wait(altScreen)
	a.awaits("src_ip,dst_ip bytes 500")
	a.awaits("src_ip,dst_ip bytes 500") // the first one saw whether there is an agent
	a.lines <- lineOf(t, secondOf(50, "evil\x1b]0;x\a"))
	s.wait(`evil\x1b]0;x\a`)
	s.press("s")
	a.awaits("src_ip,dst_ip packets 500")
	s.press("g5\r")
	a.awaits("src_ip,dst_ip,proto packets 500")
	r := secondOf(2)
	for i := range r.Rows {
		r.Rows[i].Group = append(r.Rows[i].Group, "sctp")
	}
	a.lines <- lineOf(t, r)
	s.wait("sctp")
	s.press("?")
	s.wait("Home, End")
	s.press("?")
	s.resize(60, 10)
	s.wait("sctp")
	a.stop()
	s.wait("waiting: ")
	b := newFakeAgent(t, path)
	b.awaits("src_ip,dst_ip,proto packets 500")
	for i := range r.Rows {
		r.Rows[i].Group[2] = "ospf"
	}
	b.lines <- lineOf(t, r)
	s.wait("ospf")
	s.press("q")
	if code := s.ended(); code != exitOK {
		t.Errorf("exit %d", code)
	}
	if bytes.Contains(s.all, []byte("\x1b]0;")) || bytes.ContainsRune(s.all, '\a') {
		t.Errorf("the address drives the terminal: %q", s.all)
	}
	if !bytes.Contains(s.all, []byte("\x1b[36m")) {
		t.Error("no colour")
	}
}

// TestTopEndsOnTerminal: whatever ends it, the terminal is as before.
func TestTopEndsOnTerminal(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*topTerminal)
		code int
	}{
		"ctrl-c":  {func(s *topTerminal) { s.press("\x03") }, exitOK},
		"SIGTERM": {func(s *topTerminal) { s.cmd.Process.Signal(syscall.SIGTERM) }, exitOK},
		"SIGINT":  {func(s *topTerminal) { s.cmd.Process.Signal(syscall.SIGINT) }, exitOK},
		"SIGHUP":  {func(s *topTerminal) { s.cmd.Process.Signal(syscall.SIGHUP) }, exitOK},
	} {
		t.Run(name, func(t *testing.T) {
			a := newFakeAgent(t, filepath.Join(t.TempDir(), "s"))
			s := startTop(t, append(a.env(), "NO_COLOR=1"))
			s.wait(altScreen)
			a.awaits("src_ip,dst_ip bytes 500")
			a.awaits("src_ip,dst_ip bytes 500")
			a.lines <- lineOf(t, secondOf(3))
			s.wait("192.0.2.2")
			c.end(s)
			if code := s.ended(); code != c.code {
				t.Errorf("exit %d: %q", code, s.all)
			}
			if regexp.MustCompile("\x1b\\[[0-9;]*3[0-7]m").Match(s.all) {
				t.Errorf("colour in spite of NO_COLOR: %q", s.all)
			}
			if i := bytes.IndexFunc(s.all, func(r rune) bool { return r > 0x7f }); i >= 0 {
				t.Errorf("not ASCII, in a locale that is: %q", s.all[i:])
			}
		})
	}
}

// TestTopPanic: this very test, run anew on a terminal, panics in what reads the agent's
// answers, and in what draws them.
func TestTopPanic(t *testing.T) {
	const variable = "WEIR_TEST_TOP_PANIC"
	if where := os.Getenv(variable); where != "" {
		q, err := parseTopRequest("src_ip,dst_ip", "bytes", 9)
		if err != nil {
			t.Fatal(err)
		}
		asked := 0
		t.Fatal(showTop(t.Context(), q, func(context.Context, topRequest) (*topStream, error) {
			if asked++; asked == 1 {
				return nil, errors.New("soon") // once the screen is there
			}
			if where == "feed" {
				panic("on purpose")
			}
			q.names = q.names[:1] // a mistake: fewer columns than are drawn
			text := `{"seconds":1,"rows":[{"group":["a"]}]}`
			return &topStream{q, io.NopCloser(strings.NewReader("")), bufio.NewScanner(strings.NewReader(text))}, nil
		}))
	}
	for where, what := range map[string]string{"feed": "on purpose", "view": "index out of range"} {
		t.Run(where, func(t *testing.T) {
			s := startOnTerminal(t, []string{variable + "=" + where}, os.Args[0], "-test.run=^TestTopPanic$")
			s.wait(altScreen)
			if code := s.ended(); code == exitOK {
				t.Error("it is content")
			}
			left := s.all[bytes.Index(s.all, []byte("\x1b[?1049l")):]
			if !bytes.Contains(left, []byte(what)) {
				t.Errorf("%q is not to be read after the screen: %q", what, left)
			}
		})
	}
}

package privileges

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"weir/internal/lack"
)

// orders is in the environment of a child: the test binary, which then drops its
// privileges, reports what it can do, and stays until its standard input ends.
const orders = "WEIR_PRIVILEGES_TEST"

type order struct {
	User string
	Keep Need
	File string // what only root may read
}

type report struct {
	Error                   string // of Drop
	Unsupported             bool
	MissingBefore, Missing  []string
	Threads                 []attempts // what each of many threads could do
	Setuid, Setgid, Program string
}

// attempts has the error of each, empty if it was successful.
type attempts struct {
	Thread int
	// What a capture does.
	Packet, Promiscuous string
	// What must not succeed.
	File, Setresuid, Setresgid, Setgroups, Capset string
}

var children string // where they are built

func TestMain(m *testing.M) {
	if s := os.Getenv(orders); s != "" {
		if err := child(s); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	var err error
	if children, err = os.MkdirTemp("", "weir-privileges"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(children)
	os.Exit(code)
}

// With os/user the test binary has cgo where there is a C compiler, and with the race
// detector always. A child is built as the agent is.
var (
	static  = sync.OnceValues(func() (string, error) { return build("0") })
	withCgo = sync.OnceValues(func() (string, error) { return build("1") })
)

func build(cgo string) (string, error) {
	// Users that are not root have to get at it.
	if err := os.Chmod(children, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(children, "child-"+cgo)
	cmd := exec.Command("go", "test", "-c", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, os.Chmod(path, 0o755)
}

func child(s string) error {
	var o order
	if err := json.Unmarshal([]byte(s), &o); err != nil {
		return err
	}
	both := Need{Raw: true, Admin: true}
	r := report{MissingBefore: Missing(both)}
	old, err := startThreads()
	if err != nil {
		return err
	}
	// Threads that begin and end meanwhile must not escape.
	var dropped atomic.Bool
	var churn sync.WaitGroup
	for range 2 {
		churn.Go(func() {
			for !dropped.Load() {
				done := make(chan struct{})
				go func() {
					defer close(done)
					runtime.LockOSThread() // it ends with the goroutine
				}()
				<-done
			}
		})
	}
	if err := Drop(o.User, o.Keep); err != nil {
		r.Error, r.Unsupported = err.Error(), errors.Is(err, errors.ErrUnsupported)
	}
	dropped.Store(true)
	churn.Wait()
	young, err := startThreads()
	if err != nil {
		return err
	}
	r.Missing = Missing(both)
	if r.Error == "" { // what fails may leave it able to do all of this
		for _, t := range append(old, young...) {
			r.Threads = append(r.Threads, t.try(o.File))
		}
		r.Setuid, r.Setgid = text(syscall.Setuid(0)), text(syscall.Setgid(0))
	}
	program, err := exec.Command("cat", "/proc/self/status").CombinedOutput()
	if r.Program = string(program); err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// thread is an OS thread that does what it is given.
type thread struct {
	asked chan func()
	wake  int // writing here ends its read(2); -1 if it waits in the runtime
}

// startThreads starts threads of both kinds: those that wait in a system call see
// nothing but a signal.
func startThreads() (threads []thread, err error) {
	const each = 4
	var started sync.WaitGroup
	for i := range 2 * each {
		t, wait := thread{make(chan func(), 1), -1}, func() {}
		if i >= each {
			var fds [2]int
			if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
				return nil, err
			}
			t.wake = fds[1]
			wait = func() {
				for {
					if _, err := unix.Read(fds[0], make([]byte, 1)); err != unix.EINTR {
						return
					}
				}
			}
		}
		threads = append(threads, t)
		started.Add(1)
		go func() {
			runtime.LockOSThread()
			started.Done()
			for {
				wait()
				(<-t.asked)()
			}
		}()
	}
	started.Wait() // all at once: so each has a thread
	return threads, nil
}

// try has the thread do what it may not.
func (t thread) try(file string) attempts {
	result := make(chan attempts)
	t.asked <- func() { result <- try(file) }
	if t.wake >= 0 {
		unix.Write(t.wake, []byte{0})
	}
	return <-result
}

func text(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

// try does it in the calling thread.
func try(file string) (a attempts) {
	a.Thread = unix.Gettid()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	a.Packet = text(err)
	if err == nil {
		member := unix.PacketMreq{Ifindex: 1, Type: unix.PACKET_MR_PROMISC} // lo
		a.Promiscuous = text(unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &member))
		unix.Close(fd)
	}
	fd, err = unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	a.File = text(err)
	if err == nil {
		unix.Close(fd)
	}
	call := func(trap, a1, a2, a3 uintptr) string {
		if _, _, errno := unix.RawSyscall(trap, a1, a2, a3); errno != 0 {
			return errno.Error()
		}
		return ""
	}
	a.Setresuid = call(unix.SYS_SETRESUID, 0, 0, 0)
	a.Setresgid = call(unix.SYS_SETRESGID, 0, 0, 0)
	a.Setgroups = call(unix.SYS_SETGROUPS, 0, 0, 0)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	all := capabilitySets{{Permitted: ^uint32(0)}, {Permitted: ^uint32(0)}}
	a.Capset = call(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&all)), 0)
	return a
}

// needsRoot is for tests that start processes of other users.
func needsRoot(t *testing.T) {
	t.Helper()
	lack.Root(t)
}

// secret returns a file that only root may read.
func secret(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// process is a child that has reported.
type process struct {
	report
	pid int
}

// start starts a child in a network namespace of its own. It ends with the test.
func start(t *testing.T, path string, o order, as *syscall.Credential, ambient ...uintptr) process {
	t.Helper()
	cmd := exec.Command(path)
	cmd.Dir = "/"
	s, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), orders+"="+string(s))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, AmbientCaps: ambient, Cloneflags: unix.CLONE_NEWNET}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the child: %v: %s", err, stderr.String())
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	p := process{pid: cmd.Process.Pid}
	if err == nil {
		err = json.Unmarshal(line, &p.report)
	}
	if err != nil {
		t.Fatalf("the child's report: %v: %s", err, stderr.String())
	}
	return p
}

// fields are those of /proc/PID/status that say what a thread may do.
var fields = []string{"Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"}

func parseStatus(s string) map[string]string {
	status := map[string]string{}
	for line := range strings.Lines(s) {
		if name, value, ok := strings.Cut(line, ":"); ok && slices.Contains(fields, name) {
			status[name] = strings.Join(strings.Fields(value), " ")
		}
	}
	return status
}

// own returns what the kernel says of the calling thread.
func own(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		t.Fatal(err)
	}
	return parseStatus(string(b))
}

// statuses returns what the kernel says of each of the threads.
func statuses(t *testing.T, pid int) map[string]map[string]string {
	t.Helper()
	paths, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/status")
	if err != nil {
		t.Fatal(err)
	}
	threads := map[string]map[string]string{}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if errors.Is(err, unix.ESRCH) || errors.Is(err, os.ErrNotExist) {
			continue // one that has just ended
		}
		if err != nil {
			t.Fatal(err)
		}
		threads[path] = parseStatus(string(b))
	}
	return threads
}

const (
	none       = "0000000000000000"
	raw        = "0000000000002000" // 1 << CAP_NET_RAW
	rawAdmin   = "0000000000003000"
	denied     = "permission denied"
	notAllowed = "operation not permitted"
)

// holds compares the child with what it should be.
func (p process) holds(t *testing.T, id, groups, kept, bounding string) {
	t.Helper()
	if p.Error != "" {
		t.Fatal(p.Error)
	}
	ids := strings.Join([]string{id, id, id, id}, " ")
	want := map[string]string{
		"Uid": ids, "Gid": ids, "Groups": groups, "NoNewPrivs": "1",
		"CapInh": none, "CapPrm": kept, "CapEff": kept, "CapAmb": none, "CapBnd": bounding,
	}
	threads := statuses(t, p.pid)
	if len(threads) < len(p.Threads) {
		t.Errorf("%d threads, and %d have reported", len(threads), len(p.Threads))
	}
	for path, got := range threads {
		for _, field := range fields {
			if got[field] != want[field] {
				t.Errorf("%s: %s is %q, want %q", path, field, got[field], want[field])
			}
		}
	}
	program := parseStatus(p.Program)
	for _, field := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
		if program[field] != none {
			t.Errorf("a program that it starts: %s is %q", field, program[field])
		}
	}
	if program["Uid"] != ids || program["NoNewPrivs"] != "1" {
		t.Errorf("a program that it starts: %v", program)
	}
	var packet, missing = "", []string{"CAP_NET_ADMIN"}
	switch kept {
	case none:
		packet, missing = notAllowed, []string{"CAP_NET_RAW", "CAP_NET_ADMIN"}
	case rawAdmin:
		missing = nil
	}
	if !slices.Equal(p.Missing, missing) {
		t.Errorf("%v are missing, want %v", p.Missing, missing)
	}
	seen := map[int]bool{}
	for _, got := range p.Threads {
		seen[got.Thread] = true
		want := attempts{
			Thread: got.Thread, Packet: packet,
			File: denied, Setresuid: notAllowed, Setresgid: notAllowed, Setgroups: notAllowed, Capset: notAllowed,
		}
		if got != want {
			t.Errorf("a thread could do %+v, want %+v", got, want)
		}
	}
	if len(seen) != 16 {
		t.Errorf("%d threads have tried, want 16", len(seen))
	}
	if p.Setuid != notAllowed || p.Setgid != notAllowed {
		t.Errorf("back to root: %q, %q", p.Setuid, p.Setgid)
	}
}

// TestDropOfRoot starts as root, with groups and capabilities that a program which it
// starts would inherit.
func TestDropOfRoot(t *testing.T) {
	needsRoot(t)
	path, err := static()
	if err != nil {
		t.Fatal(err)
	}
	nobody, _, err := IDs("nobody")
	if err != nil {
		t.Fatal(err)
	}
	byDefault, _, err := IDs(DefaultUser())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		user string
		keep Need
		id   string
		kept string
	}{
		"nothing":       {"nobody", Need{}, strconv.Itoa(nobody), none},
		"raw":           {"nobody", Need{Raw: true}, strconv.Itoa(nobody), raw},
		"raw and admin": {"nobody", Need{Raw: true, Admin: true}, strconv.Itoa(nobody), rawAdmin},
		"by number":     {strconv.Itoa(nobody), Need{Raw: true}, strconv.Itoa(nobody), raw},
		"of nobody":     {"4321987", Need{Raw: true}, "4321987", raw},
		"by default":    {"", Need{Raw: true}, strconv.Itoa(byDefault), raw},
	} {
		t.Run(name, func(t *testing.T) {
			root := &syscall.Credential{Groups: []uint32{0, 4, 27}}
			p := start(t, path, order{c.user, c.keep, secret(t)}, root, unix.CAP_NET_RAW, unix.CAP_SYS_ADMIN)
			p.holds(t, c.id, "", c.kept, none)
			if p.MissingBefore != nil {
				t.Errorf("before, root lacks %v", p.MissingBefore)
			}
		})
	}
}

// TestDropOfOthers starts as another user, as systemd does with User= and
// AmbientCapabilities=.
func TestDropOfOthers(t *testing.T) {
	needsRoot(t)
	path, err := static()
	if err != nil {
		t.Fatal(err)
	}
	bounding := own(t)["CapBnd"]
	for name, c := range map[string]struct {
		has            []uintptr
		keep           Need
		kept, bounding string
	}{
		"has none":               {nil, Need{Raw: true, Admin: true}, none, bounding},
		"keeps raw":              {[]uintptr{unix.CAP_NET_RAW, unix.CAP_NET_ADMIN, unix.CAP_DAC_OVERRIDE}, Need{Raw: true}, raw, bounding},
		"has only raw":           {[]uintptr{unix.CAP_NET_RAW}, Need{Raw: true, Admin: true}, raw, bounding},
		"keeps nothing":          {[]uintptr{unix.CAP_NET_RAW, unix.CAP_SETUID, unix.CAP_SETGID}, Need{}, none, bounding},
		"may change its bounds":  {[]uintptr{unix.CAP_NET_RAW, unix.CAP_SETPCAP}, Need{Raw: true}, raw, none},
		"keeps both, and has 38": {[]uintptr{unix.CAP_NET_RAW, unix.CAP_NET_ADMIN, unix.CAP_PERFMON}, Need{Raw: true, Admin: true}, rawAdmin, bounding},
	} {
		t.Run(name, func(t *testing.T) {
			as := &syscall.Credential{Uid: 4321, Gid: 4321, Groups: []uint32{4, 27}}
			// The user is for root alone: that there is none by the name is no matter.
			p := start(t, path, order{"no such user", c.keep, secret(t)}, as, c.has...)
			p.holds(t, "4321", "4 27", c.kept, c.bounding)
			var missing []string
			for _, n := range (Need{Raw: true, Admin: true}).capabilities() {
				if !slices.Contains(c.has, uintptr(n.number)) {
					missing = append(missing, n.name)
				}
			}
			if !slices.Equal(p.MissingBefore, missing) {
				t.Errorf("before, %v are missing, want %v", p.MissingBefore, missing)
			}
		})
	}
}

// TestDropRefuses holds that nothing is given up where Drop cannot do all of it.
func TestDropRefuses(t *testing.T) {
	needsRoot(t)
	path, err := static()
	if err != nil {
		t.Fatal(err)
	}
	cgo, err := withCgo()
	if err != nil {
		lack.Of(t, "cgo needs a C compiler: "+err.Error())
	}
	before := own(t)
	for name, c := range map[string]struct {
		path, user, want string
		unsupported      bool
	}{
		"cgo":         {cgo, "nobody", "CGO_ENABLED=0", true},
		"root":        {path, "root", `user "root": is root`, false},
		"0":           {path, "0", `user "0": is root`, false},
		"no change":   {path, "4294967295", `user "4294967295": `, false},
		"too much":    {path, "4294967296", `user "4294967296": `, false},
		"negative":    {path, "-1", `user "-1": `, false},
		"not a user":  {path, "no such user", `user "no such user": `, false},
		"not a line":  {path, "nobody\n", `user "nobody\n": `, false},
		"not a field": {path, "nobody:x", `user "nobody:x": `, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, c.path, order{User: c.user, File: os.DevNull}, &syscall.Credential{NoSetGroups: true})
			if !strings.HasPrefix(p.Error, "drop privileges: ") || !strings.Contains(p.Error, c.want) || p.Unsupported != c.unsupported {
				t.Errorf("%q, unsupported %v; want %q", p.Error, p.Unsupported, c.want)
			}
			after := parseStatus(p.Program)
			for _, field := range []string{"Uid", "CapPrm", "CapEff", "CapBnd", "NoNewPrivs"} {
				if after[field] != before[field] {
					t.Errorf("%s was %q and is %q", field, before[field], after[field])
				}
			}
		})
	}
}

// TestDropInContainer has root without some capability, as in a container.
func TestDropInContainer(t *testing.T) {
	needsRoot(t)
	path, err := static()
	if err != nil {
		t.Fatal(err)
	}
	nobody, _, err := IDs("nobody")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		without   uintptr
		err, kept string
		bounding  bool // may be changed
	}{
		"no setgid":  {without: unix.CAP_SETGID, err: "drop privileges: setgroups: operation not permitted"},
		"no setuid":  {without: unix.CAP_SETUID, err: "drop privileges: setresuid: operation not permitted"},
		"no setpcap": {without: unix.CAP_SETPCAP, kept: raw},
		"no raw":     {without: unix.CAP_NET_RAW, kept: none, bounding: true},
	} {
		t.Run(name, func(t *testing.T) {
			// What is in the bounding set is what root has after execve(2). The thread
			// is never unlocked and ends with the test.
			runtime.LockOSThread()
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, c.without, 0, 0, 0); err != nil {
				t.Fatal(err)
			}
			bounding := own(t)["CapBnd"]
			if c.bounding {
				bounding = none
			}
			p := start(t, path, order{"nobody", Need{Raw: true}, secret(t)}, nil)
			if c.err == "" {
				p.holds(t, strconv.Itoa(nobody), "", c.kept, bounding)
			} else if p.Error != c.err {
				t.Errorf("%q, want %q", p.Error, c.err)
			}
		})
	}
}

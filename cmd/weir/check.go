package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"weir/capture/afring"
	"weir/capture/link"
	"weir/capture/socket"
	"weir/exporter"
	"weir/exporter/clickhouse"
	"weir/exporter/table"
	"weir/privileges"
)

func newCheckCommand(cfg *config) *cobra.Command {
	var output string
	var unread error
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say whether weir run can do its work here",
		Long: `Check looks at all that weir run needs: configuration, permissions, interfaces, memory,
ClickHouse, the clock. Under what is not well stands what to do about it.

It changes nothing: no table is made, no interface is set to anything. On each interface
that would be captured on a ring is opened and closed. Run it as the user and with the
settings that weir run has; it takes the same flags, but for --output, which is about its
own answer: where flows go is said by the key output, or by WEIR_OUTPUT.

Exit status: 0 no errors, though there may be warnings; 1 there are errors; 2 wrong usage.`,
		Example: `  weir check
  weir check --config /etc/weir/weir.yaml
  sudo -u weir weir check                    as the service would see it
  WEIR_OUTPUT=none weir check -i eth0        without a database
  weir check --output json | jq 'select(.state != "ok")'`,
		Args: cobra.NoArgs,
		// Instead of that of all commands: what is wrong with the file is a finding.
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			unread = cfg.load(cmd)
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return usage("--output: %q is neither table nor json", output)
			}
			for flag, key := range runFlagKeys {
				if flag == "output" || unread != nil {
					continue
				}
				if err := cfg.v.BindPFlag(key, cmd.Flags().Lookup(flag)); err != nil {
					return &exitError{code: exitFailure, err: fmt.Errorf("bind --%s: %w", flag, err)}
				}
			}
			c := check{cfg: cfg}
			c.all(cmd.Context(), unread)
			q := query{output: output, out: cmd.OutOrStdout(), screen: table.ScreenOf(os.Stdout)}
			if err := c.write(&q); err != nil {
				return &exitError{code: exitFailure, err: err}
			}
			if n := c.count(stateError); n > 0 {
				return &exitError{code: exitFailure, err: fmt.Errorf("%d errors", n), said: true}
			}
			return nil
		},
	}
	f, run := cmd.Flags(), newRunCommand(cfg).Flags()
	for flag := range runFlagKeys {
		if flag != "output" {
			f.AddFlag(run.Lookup(flag))
		}
	}
	f.StringVarP(&output, "output", "o", "table", "table, or json (one object a line)")
	return cmd
}

// The states of a finding.
const (
	stateOK      = "ok"
	stateWarning = "warning" // weir run works, but not as somebody may think
	stateError   = "error"   // weir run cannot do its work
)

// finding is what was found out about something. Advice says what to do unless it is ok.
type finding struct{ state, what, detail, advice string }

// check gathers findings.
type check struct {
	cfg   *config
	live  *liveConfig
	found []finding
}

func (c *check) ok(what, format string, args ...any) {
	c.found = append(c.found, finding{stateOK, what, fmt.Sprintf(format, args...), ""})
}

func (c *check) add(state, what, advice, format string, args ...any) {
	c.found = append(c.found, finding{state, what, fmt.Sprintf(format, args...), advice})
}

func (c *check) count(state string) (n int) {
	for _, f := range c.found {
		if f.state == state {
			n++
		}
	}
	return n
}

// all looks at everything. What depends on something that is wrong is left out.
func (c *check) all(ctx context.Context, unread error) {
	c.clock(time.Now())
	if !c.configuration(unread) {
		return
	}
	c.environment()
	permitted := c.capabilities()
	c.user()
	c.socket(ctx)
	c.listen(ctx)
	c.interfaces(permitted)
	c.output(ctx)
}

func (c *check) clock(now time.Time) {
	if now.Year() < 2020 { // a board without a battery, before it has asked for the time
		c.add(stateError, "clock", "set it, such as with: timedatectl set-ntp true", "it says %s", now.UTC().Format(time.DateTime))
		return
	}
	c.ok("clock", "%s UTC", now.UTC().Format(time.DateTime))
}

func (c *check) configuration(err error) bool {
	const what = "configuration"
	path := c.cfg.file()
	correct := "correct " + path + ": config.example.yaml lists all keys"
	if err == nil {
		if c.live, err = c.cfg.live(); err != nil {
			key, _, _ := strings.Cut(err.Error(), ":")
			correct = "correct " + key + ", in " + path + ", the environment or a flag: config.example.yaml says what it may be"
		}
	} else if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		correct = "name a file that this user can read: --config FILE"
	}
	if err != nil {
		c.add(stateError, what, correct, "%v", err)
		return false
	}
	if c.file() == "" {
		c.ok(what, "no file (%s is not there): defaults, environment and flags", systemConfig)
	} else {
		c.ok(what, "%s, environment and flags", path)
	}
	return true
}

// file returns the configuration file that was read, "" if there is none.
func (c *check) file() string {
	if _, err := os.Stat(systemConfig); c.cfg.path == "" && err != nil {
		return ""
	}
	return c.cfg.file()
}

// environment looks for variables that nobody reads: a misspelt one is silently ignored.
func (c *check) environment() {
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		short, ours := strings.CutPrefix(name, "WEIR_")
		// Kubernetes sets those of a service that is called weir; the last is weir-clickhouse's.
		if !ours || strings.HasPrefix(short, "SERVICE_") || strings.HasPrefix(short, "PORT") || short == "CLICKHOUSE_ENGINE" {
			continue
		}
		known := false
		for key := range defaults {
			known = known || strings.ToUpper(strings.ReplaceAll(key, ".", "_")) == short
		}
		if !known {
			c.add(stateWarning, "environment", "correct or unset it: config.example.yaml lists all keys", "%s belongs to no key", name)
		}
	}
}

// capabilities reports whether packets may be captured.
func (c *check) capabilities() bool {
	need := c.live.need()
	missing := privileges.Missing(need)
	if len(missing) > 0 {
		c.add(stateError, "capabilities", privileges.Advice(missing, executable()), "%s is missing", strings.Join(missing, " and "))
	} else if need.Admin {
		c.ok("capabilities", "CAP_NET_RAW and CAP_NET_ADMIN are there")
	} else {
		c.ok("capabilities", "CAP_NET_RAW is there")
	}
	return len(missing) == 0
}

func executable() string {
	path, err := os.Executable()
	if err != nil {
		return "weir"
	}
	return path
}

// user looks at the change of user, and at what the user needs afterwards.
func (c *check) user() {
	const what = "user"
	// It changes nothing, and fails as the calls fail that do: where there is cgo.
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_GETPID, 0, 0, 0); errno != 0 {
		c.add(stateError, what, "build it with CGO_ENABLED=0 go build ./cmd/weir", "a binary with cgo cannot give up its privileges: %v", errno)
		return
	}
	if euid := os.Geteuid(); euid != 0 {
		c.ok(what, "stays user %d, as it is not started as root", euid)
		return
	}
	name := cmp.Or(c.live.user, privileges.DefaultUser())
	if name == "root" {
		c.ok(what, "stays root, as the key user says")
		return
	}
	a, err := lookUp(name)
	if err != nil {
		c.add(stateError, what, "make it with: useradd --system --no-create-home NAME; or set the key user to one that is there", "%v", err)
		return
	}
	if missing := missingForChange(); len(missing) > 0 {
		c.add(stateError, what, "grant them, or start weir as another user that has CAP_NET_RAW, or set the key user to root",
			"cannot change to %s: %s is missing", name, strings.Join(missing, " and "))
		return
	}
	c.ok(what, "changes to %s (%d)", name, a.uid)
	if path := c.file(); path != "" {
		err := a.do(func() error {
			f, err := os.Open(path)
			if err == nil {
				f.Close()
			}
			return err
		})
		if err != nil {
			c.add(stateWarning, what, fmt.Sprintf("let user %s read it and its folders: chmod or chgrp", name),
				"%s could not read the configuration again when it changes: %v", name, err)
		}
	}
}

// account is a user to be changed to.
type account struct{ uid, gid int }

// lookUp finds the user as privileges.Drop does.
func lookUp(name string) (a account, err error) {
	u, err := user.Lookup(name)
	if n, notNumber := strconv.ParseUint(name, 10, 32); err != nil && notNumber == nil {
		id := strconv.FormatUint(n, 10)
		if u, err = user.LookupId(id); err != nil {
			u, err = &user.User{Uid: id, Gid: id}, nil // in a container there may be no list
		}
	}
	if err != nil {
		return a, fmt.Errorf("user %q: %w", name, err)
	}
	if a.uid, err = strconv.Atoi(u.Uid); err == nil {
		a.gid, err = strconv.Atoi(u.Gid)
	}
	if err == nil && a.uid == 0 {
		err = errors.New("is root")
	}
	if err != nil {
		return a, fmt.Errorf("user %q: %w", name, err)
	}
	return a, nil
}

// missingForChange returns the capabilities that a change of user takes and root has not,
// as in a container.
func missingForChange() (names []string) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return nil
	}
	for name, number := range map[string]int{"CAP_SETUID": unix.CAP_SETUID, "CAP_SETGID": unix.CAP_SETGID} {
		if sets[0].Effective&(1<<number) == 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// do calls f where files are opened with the user's rights instead of root's. The kernel
// keeps those for each thread (credentials(7)), and the thread ends with f.
func (a account) do(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		err := errors.Join(unix.Setgroups(nil), unix.Setfsgid(a.gid), unix.Setfsuid(a.uid))
		if err == nil {
			err = f()
		}
		result <- err
	}()
	return <-result
}

const askTimeout = 2 * time.Second

// asked returns what it means that something cannot be had without which weir run goes
// on if nobody has asked for it.
func asked(configured bool) string {
	if configured {
		return stateError
	}
	return stateWarning
}

func (c *check) socket(ctx context.Context) {
	const what, otherwise = "admin.socket", "set admin.socket (WEIR_ADMIN_SOCKET) to another path"
	path, bad := c.cfg.socket(), asked(c.live.socket != "")
	if most := len(unix.RawSockaddrUnix{}.Path) - 1; len(path) > most {
		c.add(bad, what, otherwise, "%s: longer than the %d octets that a socket's path may have", path, most)
		return
	}
	conn, err := net.DialTimeout("unix", path, askTimeout)
	if err == nil {
		conn.Close()
		if s, err := c.running(ctx, path); err != nil {
			c.add(bad, what, otherwise, "%s: another program listens there: %v", path, err)
		} else {
			c.ok(what, "weir %s listens on %s already, process %d", s.Version, path, s.PID)
		}
		return
	}
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.Mode().Type() != os.ModeSocket:
		c.add(bad, what, otherwise, "%s: there is something that is no socket", path)
		return
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		c.add(bad, what, otherwise, "%v", err)
		return
	}
	// Folders that are missing are made.
	dir := filepath.Dir(path)
	for {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		c.add(bad, what, otherwise+", or let this user write to "+dir, "%s cannot be made: %s: %v", path, dir, err)
		return
	}
	c.ok(what, "%s can be made", path)
}

// running asks the agent that listens on a socket how it is.
func (c *check) running(ctx context.Context, socket string) (s statusReply, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	body, err := askAgent(ctx, socket, "/status", nil)
	if err != nil {
		return s, err
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, 16<<20)).Decode(&s); err != nil {
		return s, err
	}
	if s.PID == 0 {
		return s, errors.New("its answer is not an agent's")
	}
	return s, nil
}

func (c *check) listen(ctx context.Context) {
	const what, otherwise = "admin.listen", "set admin.listen (--listen) to an address that is free here, or to \"\" for no metrics"
	addr := c.live.listenOn
	if addr == "" {
		c.ok(what, "no metrics over HTTP, as configured")
		return
	}
	ln, err := net.Listen("tcp", addr)
	switch {
	case err == nil:
		ln.Close()
		c.ok(what, "%s is free", addr)
	case errors.Is(err, syscall.EADDRINUSE) && isWeir(ctx, addr):
		c.ok(what, "a weir listens on %s already", addr)
	default:
		c.add(asked(addr != defaults["admin.listen"]), what, otherwise, "%v", err)
	}
}

// isWeir reports whether an agent's metrics are served there.
func isWeir(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return false
	}
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},                                      // nor a proxy
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // whoever listens there
	}
	answer, err := client.Do(r)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 4<<20)) // what there is of it
	return strings.Contains(string(text), "\nweir_")
}

func (c *check) interfaces(permitted bool) {
	l := c.live
	links, err := link.All()
	if err != nil {
		c.add(stateError, "interfaces", "let weir open sockets of AF_NETLINK: see seccomp or RestrictAddressFamilies", "%v", err)
		return
	}
	picked := l.selection.Pick(links)
	try := c.memory(picked) && permitted
	come := "or let it come: weir run waits for it"
	if !l.hotplug {
		come = "for weir run would not wait for it: interfaces.hotplug is false"
	}
	for _, p := range l.selection.Include {
		advice := "correct interfaces.include (--interface; weir interfaces lists all), " + come
		fitting, err := link.Selector{Include: []string{p}}.Select(links)
		if err != nil {
			c.add(stateWarning, "interfaces.include", advice, "%v", err)
		} else if len(fitting) == 0 {
			c.add(stateWarning, "interfaces.include", advice, "no interface fits %s now", p)
		}
	}
	for _, i := range links {
		what := "interface " + i.Name
		if slices.ContainsFunc(picked, func(p link.Link) bool { return p.Index == i.Index }) {
			c.captured(what, i, picked, try)
			continue
		}
		why, wanted := l.leftOut(i, picked)
		if wanted {
			_, command, _ := strings.Cut(why, "; ") // which has the name as a shell needs it
			c.add(stateWarning, what, "set it up: "+command, "left out as long as it is down, though interfaces.include picks it")
		} else {
			c.ok(what, "left out: %s", why)
		}
	}
	if len(picked) == 0 {
		c.add(stateError, "interfaces", "set one up (ip link set NAME up), or correct interfaces.include and interfaces.exclude", "nothing would be captured on")
	}
}

// leftOut says why the interface is not picked, and whether it would be if it were up.
func (l *liveConfig) leftOut(i link.Link, picked []link.Link) (why string, wanted bool) {
	fits := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool {
			fitting, err := link.Selector{Include: []string{p}}.Select([]link.Link{i})
			return err == nil && len(fitting) > 0
		})
	}
	include := l.selection.Include
	switch err := i.Capturable(); {
	case fits(l.selection.Exclude):
		return "interfaces.exclude says so", false
	case len(include) > 0 && !fits(include):
		return "interfaces.include does not pick it", false
	case err != nil:
		return err.Error(), len(include) > 0 && errors.Is(err, link.ErrDown)
	case i.Hardware == unix.ARPHRD_LOOPBACK:
		return "loopback, unless interfaces.include picks it", false
	}
	return passes(i, picked) + ", which is captured on", false
}

// passes names the interface among picked that the packets of i pass, too, "" if none.
func passes(i link.Link, picked []link.Link) string {
	for _, p := range picked {
		switch {
		case i.IsVLAN && i.Parent == p.Index:
			return fmt.Sprintf("VLAN %d of %s", i.VLAN, p.Name)
		case i.Master == p.Index:
			return "member of " + p.Name
		}
	}
	return ""
}

// captured looks at an interface that is picked. If try is set it opens a ring there.
func (c *check) captured(what string, i link.Link, picked []link.Link, try bool) {
	how := c.live.ringOf(i)
	text := fmt.Sprintf("%d of %s", how.Rings, how.Buffer)
	if how.Promiscuous {
		text += ", promiscuous"
	}
	if how.Timestamps == "hardware" {
		text += ", stamped by the hardware"
		if err := stampsAll(i.Name); err != nil {
			c.add(stateError, what, "set capture.timestamps to software, or timestamps for this interface in interfaces.special", "hardware timestamps: %v", err)
			return
		}
	}
	if parent := passes(i, picked); parent != "" {
		c.add(stateWarning, what, "name one of them in interfaces.exclude", "%s, which is captured on, too: packets are counted twice", parent)
	}
	if !try {
		c.ok(what, "would be captured on, rings: %s; not tried", text)
		return
	}
	r, err := how.afring()
	if err == nil {
		// Without what would change the interface for everybody.
		r.Promiscuous, r.Timestamps = false, socket.TimestampsSoftware
		var ring *afring.Ring
		if ring, err = afring.Open(i, r); err == nil {
			err = ring.Close()
		}
	}
	switch {
	case err == nil:
		c.ok(what, "can be captured on, rings: %s", text)
	case errors.Is(err, fs.ErrPermission):
		c.add(stateError, what, "run it in the host's user namespace; or "+privileges.Advice([]string{"CAP_NET_RAW"}, executable()), "%v", err)
	case errors.Is(err, unix.ENOMEM):
		c.add(stateError, what, "lower capture.buffer (--buffer) or capture.rings", "%v", err)
	default:
		c.add(stateError, what, "if it cannot be mended, name it in interfaces.exclude", "%v", err)
	}
}

// stampsAll returns nil if the interface's hardware can stamp all that it receives.
func stampsAll(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	info, err := unix.IoctlGetEthtoolTsInfo(fd, name)
	if err != nil {
		return os.NewSyscallError("ioctl ETHTOOL_GET_TS_INFO", err)
	}
	if info.So_timestamping&unix.SOF_TIMESTAMPING_RX_HARDWARE == 0 || info.Rx_filters&(1<<unix.HWTSTAMP_FILTER_ALL) == 0 {
		return errors.New("the driver cannot stamp all packets")
	}
	return nil
}

// flowSize is what a flow takes in a table, in octets: config.example.yaml has the same.
const flowSize = 200

// memory reports whether there is enough of it for the rings. Theirs is the kernel's and
// counts against no cgroup (alloc_pg_vec in net/packet/af_packet.c); a table is the
// program's, and reaches its size only under a flood.
func (c *check) memory(picked []link.Link) bool {
	const what = "memory"
	rings, tables := uint64(0), uint64(0)
	for _, i := range picked {
		r := c.live.ringOf(i)
		buffer, err := parseSize(r.Buffer)
		if err != nil {
			return false // live has said so
		}
		rings += buffer * uint64(r.Rings)
		tables += uint64(c.live.maxFlows) * flowSize * uint64(r.Rings)
	}
	available, limit := availableMemory(), cgroupMemory()
	switch most := min(available, limit); {
	case rings > available:
		c.add(stateError, what, "lower capture.buffer (--buffer) or capture.rings, or capture on fewer interfaces", "the rings take %s, available are %s", limitText(rings), limitText(available))
		return false
	case rings > addressSpace():
		c.add(stateError, what, "lower capture.buffer (--buffer), or raise the limit: ulimit -v unlimited", "the rings take %s, RLIMIT_AS allows %s", limitText(rings), limitText(addressSpace()))
		return false
	case rings > available/2:
		c.add(stateWarning, what, "lower capture.buffer (--buffer) or capture.rings", "the rings take %s of the %s that are available", limitText(rings), limitText(available))
	case uint64(c.live.maxFlows)*flowSize > most:
		c.add(stateWarning, what, "lower flows.max (--max-flows), or give it more memory", "a full table of %d flows takes %s, there are %s",
			c.live.maxFlows, limitText(uint64(c.live.maxFlows)*flowSize), limitText(most))
	}
	c.ok(what, "rings take %s; tables up to %s if each has %d flows (flows.max); there are %s, limit of the cgroup %s",
		limitText(rings), limitText(tables), c.live.maxFlows, limitText(available), limitText(limit))
	return true
}

// limitText shows a limit; the largest number stands for none.
func limitText(n uint64) string {
	if n == math.MaxUint64 {
		return "none"
	}
	return string(table.AppendBytes(nil, n))
}

// availableMemory is what the kernel would give without swapping, the largest number if
// it does not say.
func availableMemory() uint64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return math.MaxUint64
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kib uint64
		if n, _ := fmt.Sscanf(lines.Text(), "MemAvailable: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return math.MaxUint64
}

// cgroupMemory is the least limit of the cgroups that this process is in, of version 2 or
// 1 (cgroups(7)), the largest number if there is none.
func cgroupMemory() uint64 {
	least := uint64(math.MaxUint64)
	text, _ := os.ReadFile("/proc/self/cgroup") // none, no limit
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		root, file := "/sys/fs/cgroup", "memory.max"
		if slices.Contains(strings.Split(parts[1], ","), "memory") {
			root, file = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
		} else if parts[1] != "" {
			continue
		}
		for dir := filepath.Clean(parts[2]); ; dir = filepath.Dir(dir) {
			if text, err := os.ReadFile(filepath.Join(root, dir, file)); err == nil {
				if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil && n < 1<<62 { // or "max"
					least = min(least, n)
				}
			}
			if dir == "/" || dir == "." {
				break
			}
		}
	}
	return least
}

func addressSpace() uint64 {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_AS, &r); err != nil {
		return math.MaxUint64
	}
	return r.Cur // RLIM_INFINITY is the largest number
}

// checkTimeout bounds all that is asked of ClickHouse.
const checkTimeout = 20 * time.Second

// output looks at where the flows go.
func (c *check) output(ctx context.Context) {
	const what = "ClickHouse"
	if c.live.output != "clickhouse" {
		c.ok("output", "%s", c.live.output)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	o, err := c.cfg.clickhouse()
	if err != nil {
		advice := "correct clickhouse.addr (--clickhouse HOST:PORT), or start a local server: weir-clickhouse serve"
		if len(c.cfg.addr()) > 0 && errors.As(err, new(*fs.PathError)) {
			advice = "name a file that this user can read: clickhouse.password_file (--password-file)"
		}
		c.add(stateError, what, advice, "%v", err)
		return
	}
	o.DialTimeout = 3 * time.Second
	r, err := clickhouse.NewReader(ctx, o, clickhouse.Limits{Time: 5 * time.Second})
	if err != nil {
		c.failed(what, err)
		return
	}
	defer r.Close()
	if c.server(ctx, what, o, r) {
		rights, err := rightsOf(ctx, r)
		c.schema(ctx, o, rights)
		for _, name := range []string{"flows", "ledger"} {
			what, on := "ClickHouse "+name, "INSERT ON "+backquoted(o.Database)+"."+name
			switch {
			case err != nil:
				c.failed(what, err)
			case rights.has(o.Database, name, "INSERT"):
				c.ok(what, "rows may be inserted")
			case rights.roles():
				c.add(stateWarning, what, "ask the server: CHECK GRANT "+on, "whether rows may be inserted is not known: it is up to the user's roles")
			default:
				c.add(stateError, what, fmt.Sprintf("GRANT %s TO %s; or name another user: clickhouse.user (--user)", on, cmp.Or(o.User, "default")), "rows may not be inserted")
			}
		}
	}
}

// failed adds a statement that failed.
func (c *check) failed(what string, err error) {
	advice, e := "see whether weir query works, and what the server logs", new(clickhouse.Error)
	if errors.As(err, &e) {
		bare := *e
		bare.Hint = ""
		err = &bare
		const codeAuthentication = 516 // ErrorCodes.cpp
		switch {
		case e.Code == codeAuthentication:
			advice = "correct clickhouse.user (--user) or clickhouse.password_file (--password-file)"
		case e.Code == 0:
			advice = strings.TrimPrefix(e.Hint+"; or correct clickhouse.addr (--clickhouse HOST:PORT)", "; or ")
		case e.Hint != "":
			advice = e.Hint
		}
	}
	c.add(stateError, what, advice, "%v", err)
}

// server looks at what answers there, and whether the user may write at all.
func (c *check) server(ctx context.Context, what string, o clickhouse.Options, r *clickhouse.Reader) bool {
	// The Reader sends this limit unless the user's profile says readonly = 1, under which
	// nothing can be set; it never raises readonly above 1.
	const limit = 4321
	var version string
	var clock int64
	var readonly, rows uint64
	began := time.Now()
	err := r.Query(ctx, "SELECT version(), toInt64(toUnixTimestamp64Milli(now64(3))), toUInt64(getSetting('readonly')), toUInt64(getSetting('max_result_rows'))",
		nil, limit, func(row clickhouse.Rows) error { return row.Scan(&version, &clock, &readonly, &rows) }, nil)
	if err != nil {
		c.failed(what, err)
		return false
	}
	c.ok(what, "version %s answers as %s", version, o)
	c.serverClock(time.UnixMilli(clock).Sub(began.Add(time.Since(began) / 2))) // it looked about half-way
	if readonly > 1 || rows != limit {
		c.add(stateError, "ClickHouse rights", "name a user that may write: clickhouse.user (--user)", "the user's profile says readonly")
	}
	return true
}

// serverClock takes how much the server's clock is ahead of this host's.
func (c *check) serverClock(ahead time.Duration) {
	if ahead.Abs() > 5*time.Second {
		c.add(stateWarning, "ClickHouse clock", "set both clocks, such as with: timedatectl set-ntp true", "differs from this host's by %v", ahead.Round(time.Second))
	}
}

// schema looks at the tables.
func (c *check) schema(ctx context.Context, o clickhouse.Options, rights grants) {
	const what = "ClickHouse tables"
	err := clickhouse.Check(ctx, o)
	e := new(clickhouse.SchemaError)
	switch {
	case err == nil:
		c.ok(what, "database %s has schema version %d", o.Database, clickhouse.Version)
		return
	case !errors.As(err, &e):
		c.failed(what, err)
		return
	case len(e.Differences) > 0:
		var texts []string
		for _, d := range e.Differences {
			texts = append(texts, fmt.Sprintf("%s, %s: have %s, want %s", d.Table, d.What, d.Have, d.Want))
		}
		c.add(stateError, what, "name another database (clickhouse.database), or rename the tables that differ and run: weir schema --apply", "%s", strings.Join(texts, "; "))
		return
	}
	missing := strings.Join(e.Missing, ", ")
	if len(c.cfg.addr()) > 0 && !c.live.applySchema {
		c.add(stateError, what, "run: weir schema --apply; or set clickhouse.apply_schema", "database %s lacks %s", o.Database, missing)
	} else if create := "CREATE DATABASE, CREATE TABLE, CREATE VIEW"; !rights.roles() && !rights.has(o.Database, "*", strings.Split(create, ", ")...) {
		c.add(stateError, what, fmt.Sprintf("GRANT %s ON %s.* TO %s, or run as another user: weir schema --apply", create, backquoted(o.Database), cmp.Or(o.User, "default")),
			"database %s lacks %s, which the user may not make", o.Database, missing)
	} else {
		c.ok(what, "weir run makes what is missing: %s", missing)
	}
}

// backquoted is for names that Options.Validate has let pass: there are no quotes in them.
func backquoted(database string) string { return "`" + database + "`" }

// grants is the server's answer to SHOW GRANTS. CHECK GRANT is no help: a Reader asks
// under readonly, under which nobody may insert.
type grants []string

func rightsOf(ctx context.Context, r *clickhouse.Reader) (g grants, err error) {
	for _, sql := range []string{"SHOW GRANTS FINAL", "SHOW GRANTS"} { // the first knows what is in roles, but not every server knows it
		g = nil
		err = r.Query(ctx, sql, nil, 10000, func(row clickhouse.Rows) error {
			var line string
			err := row.Scan(&line)
			g = append(g, line)
			return err
		}, nil)
		if err == nil {
			break
		}
	}
	return g, err
}

// grantLine has GRANT or REVOKE, the rights, and on what.
var grantLine = regexp.MustCompile(`^(GRANT|REVOKE) (.+) ON (\S+) (?:TO|FROM) `)

// has reports whether all of the rights are given on a table, or on all tables of the
// database if it is "*". The lines go from the general to the special.
func (g grants) has(database, name string, rights ...string) bool {
	covers := func(pattern, name string) bool {
		pattern = strings.ReplaceAll(pattern, "`", "")
		prefix, all := strings.CutSuffix(pattern, "*")
		return pattern == name || all && strings.HasPrefix(name, prefix)
	}
	for _, right := range rights {
		group, _, _ := strings.Cut(right, " ") // CREATE is all of CREATE TABLE, CREATE VIEW, ...
		has := false
		for _, line := range g {
			m := grantLine.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			on, table, _ := strings.Cut(m[3], ".")
			list := strings.Split(m[2], ", ") // a right on some columns, INSERT(a, b), is none of those
			if covers(on, database) && covers(table, name) && slices.ContainsFunc(list, func(s string) bool { return s == right || s == group || s == "ALL" }) {
				has = m[1] == "GRANT"
			}
		}
		if !has {
			return false
		}
	}
	return true
}

// roles reports whether the user has roles whose rights are not among the lines.
func (g grants) roles() bool {
	return slices.ContainsFunc(g, func(line string) bool { return strings.HasPrefix(line, "GRANT ") && !strings.Contains(line, " ON ") })
}

// write writes the findings.
func (c *check) write(q *query) error {
	if q.output == "json" {
		columns := []answerColumn{{name: "state"}, {name: "what"}, {name: "detail"}, {name: "advice"}}
		var rows [][]cell
		for _, f := range c.found {
			rows = append(rows, []cell{{raw: f.state}, {raw: f.what}, {raw: f.detail}, {raw: f.advice}})
		}
		return q.write(columns, rows)
	}
	escape := func(s string) string { return exporter.Escape(s, q.screen.ASCII) }
	width := 0
	for _, f := range c.found {
		width = max(width, utf8.RuneCountInString(escape(f.what)))
	}
	var b strings.Builder
	for _, f := range c.found {
		fmt.Fprintf(&b, "%-7s  %-*s  %s\n", f.state, width, escape(f.what), escape(f.detail)) // not cut: it is what is to be read
		if f.state != stateOK {
			fmt.Fprintf(&b, "         -> %s\n", escape(f.advice))
		}
	}
	errs, warnings := c.count(stateError), c.count(stateWarning)
	verdict := "weir run can do its work here"
	if errs > 0 {
		verdict = "weir run cannot do its work here"
	}
	fmt.Fprintf(&b, "\n%s: errors %d, warnings %d\n", verdict, errs, warnings)
	return writeAll(q.out, []byte(b.String()))
}

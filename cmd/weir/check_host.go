package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"weir/privileges"
)

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

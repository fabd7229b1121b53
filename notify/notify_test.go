package notify

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// manager is the socket that a service manager listens on.
type manager struct {
	t      testing.TB
	socket *net.UnixConn
}

// listen makes NOTIFY_SOCKET name a socket of the test's.
func listen(t testing.TB, address string) manager {
	t.Helper()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	t.Setenv("NOTIFY_SOCKET", address)
	for _, name := range []string{"WATCHDOG_USEC", "WATCHDOG_PID"} {
		t.Setenv(name, "") // to be restored
		os.Unsetenv(name)
	}
	return manager{t, socket}
}

// received returns the messages that have come and were not yet asked for. A datagram
// to a unix socket is there when sending it has returned.
func (m manager) received() (messages []string) {
	m.t.Helper()
	raw, err := m.socket.SyscallConn()
	if err != nil {
		m.t.Fatal(err)
	}
	b := make([]byte, 4096)
	err = raw.Control(func(fd uintptr) {
		for {
			n, _, err := unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT)
			if err != nil {
				if err != unix.EAGAIN {
					m.t.Error(err)
				}
				return
			}
			messages = append(messages, string(b[:n]))
		}
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return messages
}

func (m manager) want(messages ...string) {
	m.t.Helper()
	if got := m.received(); !slices.Equal(got, messages) {
		m.t.Fatalf("received %q, want %q", got, messages)
	}
}

// addresses are one in the file system, and one that is not ("abstract", unix(7)).
func addresses(t *testing.T) map[string]string {
	return map[string]string{
		"path":     filepath.Join(t.TempDir(), "notify"),
		"abstract": "@weir-notify-test-" + strconv.Itoa(os.Getpid()),
	}
}

func TestMessages(t *testing.T) {
	for name, address := range addresses(t) {
		t.Run(name, func(t *testing.T) {
			m := listen(t, address)
			for _, c := range []struct {
				send func() error
				want string
			}{
				{Ready, "READY=1"},
				{Stopping, "STOPPING=1"},
				{func() error { return Status("2 interfaces, 1 grün") }, "STATUS=2 interfaces, 1 grün"},
				{func() error { return Status("eth0\nREADY=1\x00\x1b[1m\xff") }, "STATUS=eth0 READY=1  [1m\ufffd"},
				{func() error { return Status("") }, "STATUS="},
			} {
				if err := c.send(); err != nil {
					t.Fatal(err)
				}
				m.want(c.want)
			}
		})
	}
}

func monotonic(t *testing.T) int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return now.Nano() / 1000
}

func TestReloading(t *testing.T) {
	m := listen(t, filepath.Join(t.TempDir(), "notify"))
	before := monotonic(t)
	if err := Reloading(); err != nil {
		t.Fatal(err)
	}
	after := monotonic(t)
	got := m.received()
	if len(got) != 1 {
		t.Fatalf("received %q", got)
	}
	number, ok := strings.CutPrefix(strings.TrimSuffix(got[0], "\n"), "RELOADING=1\nMONOTONIC_USEC=")
	at, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil || at < before || at > after {
		t.Fatalf("received %q between %d and %d", got[0], before, after)
	}
}

// TestNobodyAsks holds that nothing is done, not even with the socket of an earlier
// message.
func TestNobodyAsks(t *testing.T) {
	m := listen(t, filepath.Join(t.TempDir(), "notify"))
	t.Setenv("WATCHDOG_USEC", "2000000")
	calls := []func() error{Ready, Reloading, Stopping, func() error { return Status("x") }, func() error {
		return Watchdog(t.Context(), func() bool {
			t.Error("asked whether it is alive")
			return true
		})
	}}
	unset := map[string]func(){
		"empty": func() { os.Setenv("NOTIFY_SOCKET", "") },
		"unset": func() { os.Unsetenv("NOTIFY_SOCKET") },
	}
	for name, unset := range unset {
		unset()
		for i, call := range calls {
			if err := call(); err != nil {
				t.Errorf("%s: call %d: %v", name, i, err)
			}
		}
	}
	m.want()
}

func TestManagerGone(t *testing.T) {
	listen(t, filepath.Join(t.TempDir(), "notify")).socket.Close()
	t.Setenv("WATCHDOG_USEC", "2000000")
	watchdog := func() error { return Watchdog(t.Context(), func() bool { return true }) }
	for what, call := range map[string]func() error{"ready": Ready, "reloading": Reloading, "stopping": Stopping, "watchdog": watchdog} {
		if err := call(); !errors.Is(err, unix.ECONNREFUSED) || !strings.Contains(err.Error(), ": "+what+": ") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestWatchdog(t *testing.T) {
	for name, address := range addresses(t) {
		t.Run(name, func(t *testing.T) {
			m := listen(t, address)
			const limit = 30 * time.Second
			t.Setenv("WATCHDOG_USEC", strconv.FormatInt(limit.Microseconds(), 10))
			t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				var alive atomic.Bool
				var asked atomic.Int32
				done := make(chan error, 1)
				alive.Store(true)
				go func() {
					done <- Watchdog(ctx, func() bool {
						asked.Add(1)
						return alive.Load()
					})
				}()
				const message = "WATCHDOG=1"
				synctest.Wait()
				m.want(message) // at once
				time.Sleep(limit/2 - time.Nanosecond)
				synctest.Wait()
				m.want()
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				m.want(message)
				time.Sleep(limit)
				synctest.Wait()
				m.want(message, message)
				alive.Store(false)
				time.Sleep(2 * limit)
				synctest.Wait()
				m.want()
				if n := asked.Load(); n != 8 {
					t.Errorf("asked %d times whether it is alive", n)
				}
				alive.Store(true)
				time.Sleep(limit / 2)
				synctest.Wait()
				m.want(message)
				cancel()
				synctest.Wait()
				select {
				case err := <-done:
					if err != nil {
						t.Error(err)
					}
				default:
					t.Error("it has not ended with its context")
				}
				m.want()
			})
		})
	}
}

// TestNotWatched holds that Watchdog returns without a word unless the manager watches
// this process.
func TestNotWatched(t *testing.T) {
	for name, c := range map[string]struct{ usec, pid, err string }{
		"no watchdog":     {"", "", ""},
		"another process": {"2000000", strconv.Itoa(os.Getppid()), ""},
		"no number":       {"2s", "", "WATCHDOG_USEC"},
		"zero":            {"0", "", "WATCHDOG_USEC"},
		"negative":        {"-1", "", "WATCHDOG_USEC"},
		"too short":       {"1", "", "WATCHDOG_USEC"},
		"overflows":       {"9223372036854775807", "", "WATCHDOG_USEC"},
		"no process":      {"2000000", "self", "WATCHDOG_PID"},
	} {
		t.Run(name, func(t *testing.T) {
			m := listen(t, filepath.Join(t.TempDir(), "notify"))
			t.Setenv("WATCHDOG_USEC", c.usec)
			t.Setenv("WATCHDOG_PID", c.pid)
			err := Watchdog(t.Context(), func() bool {
				t.Error("asked whether it is alive")
				return true
			})
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("%v, want %q", err, c.err)
			}
			m.want()
		})
	}
}

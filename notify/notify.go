// Package notify tells the service manager how the process is: sd_notify(3).
//
// Everything here does nothing where the manager does not ask for it, that is if
// NOTIFY_SOCKET is unset or empty. An error says that it asks and was not told. All
// functions may be called from any goroutine.
package notify

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Ready says that the process has started, or has reloaded its configuration.
func Ready() error { return send("ready", daemon.SdNotifyReady) }

// Reloading says that the process begins to reload its configuration. Ready has to
// follow, also if the old one is kept. With the time of the monotonic clock, it is what
// Type=notify-reload takes (systemd.service(5)).
func Reloading() error {
	return send("reloading", daemon.SdNotifyReloading+"\n"+daemon.SdNotifyMonotonicUsec())
}

// Stopping says that the process begins to end.
func Stopping() error { return send("stopping", daemon.SdNotifyStopping) }

// Status says in a line for people what the process does. What is not a line becomes
// one: after a line feed another message would begin.
func Status(s string) error {
	return send("status", "STATUS="+strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))) // systemd refuses what is not UTF-8
}

// Watchdog tells the manager that the process is alive, at once and then at half of
// the time after which it would be ended otherwise (WatchdogSec= in systemd.service(5)),
// whenever alive returns true. While that returns false nothing is said, until the
// manager ends the process.
//
// It calls alive from the calling goroutine. It returns nil when ctx is done, and at
// once if the manager does not watch the process; an error if it cannot be told, or if
// what it asks for is not understood.
func Watchdog(ctx context.Context, alive func() bool) error {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return nil
	}
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	if limit == 0 {
		return nil
	}
	if limit < time.Millisecond { // or so long that it has overflowed
		return fmt.Errorf("watchdog: WATCHDOG_USEC=%s makes no sense", os.Getenv("WATCHDOG_USEC"))
	}
	tick := time.NewTicker(limit / 2)
	defer tick.Stop()
	for ctx.Err() == nil {
		if alive() {
			if err := send("watchdog", daemon.SdNotifyWatchdog); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return nil
}

func send(what, state string) error {
	// The environment is left as it is: each message has to find the socket.
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("notify the service manager: %s: %w", what, err)
	}
	return nil
}

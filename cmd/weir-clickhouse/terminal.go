//go:build linux && amd64

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// giveTerminal makes standard input a terminal that nobody types on, which the
// engine's flag --interactive demands.
//
// Interactive is what the engine must be to survive its clients. Otherwise it ends
// the process on any exception in a connection: a wrong password or a port scan
// would do. (LocalServer.cpp installs KillingErrorHandler; ClickHouse issue 115666,
// mended upstream after this version.) It then still runs its queries first, and
// when they have ended it fails to open a prompt, because there is no HOME for the
// prompt's history, and returns.
//
// The terminal never becomes the controlling one, so that nothing comes of it being
// closed but the end of the input.
func giveTerminal() error {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a pseudo terminal: /dev/ptmx: %w: a devpts file system must be mounted", err)
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("unlock the pseudo terminal: %w", err)
	}
	// By its master rather than by its name, which another user may not open.
	slave, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if e != 0 {
		return fmt.Errorf("open the pseudo terminal: %w (it needs Linux 4.13)", e)
	}
	if err := unix.Dup2(int(slave), 0); err != nil {
		return fmt.Errorf("make the pseudo terminal standard input: %w", err)
	}
	return unix.Close(int(slave)) // the master stays open: without it there is no terminal
}

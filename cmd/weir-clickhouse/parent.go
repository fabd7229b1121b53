//go:build linux && amd64

package main

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

var errParentEnded = errors.New("the process that this server belongs to has ended")

// openParent returns a pidfd of the process to end with, close-on-exec.
//
// PR_SET_PDEATHSIG would not do: it fires when the *thread* that started the child
// ends (prctl(2)), which in a Go parent may happen at any time.
func openParent(pid int) (int, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return -1, fmt.Errorf("--parent-pid %d: %w", pid, errParentEnded)
	}
	if err != nil {
		return -1, fmt.Errorf("--parent-pid %d: %w (it needs Linux 5.3)", pid, err)
	}
	return fd, nil
}

// waitParent returns when the process behind the pidfd has ended.
func waitParent(fd int) {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if n > 0 || (err != nil && err != unix.EINTR) {
			return
		}
	}
}

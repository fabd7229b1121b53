package local

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// TryLock takes the lock on a data folder's LockFile, which lasts until f and
// every descriptor inherited from it are closed, thus across execve. It reports
// false if another process has it.
//
// It is an open file description lock (fcntl(2)), since those can be asked for
// without being taken, so that looking for a server never keeps one from starting.
func TryLock(f *os.File) (bool, error) {
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if err == unix.EAGAIN || err == unix.EACCES {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return true, nil
}

func isLocked(f *os.File) (bool, error) {
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l); err != nil {
		return false, fmt.Errorf("test the lock on %s: %w", f.Name(), err)
	}
	return l.Type != unix.F_UNLCK, nil
}

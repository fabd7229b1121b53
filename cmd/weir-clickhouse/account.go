//go:build linux && amd64

package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// account is the user that the server runs as.
type account struct {
	name     string
	uid, gid int
}

// chooseAccount returns whom to serve as. Root never serves: it becomes the named
// user, or "weir" if there is one, or "nobody".
func chooseAccount(name string) (account, error) {
	if uid := os.Geteuid(); uid != 0 {
		if name != "" {
			if a, err := lookupAccount(name); err != nil || a.uid != uid {
				return account{}, fmt.Errorf("--user %s: only root can serve as another user", name)
			}
		}
		return account{name: strconv.Itoa(uid), uid: uid, gid: os.Getegid()}, nil
	}
	if name != "" {
		a, err := lookupAccount(name)
		if err == nil && a.uid == 0 {
			err = errors.New("the server does not run as root: name another user")
		}
		if err != nil {
			return account{}, fmt.Errorf("--user %s: %w", name, err)
		}
		return a, nil
	}
	for _, name := range []string{"weir", "nobody"} {
		if a, err := lookupAccount(name); err == nil && a.uid != 0 {
			return a, nil
		}
	}
	return account{name: "65534", uid: 65534, gid: 65534}, nil // nobody by convention, in an image without /etc/passwd
}

func lookupAccount(name string) (account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return account{}, err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return account{}, err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return account{}, err
	}
	return account{name: name, uid: uid, gid: gid}, nil
}

// become replaces this program by itself, in the same process, as a and without
// any privilege. It returns only on failure, after which the process is good for
// nothing but its end.
//
// Credentials belong to the thread (credentials(7)): they are changed in this one
// by plain system calls, and execve from it, which ends all others, makes them
// those of the process.
func (a account) become(env []string) error {
	runtime.LockOSThread()
	if err := a.drop(); err != nil {
		return fmt.Errorf("become user %s: %w: start it as an unprivileged user instead", a.name, err)
	}
	// By way of /proc, a binary under a folder that only root may enter works too.
	if err := syscall.Exec("/proc/self/exe", os.Args, env); err != nil {
		return fmt.Errorf("run %s as user %s: %w: that user must be allowed to execute it (chmod o+rx)", os.Args[0], a.name, err)
	}
	return nil
}

func (a account) drop() error {
	if os.Geteuid() == 0 {
		if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); e != 0 {
			return fmt.Errorf("setgroups: %w", e)
		}
		gid, uid := uintptr(a.gid), uintptr(a.uid)
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); e != 0 {
			return fmt.Errorf("setresgid %d: %w", a.gid, e)
		}
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); e != 0 {
			return fmt.Errorf("setresuid %d: %w", a.uid, e)
		}
	}
	// What an unprivileged starter may have, from a service manager for example.
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	return nil
}

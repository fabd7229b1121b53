package privileges

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/user"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Drop gives up everything but what keep names, for good and on all threads.
//
// A process that was started as root becomes the user, a name or else a number, with
// the user's group and no other; a number that no user has is also its group. Empty is
// [DefaultUser]. A process that is not root stays who it is.
//
// Of its capabilities the process has those of keep afterwards, permitted and
// effective, as far as it had them: ask [Missing] before. No others can be had: none
// is inheritable or ambient, the bounding set is empty if the process was allowed to
// change it (CAP_SETPCAP), and no_new_privs is set. So the programs that it starts
// have none at all.
//
// Files and sockets that are open stay open. System calls that other threads wait in
// may end with EINTR. Threads that have privileges of their own end the program: see
// [syscall.AllThreadsSyscall].
//
// The error names what failed. It wraps [errors.ErrUnsupported], with nothing changed,
// in a binary with cgo, and is of nothing changed also if the user is not to be had.
// After any other the process is half way, and should end.
func Drop(userName string, keep Need) error {
	if err := drop(userName, keep); err != nil {
		return fmt.Errorf("drop privileges: %w", err)
	}
	return nil
}

func drop(userName string, keep Need) error {
	real, now, saved := unix.Getresuid()
	root := real == 0 || now == 0 || saved == 0
	var uid, gid int
	if root {
		var err error
		if uid, gid, err = IDs(userName); err != nil {
			return err
		}
	}
	had, err := current()
	if err != nil {
		return err
	}
	// This comes first: it needs no privilege, so what fails is that there is cgo.
	err = prctl("PR_SET_NO_NEW_PRIVS", unix.PR_SET_NO_NEW_PRIVS, 1)
	if errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("in a binary with cgo Go cannot change all threads, build it with CGO_ENABLED=0: %w", err)
	} else if err != nil {
		return err
	}
	if effective(&had, unix.CAP_SETPCAP) {
		if err := emptyBoundingSet(); err != nil {
			return err
		}
	}
	if root {
		if err := become(uid, gid); err != nil {
			return err
		}
	}
	var sets capabilitySets
	for _, c := range keep.capabilities() {
		word, bit := &sets[c.number/32], uint32(1)<<(c.number%32)
		word.Permitted |= had[c.number/32].Permitted & bit
		word.Effective = word.Permitted
	}
	return setAll(&sets)
}

// emptyBoundingSet takes away what an executable with file capabilities could give.
func emptyBoundingSet() error {
	for c := 0; ; c++ {
		there, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		switch {
		case errors.Is(err, unix.EINVAL):
			return nil // the kernel knows no more
		case err != nil:
			return os.NewSyscallError("prctl PR_CAPBSET_READ", err)
		case there == 0:
			continue
		}
		if err := prctl("PR_CAPBSET_DROP", unix.PR_CAPBSET_DROP, uintptr(c)); err != nil {
			return err
		}
	}
}

// become changes the user. The permitted capabilities stay, for setAll to choose from:
// without PR_SET_KEEPCAPS they would go with user 0 (capabilities(7), "Effect of user
// ID changes on capabilities").
func become(uid, gid int) error {
	if err := prctl("PR_SET_KEEPCAPS", unix.PR_SET_KEEPCAPS, 1); err != nil {
		return err
	}
	// The groups come first: afterwards they take a capability that is not in effect
	// any more. Those of package syscall are of all threads, those of unix are not.
	if err := syscall.Setgroups(nil); err != nil {
		return os.NewSyscallError("setgroups", err)
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return os.NewSyscallError("setresgid", err)
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return os.NewSyscallError("setresuid", err)
	}
	return prctl("PR_SET_KEEPCAPS", unix.PR_SET_KEEPCAPS, 0)
}

// setAll sets the capabilities of all threads. What is not inheritable is not ambient
// either (cap_capset in security/commoncap.c).
func setAll(sets *capabilitySets) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3} // of process 0: the calling thread
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(sets)), 0)
	if errno != 0 {
		return os.NewSyscallError("capset", errno)
	}
	return nil
}

// prctl calls prctl(2) on all threads.
func prctl(name string, option, argument uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, option, argument, 0); errno != 0 {
		return os.NewSyscallError("prctl "+name, errno)
	}
	return nil
}

// IDs returns the numbers of an unprivileged user and of its group: those that [Drop]
// changes to.
func IDs(name string) (uid, gid int, err error) {
	if name == "" {
		name = DefaultUser()
	}
	fail := func(err error) (int, int, error) { return 0, 0, fmt.Errorf("user %q: %w", name, err) }
	u, err := user.Lookup(name)
	if err != nil {
		number, notNumber := strconv.ParseUint(name, 10, 32)
		if notNumber != nil {
			return fail(err)
		}
		id := strconv.FormatUint(number, 10)
		u, err = user.LookupId(id)
		var unknown user.UnknownUserIdError
		if errors.As(err, &unknown) || errors.Is(err, fs.ErrNotExist) { // in a container there may be no list of users
			u = &user.User{Uid: id, Gid: id}
		} else if err != nil {
			return fail(err)
		}
	}
	// A setresuid(2) of -1 leaves the user as it is.
	number := func(s string) (int, error) {
		n, err := strconv.ParseUint(s, 10, 32)
		if err == nil && n == math.MaxUint32 {
			err = fmt.Errorf("%s is no number of a user or group", s)
		}
		return int(n), err
	}
	if uid, err = number(u.Uid); err != nil {
		return fail(err)
	}
	if gid, err = number(u.Gid); err != nil {
		return fail(err)
	}
	if uid == 0 {
		return fail(errors.New("is root"))
	}
	return uid, gid, nil
}

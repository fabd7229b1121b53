// Package privileges gives up what a process does not need to capture packets, and
// says what it lacks for that: capabilities(7), user and groups.
package privileges

import (
	"fmt"
	"os"
	"os/user"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Need says what a process needs to be allowed. The zero value is nothing.
type Need struct {
	Raw   bool // CAP_NET_RAW: packet sockets
	Admin bool // CAP_NET_ADMIN: stamps of the hardware, busy polling, buffers beyond net.core.rmem_max
}

// capability has its number and its name of linux/capability.h.
type capability struct {
	number int
	name   string
}

func (n Need) capabilities() (c []capability) {
	if n.Raw {
		c = append(c, capability{unix.CAP_NET_RAW, "CAP_NET_RAW"})
	}
	if n.Admin {
		c = append(c, capability{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"})
	}
	return c
}

// capabilitySets holds the sets of a thread: of capabilities 0 to 31, and of 32 to 63.
type capabilitySets [2]unix.CapUserData

// current returns the sets of the calling thread.
func current() (sets capabilitySets, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	return sets, os.NewSyscallError("capget", unix.Capget(&header, &sets[0]))
}

func effective(sets *capabilitySets, number int) bool {
	return sets[number/32].Effective&(1<<(number%32)) != 0
}

// Missing returns the names of the capabilities of need that the process does not
// have in effect, such as CAP_NET_RAW. It returns nil if it has them all.
//
// They are those of the process's user namespace: in one that does not own the
// network namespace, they do not help.
func Missing(need Need) []string {
	sets, err := current()
	if err != nil {
		// capget fails on the arguments alone. Where something forbids even to
		// ask, nothing is in effect that is known of.
		sets = capabilitySets{}
	}
	var missing []string
	for _, c := range need.capabilities() {
		if !effective(&sets, c.number) {
			missing = append(missing, c.name)
		}
	}
	return missing
}

// Advice says what to do about missing capabilities, for the end of a sentence, with
// the command that gives them to the executable. It is empty if none is missing. The
// path is quoted as the shell needs it, and so that a terminal can show it.
func Advice(missing []string, executable string) string {
	if len(missing) == 0 {
		return ""
	}
	return "run it as root, or once: sudo setcap " + strings.ToLower(strings.Join(missing, ",")) + "+ep " + quoted(executable)
}

// quoted returns s as one word of a shell's. What is not printable ASCII is written as
// $'\033' (POSIX.1-2024, Shell Command Language, 2.2.4).
func quoted(s string) string {
	const harmless = "/._-+=@%:,"
	plain, printable := s != "", true
	for _, c := range []byte(s) {
		letter := c < utf8.RuneSelf && (unicode.IsLetter(rune(c)) || unicode.IsDigit(rune(c)))
		plain = plain && (letter || strings.IndexByte(harmless, c) >= 0)
		printable = printable && c >= ' ' && c <= '~'
	}
	switch {
	case plain:
		return s
	case printable:
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	var b strings.Builder
	b.WriteString("$'")
	for _, c := range []byte(s) {
		switch {
		case c == '\\' || c == '\'':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c >= ' ' && c <= '~':
			b.WriteByte(c)
		default:
			// Octal digits are three at most, whatever follows. Hexadecimal ones may
			// be more.
			fmt.Fprintf(&b, `\%03o`, c)
		}
	}
	b.WriteString("'")
	return b.String()
}

// DefaultUser returns the user to run as where none is named: weir if there is that
// user, or else nobody.
func DefaultUser() string {
	const own = "weir"
	if _, err := user.Lookup(own); err == nil {
		return own
	}
	return "nobody"
}

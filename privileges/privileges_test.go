package privileges

import (
	"os/exec"
	"os/user"
	"testing"
)

func TestAdvice(t *testing.T) {
	const root = "run it as root, or once: sudo setcap "
	for _, c := range []struct {
		missing    []string
		path, want string
	}{
		{nil, "/usr/bin/weir", ""},
		{[]string{"CAP_NET_RAW"}, "/usr/bin/weir", root + "cap_net_raw+ep /usr/bin/weir"},
		{[]string{"CAP_NET_RAW", "CAP_NET_ADMIN"}, "weir", root + "cap_net_raw,cap_net_admin+ep weir"},
		{[]string{"CAP_NET_ADMIN"}, "/home/a b/$HOME/it's", root + `cap_net_admin+ep '/home/a b/$HOME/it'\''s'`},
		{[]string{"CAP_NET_RAW"}, "/tmp/\x1b[1m1'ü\\\xff", root + `cap_net_raw+ep $'/tmp/\033[1m1\'\303\274\\\377'`},
		{[]string{"CAP_NET_RAW"}, "", root + "cap_net_raw+ep ''"},
	} {
		if got := Advice(c.missing, c.path); got != c.want {
			t.Errorf("%q: %s, want %s", c.path, got, c.want)
		}
	}
}

// TestQuoted has a shell read what was written for it.
func TestQuoted(t *testing.T) {
	var all []byte
	for c := 1; c < 256; c++ {
		all = append(all, byte(c))
	}
	for _, s := range []string{"weir", "", "a b", "'", "''", `\`, "$(id)", "`id`", "~", "-n", "a\nb", "\x017", "ü", "\xff", string(all)} {
		out, err := exec.Command("bash", "-c", "printf %s "+quoted(s)).CombinedOutput()
		if err != nil || string(out) != s {
			t.Errorf("%q: the shell reads %s as %q: %v", s, quoted(s), out, err)
		}
	}
}

func TestDefaultUser(t *testing.T) {
	want := "nobody"
	if _, err := user.Lookup("weir"); err == nil {
		want = "weir"
	}
	if got := DefaultUser(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

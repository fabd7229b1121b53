//go:build linux && amd64

package local_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"weir/exporter/clickhouse/local"
	"weir/exporter/clickhouse/local/localtest"
)

func TestPasswordFiles(t *testing.T) {
	s := localtest.Start(t)
	for name, password := range map[string]string{local.PasswordFile: s.Password, local.ReaderPasswordFile: s.ReaderPassword} {
		st, err := os.Stat(filepath.Join(s.DataDir, name))
		if err != nil {
			t.Fatal(err)
		}
		if mode := st.Mode(); mode != 0o600 {
			t.Errorf("%s: mode %v", name, mode)
		}
		if uid := int(st.Sys().(*syscall.Stat_t).Uid); uid != os.Geteuid() {
			t.Errorf("%s: owner %d", name, uid)
		}
		if len(password) < 32 {
			t.Errorf("%s: a password of %d characters", name, len(password))
		}
	}
	if s.Password == s.ReaderPassword {
		t.Error("both users have one password")
	}
}

// ClickHouse's error codes.
const (
	accessDenied         = 497
	authenticationFailed = 516
	readonly             = 164
	sessionLimit         = 700
)

func TestUsers(t *testing.T) {
	s := localtest.Start(t)
	weir := connect(t, s.Addr, s.User, s.Password)
	reader := connect(t, s.Addr, s.Reader, s.ReaderPassword)
	execute(t, weir,
		"CREATE DATABASE users", "CREATE TABLE users.t (n UInt64) ENGINE = MergeTree ORDER BY n",
		"CREATE TABLE users.sums (n UInt64, c UInt64) ENGINE = SummingMergeTree ORDER BY n",
		"CREATE MATERIALIZED VIEW users.v TO users.sums AS SELECT n % 10 AS n, count() AS c FROM users.t GROUP BY n",
		"INSERT INTO users.t SELECT number FROM numbers(100)",
	)
	if n := count(t, reader, "users.t"); n != 100 {
		t.Errorf("the reader sees %d rows", n)
	}
	if n := count(t, weir, "users.sums"); n != 10 {
		t.Errorf("the view made %d rows", n)
	}
	execute(t, reader, "SELECT 1 SETTINGS max_execution_time = 5")
	for _, query := range []string{
		"INSERT INTO users.t VALUES (1)", "DROP TABLE users.t", "CREATE TABLE users.u (n UInt8) ENGINE = Memory",
		"SYSTEM FLUSH LOGS", "SELECT * FROM file('/etc/passwd', LineAsString)", "SELECT * FROM url('http://127.0.0.1/', LineAsString)",
	} {
		if c := code(reader.Exec(t.Context(), query)); c != accessDenied && c != readonly {
			t.Errorf("reader: %s: code %d", query, c)
		}
	}
	for _, query := range []string{"SELECT * FROM file('/etc/passwd', LineAsString)", "SELECT * FROM url('http://127.0.0.1/', LineAsString)"} {
		if c := code(weir.Exec(t.Context(), query)); c != accessDenied {
			t.Errorf("weir: %s: code %d", query, c)
		}
	}
	for _, user := range []struct {
		name, password string
		code           int32
	}{
		{s.User, "", authenticationFailed},
		{s.User, s.ReaderPassword, authenticationFailed},
		{s.Reader, s.Password, authenticationFailed},
		{"nobody", "", authenticationFailed},
		{"default", "x", authenticationFailed},
		{"default", "", sessionLimit}, // the engine's own session is the only one
	} {
		err := connect(t, s.Addr, user.name, user.password).Exec(t.Context(), "SELECT 1")
		if c := code(err); c != user.code {
			t.Errorf("user %s with password %q: %v", user.name, user.password, err)
		}
	}
}

// TestDefaultOverHTTP: no way around the limit on the engine's own user.
func TestDefaultOverHTTP(t *testing.T) {
	s := localtest.Start(t)
	for _, parameters := range []string{"", "&session_id=a", "&max_sessions_for_user=0", "&profile=default&max_sessions_for_user=9", "&user=default"} {
		resp, err := http.Get("http://" + s.HTTPAddr + "/?query=SELECT+1" + parameters)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode == http.StatusOK || !strings.Contains(string(body), fmt.Sprintf("Code: %d", sessionLimit)) {
			t.Errorf("%q: %s %s %v", parameters, resp.Status, body, err)
		}
	}
}

func TestUnprivileged(t *testing.T) {
	s := localtest.Start(t)
	uid := strings.Fields(processStatus(t, s.PID, "Uid"))
	for _, id := range uid { // real, effective, saved, filesystem
		if id == "0" {
			t.Errorf("the server's user ids are %v", uid)
		}
	}
	if os.Geteuid() == 0 {
		if groups := processStatus(t, s.PID, "Groups"); groups != "" {
			t.Errorf("supplementary groups %s", groups)
		}
	}
	for field, want := range map[string]string{
		"NoNewPrivs": "1", "CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapInh": "0000000000000000", "CapAmb": "0000000000000000",
	} {
		if got := processStatus(t, s.PID, field); got != want {
			t.Errorf("%s is %s, want %s", field, got, want)
		}
	}
}

// TestHostileClients: nothing that a client sends ends the server. The engine by
// itself would not survive one of these.
func TestHostileClients(t *testing.T) {
	s := localtest.Start(t)
	for name, bytes := range map[string]string{
		"nothing": "", "HTTP": "GET / HTTP/1.0\r\n\r\n", "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"half a hello": "\x00\x04weir", "endless length": "\x00\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "zeros": strings.Repeat("\x00", 1000),
	} {
		for _, addr := range []string{s.Addr, s.HTTPAddr} {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatalf("after %s: %v", name, err)
			}
			if _, err := io.WriteString(conn, bytes); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			conn.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, conn) // until the server is done with it, which may reset it
			conn.Close()
		}
	}
	for range 20 {
		if c := code(connect(t, s.Addr, s.User, "wrong").Ping(t.Context())); c != authenticationFailed {
			t.Errorf("code %d", c)
		}
	}
	if err := connect(t, s.Addr, s.User, s.Password).Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

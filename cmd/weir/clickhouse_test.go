package main

import (
	"crypto/tls"
	"encoding/pem"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"weir/capture/capturetest"
	"weir/exporter/clickhouse"
)

// loaded returns a configuration of an empty file and these variables.
func loaded(t *testing.T, env map[string]string) *config {
	t.Helper()
	for key, value := range env {
		t.Setenv("WEIR_CLICKHOUSE_"+key, value)
	}
	c := &config{path: filepath.Join(t.TempDir(), "weir.yaml")}
	if err := os.WriteFile(c.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := new(cobra.Command)
	c.addFlags(cmd.Flags())
	if err := c.load(cmd); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClickHouseOptions(t *testing.T) {
	dir := t.TempDir()
	user, password := filepath.Join(dir, "user"), filepath.Join(dir, "password")
	for path, text := range map[string]string{user: "u ser\r\n", password: "pass word \n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o, err := loaded(t, map[string]string{
		"ADDR": "a:9440,b:9440", "USER": "x", "USER_FILE": user, "PASSWORD": "y", "PASSWORD_FILE": password, "DATABASE": "net",
		"COMPRESSION": "zstd", "TIMEOUT": "90s", "DIAL_TIMEOUT": "3s", "TLS": "true", "SERVER_NAME": "db.example",
	}).clickhouse()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(o.Addr, []string{"a:9440", "b:9440"}) || o.User != "u ser" || o.Password != "pass word " || o.Database != "net" ||
		o.Compression != "zstd" || o.Timeout != 90*time.Second || o.DialTimeout != 3*time.Second || o.TLS == nil {
		t.Errorf("%+v", o)
	}
	if c := o.TLS(); c.ServerName != "db.example" || c.MinVersion != tls.VersionTLS12 || c.InsecureSkipVerify {
		t.Errorf("%+v", c)
	}
}

func TestClickHouseOptionsThatDoNotFit(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	for _, c := range []struct {
		env   map[string]string
		wants []string
		code  int
	}{
		{map[string]string{"CA_FILE": "ca.pem"}, []string{"clickhouse.ca_file is set, but clickhouse.tls is not", "set clickhouse.tls to true (--tls)"}, exitUsage},
		{map[string]string{"CERT_FILE": "c.pem", "KEY_FILE": "k.pem"}, []string{"clickhouse.cert_file is set, but clickhouse.tls is not"}, exitUsage},
		{map[string]string{"KEY_FILE": "k.pem"}, []string{"clickhouse.key_file is set, but clickhouse.tls is not"}, exitUsage},
		{map[string]string{"SERVER_NAME": "db"}, []string{"clickhouse.server_name is set, but clickhouse.tls is not"}, exitUsage},
		{map[string]string{"TLS": "true", "CERT_FILE": "c.pem"}, []string{"clickhouse.key_file is not", "name the file"}, exitUsage},
		{map[string]string{"TLS": "true", "KEY_FILE": "k.pem"}, []string{"clickhouse.cert_file is not", "name the file"}, exitUsage},
		{map[string]string{"TLS": "yes"}, []string{"clickhouse.tls", "neither true nor false"}, exitUsage},
		{map[string]string{"TLS": "true", "ADDR": ""}, []string{"clickhouse.tls", "the local server has no TLS"}, exitUsage},
		{map[string]string{"TIMEOUT": "soon"}, []string{"clickhouse.timeout", "soon"}, exitUsage},
		{map[string]string{"DIAL_TIMEOUT": "-1s"}, []string{"clickhouse.dial_timeout"}, exitUsage},
		{map[string]string{"COMPRESSION": "gzip"}, []string{"gzip", "lz4, zstd or none"}, exitFailure},
		{map[string]string{"TLS": "true", "CA_FILE": nowhere}, []string{"clickhouse.tls: CA certificates", nowhere}, exitFailure},
		{map[string]string{"USER_FILE": nowhere}, []string{"read ClickHouse user", nowhere}, exitFailure},
		{map[string]string{"PASSWORD_FILE": nowhere}, []string{"read ClickHouse password", nowhere}, exitFailure},
	} {
		env := []string{"WEIR_CLICKHOUSE_ADDR=127.0.0.1:1"}
		for key, value := range c.env {
			env = append(env, "WEIR_CLICKHOUSE_"+key+"="+value)
		}
		r := weirEnv(t, env, nil, "schema", "--check")
		if r.code != c.code {
			t.Errorf("%v: exit status %d, want %d: %s", c.env, r.code, c.code, r.stderr)
		}
		for _, want := range c.wants {
			if !strings.Contains(r.stderr, want) {
				t.Errorf("%v: %q is not in %s", c.env, want, r.stderr)
			}
		}
	}
}

func TestInTheClear(t *testing.T) {
	for _, c := range []struct {
		addrs, want []string
	}{
		{[]string{"127.0.0.1:9000", "[::1]:9000", "localhost:9000", "127.8.8.8:1", "[::ffff:127.0.0.1]:9000"}, nil},
		{[]string{"127.0.0.1:9000", "192.0.2.1:9000"}, []string{"192.0.2.1:9000"}},
		{[]string{"db.example:9000", "[2001:db8::1]:9000"}, []string{"db.example:9000", "[2001:db8::1]:9000"}},
	} {
		o := clickhouse.Options{Addr: c.addrs}
		if got := bare(o); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.addrs, got, c.want)
		}
		o.TLS = func() *tls.Config { return nil }
		if got := bare(o); got != nil {
			t.Errorf("%v with TLS: %v", c.addrs, got)
		}
	}
}

// The flags of every command lead to a server that wants TLS.
func TestTLSFlags(t *testing.T) {
	flags, o := serverFlags(t, "tls_flags")
	if r := weir(t, nil, append([]string{"schema", "--apply"}, flags...)...); r.code != exitOK {
		t.Fatal(r.stderr)
	}
	certificate := httptest.NewTLSServer(nil)
	defer certificate.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certificate.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", o.Addr[0])
			if err != nil {
				client.Close()
				return
			}
			go func() { io.Copy(client, server); client.Close() }()
			go func() { io.Copy(server, client); server.Close() }()
		}
	}()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	flags[1] = l.Addr().String()
	for _, c := range []struct {
		flags []string
		code  int
		want  string
	}{
		{[]string{"--tls", "--ca-file", ca}, exitOK, ""},
		{[]string{"--tls"}, exitFailure, "certificate"},
		{[]string{"--ca-file", ca}, exitUsage, "set clickhouse.tls to true (--tls)"},
		{nil, exitFailure, "does it want TLS?"},
	} {
		if r := weir(t, nil, slices.Concat([]string{"schema", "--check"}, flags, c.flags)...); r.code != c.code || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%v: exit status %d: %s", c.flags, r.code, r.stderr)
		}
	}
	key := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(key, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c := runCheck(t, []string{"WEIR_OUTPUT=clickhouse"}, slices.Concat(flags, []string{"--tls", "--ca-file", ca})...)
	c.has(stateOK, "ClickHouse TLS", "secured", "")
	c.has(stateOK, "ClickHouse flows", "may be inserted", "")
	c = runCheck(t, []string{"WEIR_OUTPUT=clickhouse", "WEIR_CLICKHOUSE_CERT_FILE=" + ca, "WEIR_CLICKHOUSE_KEY_FILE=" + key},
		slices.Concat(flags, []string{"--tls", "--ca-file", ca})...)
	c.has(stateError, "ClickHouse", "client certificate", "correct clickhouse.tls")
	c = runCheck(t, []string{"WEIR_OUTPUT=clickhouse", "WEIR_CLICKHOUSE_DIAL_TIMEOUT=10ms"}, "--clickhouse", "192.0.2.1:9000")
	c.has(stateWarning, "ClickHouse TLS", "192.0.2.1:9000 in the clear", "clickhouse.tls")
}

// Who else may open the files of secrets.
func TestSecretsOfOthers(t *testing.T) {
	dir := t.TempDir()
	key, password := filepath.Join(dir, "key"), filepath.Join(dir, "password")
	for path, mode := range map[string]os.FileMode{key: 0o644, password: 0o640} {
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	c := check{cfg: loaded(t, map[string]string{"KEY_FILE": key, "PASSWORD_FILE": password})}
	c.secrecy(clickhouse.Options{Addr: []string{"127.0.0.1:9000"}})
	if len(c.found) != 1 || c.found[0].state != stateWarning || c.found[0].what != "clickhouse.key_file" || !strings.Contains(c.found[0].detail, "0644") ||
		c.found[0].advice != "run: chmod o= "+key {
		t.Errorf("%+v", c.found)
	}
}

// weir run says once at the start that others can read along.
func TestRunWarnsOfTheClear(t *testing.T) {
	capturetest.Namespace(t)
	_, names := cables(t, 1)
	for addr, want := range map[string]int{"192.0.2.1:9000": 1, "127.0.0.1:1": 0} {
		p := startAgent(t, "--clickhouse", addr, "--interface", names[0], "--buffer", "2MiB")
		p.captures(names...) // which comes after it; it is not stopped in good order, for nobody takes its records
		if got := strings.Count(p.stderr(), "in the clear: set clickhouse.tls"); got != want {
			t.Errorf("%s: said %d times: %s", addr, got, p.stderr())
		}
	}
}

//go:build linux && amd64

package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// asProgram makes the test binary be weir-clickhouse, so that tests run the real
// program without building it.
const asProgram = "WEIR_CLICKHOUSE_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	_, second := os.LookupEnv(engineEnv) // after it has replaced itself
	if second {
		go collectOnSignal()
	}
	if dir := os.Getenv(asRedirected); dir != "" {
		redirected(dir)
		os.Exit(0)
	}
	if second || os.Getenv(asProgram) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// failing runs a program that must fail and returns its exit status and standard error.
func failing(t *testing.T, cmd *exec.Cmd) (int, string) {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err == nil {
		t.Fatalf("%v did not fail", cmd.Args)
	}
	return cmd.ProcessState.ExitCode(), stderr.String()
}

func TestWrongUsage(t *testing.T) {
	for _, test := range []struct {
		args string
		exit int
		says string
	}{
		{"serve --listen 0.0.0.0", 1, "only loopback"},
		{"serve --listen example.org", 2, "--listen"},
		{"serve --memory lots", 2, "--memory"},
		{"serve --tcp-port 70000", 2, "--tcp-port"},
		{"serve --parent-pid 2147483647", 1, "has ended"},
		{"serve --user no-such-user-here", 1, "no-such-user-here"},
		{"serve extra", 2, "extra"},
		{"nonsense", 2, "nonsense"},
	} {
		t.Run(test.args, func(t *testing.T) {
			cmd := program(t, strings.Fields(test.args)...)
			if test.exit == 1 {
				cmd.Args = append(cmd.Args, "--data", t.TempDir())
			}
			exit, stderr := failing(t, cmd)
			if exit != test.exit || !strings.Contains(stderr, test.says) {
				t.Errorf("exit status %d, %q; want %d, %q", exit, stderr, test.exit, test.says)
			}
		})
	}
}

func TestCacheDir(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/somewhere")
	if dir, err := cacheDir(""); dir != "/somewhere/weir" || err != nil {
		t.Errorf("%q, %v", dir, err)
	}
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "")
	dir, err := cacheDir("")
	if os.Geteuid() == 0 {
		if dir != "/var/cache/weir" || err != nil {
			t.Errorf("%q, %v", dir, err)
		}
	} else if err == nil || !strings.Contains(err.Error(), "--cache-dir") {
		t.Errorf("%q, %v does not say what to do", dir, err)
	}
	if dir, err := cacheDir("/named"); dir != "/named" || err != nil {
		t.Errorf("%q, %v", dir, err)
	}
}

func TestVersion(t *testing.T) {
	out, err := program(t, "version").Output()
	if err != nil || !strings.Contains(string(out), engineVersion) {
		t.Errorf("%q, %v", out, err)
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{
		"2GiB": 2 << 30, "2G": 2 << 30, "2GB": 2 << 30, "1T": 1 << 40, "600M": 600 << 20, "1073741824": 1 << 30, "524288K": 512 << 20,
	} {
		if got, err := parseSize(s); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "G", "-1G", "1.5G", "1X", "1GG", "100M", "99999999999T", "9223372036854775807K", "2 GiB"} {
		if got, err := parseSize(s); err == nil {
			t.Errorf("%q: %d, want an error", s, got)
		}
	}
}

// TestOnlyHere: whatever imports purego needs glibc's loader, and the agent must not.
func TestOnlyHere(t *testing.T) {
	out, err := exec.Command("go", "list", "-e", "-f",
		`{{.ImportPath}} {{join .Imports " "}} {{join .TestImports " "}} {{join .XTestImports " "}}`, "weir/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := false
	for line := range strings.Lines(string(out)) {
		path, imports, _ := strings.Cut(line, " ")
		if path == "weir/cmd/weir-clickhouse" {
			seen = true
		} else if strings.Contains(imports, "ebitengine/purego") {
			t.Errorf("%s imports purego", path)
		}
	}
	if !seen {
		t.Errorf("go list does not know this package: %s", out)
	}
}

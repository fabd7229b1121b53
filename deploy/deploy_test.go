// Package deploy_test checks what weir is installed with against the tools that read
// it, the configuration, and the kernel.
package deploy_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"weir/internal/lack"
)

const version = "1.2.3"

var built string // folder of what package.sh makes

func TestMain(m *testing.M) {
	if as := os.Getenv(runtimeVariable); as != "" {
		fmt.Fprintln(os.Stderr, "exec:", become(as, os.Args[1:]))
		os.Exit(1)
	}
	var err error
	if built, err = os.MkdirTemp("", "weir-deploy"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(built)
	os.Exit(code)
}

func need(t *testing.T, program, debianPackage string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		lack.Of(t, program+" is missing: apt-get install "+debianPackage)
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestUnit(t *testing.T) {
	need(t, "systemd-analyze", "systemd")
	run(t, "systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", "systemd/weir.service")

	// verify wants a program that is there.
	text := read(t, "systemd/weir.service")
	const start = "ExecStart=/usr/bin/weir "
	if !strings.Contains(text, start) {
		t.Fatalf("no %s", start)
	}
	unit := filepath.Join(t.TempDir(), "weir.service")
	if err := os.WriteFile(unit, []byte(strings.Replace(text, start, "ExecStart=/bin/true ", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(run(t, "systemd-analyze", "verify", "--man=no", unit)) {
		if strings.Contains(line, "weir") { // others may be of this host's units
			t.Error(strings.TrimSpace(line))
		}
	}

	settings := map[string][]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(k, "#") {
			settings[k] = append(settings[k], v)
		}
	}
	for k, want := range map[string]string{
		"User": "weir", "AmbientCapabilities": "CAP_NET_RAW", "CapabilityBoundingSet": "CAP_NET_RAW",
		"RuntimeDirectory": "weir", "StateDirectory": "weir",
	} {
		if got := strings.Join(settings[k], "; "); got != want {
			t.Errorf("%s is %q, want %q", k, got, want)
		}
	}
	longerThanShutdown(t, "TimeoutStopSec", strings.Join(settings["TimeoutStopSec"], ""))
}

// longerThanShutdown holds that weir is not killed while it writes out what it has.
func longerThanShutdown(t *testing.T, what, value string) {
	t.Helper()
	shutdown, err := time.ParseDuration(fmt.Sprint(keys(t, read(t, "../config.example.yaml"))["shutdown_timeout"]))
	if err != nil {
		t.Fatal(err)
	}
	if d, err := time.ParseDuration(value); err != nil || d < shutdown+5*time.Second {
		t.Errorf("%s is %q: shutdown_timeout is %v", what, value, shutdown)
	}
}

// keys returns the keys of a configuration, with dots.
func keys(t *testing.T, text string) map[string]any {
	t.Helper()
	var tree map[string]any
	if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
		t.Fatal(err)
	}
	flat := map[string]any{}
	var walk func(prefix string, tree map[string]any)
	walk = func(prefix string, tree map[string]any) {
		for k, v := range tree {
			if sub, ok := v.(map[string]any); ok {
				walk(prefix+k+".", sub)
			} else {
				flat[prefix+k] = v
			}
		}
	}
	walk("", tree)
	return flat
}

// TestVariables holds that every environment variable of weir's that a file here
// names is a key.
func TestVariables(t *testing.T) {
	known := map[string]bool{}
	for k := range keys(t, read(t, "../config.example.yaml")) {
		known["WEIR_"+strings.ToUpper(strings.ReplaceAll(k, ".", "_"))] = true
	}
	seen := 0
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".go") {
			return err
		}
		for _, name := range regexp.MustCompile(`\bWEIR_\w+`).FindAllString(read(t, path), -1) {
			seen++
			if !known[name] {
				t.Errorf("%s: %s is no key of config.example.yaml", path, name)
			}
		}
		return nil
	})
	if err != nil || seen == 0 {
		t.Errorf("%d variables, %v", seen, err)
	}
}

func TestCompose(t *testing.T) {
	type service struct {
		Image       string
		Build       struct{ Context, Dockerfile string }
		NetworkMode string `yaml:"network_mode"`
		Privileged  bool
		User        string
		CapDrop     []string `yaml:"cap_drop"`
		CapAdd      []string `yaml:"cap_add"`
		SecurityOpt []string `yaml:"security_opt"`
		ReadOnly    bool     `yaml:"read_only"`
		Grace       string   `yaml:"stop_grace_period"`
		Environment map[string]string
		Ports       []string
		Volumes     []string
		Tmpfs       []string
	}
	var file struct {
		Services map[string]service
		Volumes  map[string]any
	}
	if err := yaml.Unmarshal([]byte(read(t, "compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	weir, server := file.Services["weir"], file.Services["clickhouse"]
	if weir.NetworkMode != "host" || !slices.Equal(weir.CapDrop, []string{"ALL"}) || !slices.Equal(weir.CapAdd, []string{"NET_RAW"}) || !weir.ReadOnly {
		t.Errorf("weir: network %q, drops %v, adds %v, read only %v", weir.NetworkMode, weir.CapDrop, weir.CapAdd, weir.ReadOnly)
	}
	// TestCapabilities has the reason against no-new-privileges.
	if weir.Privileged || server.Privileged || weir.User != "" || len(weir.SecurityOpt) > 0 {
		t.Errorf("weir: privileged %v, user %q, %v", weir.Privileged, weir.User, weir.SecurityOpt)
	}
	longerThanShutdown(t, "stop_grace_period", weir.Grace)
	if _, err := os.Stat(filepath.Join(weir.Build.Context, weir.Build.Dockerfile)); err != nil {
		t.Error(err)
	}
	if !regexp.MustCompile(`^clickhouse/clickhouse-server:\d+\.\d+$`).MatchString(server.Image) {
		t.Errorf("image %q", server.Image)
	}
	// weir reaches the server by a port of the host, and nobody else does.
	if addr := weir.Environment["WEIR_CLICKHOUSE_ADDR"]; !slices.Equal(server.Ports, []string{addr + ":9000"}) || !strings.HasPrefix(addr, "127.0.0.1:") {
		t.Errorf("weir asks %s, the server publishes %v", addr, server.Ports)
	}
	if a, b := weir.Environment["WEIR_CLICKHOUSE_USER"], server.Environment["CLICKHOUSE_USER"]; a != b {
		t.Errorf("users %q and %q", a, b)
	}
	if a, b := weir.Environment["WEIR_CLICKHOUSE_PASSWORD"], server.Environment["CLICKHOUSE_PASSWORD"]; a != b || !strings.HasPrefix(a, "${") {
		t.Errorf("passwords %q and %q: want the same variable", a, b)
	}
	for name, s := range file.Services {
		for _, v := range s.Volumes {
			volume, _, _ := strings.Cut(v, ":")
			if _, ok := file.Volumes[volume]; !ok {
				t.Errorf("%s: no volume %s", name, volume)
			}
		}
	}
	if id := imageUser(t); len(weir.Tmpfs) != 1 || !strings.Contains(weir.Tmpfs[0], "/run/weir:uid="+id+",gid="+id+",") {
		t.Errorf("tmpfs %v for user %s", weir.Tmpfs, id)
	}
}

// imageUser returns the user of the image.
func imageUser(t *testing.T) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^USER (\d+):(\d+)$`).FindStringSubmatch(read(t, "Dockerfile"))
	if m == nil || m[1] != m[2] || m[1] == "0" {
		t.Fatalf("USER %v", m)
	}
	return m[1]
}

func TestDockerfile(t *testing.T) {
	text := strings.ReplaceAll(read(t, "Dockerfile"), "\\\n", " ")
	imageUser(t)
	var images []string
	last := "" // stage
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		switch f[0] {
		case "FROM":
			f = slices.DeleteFunc(f, func(s string) bool { return strings.HasPrefix(s, "--") })
			images, last = append(images, f[1]), ""
		case "COPY":
			if f[1] == "--from=build" && slices.Contains(f, "/usr/bin/weir") && strings.Contains(line, "--chown") {
				t.Error("the binary is copied with --chown, which takes its capability")
			}
			if !strings.HasPrefix(f[1], "--from") {
				for _, source := range f[1 : len(f)-1] {
					if _, err := os.Stat(filepath.Join("..", source)); err != nil {
						t.Error(err)
					}
				}
			}
		}
		last += line
	}
	if len(images) != 2 || images[1] != "scratch" {
		t.Fatalf("images %v", images)
	}
	wanted := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "../go.mod"))
	if !strings.HasPrefix(images[0], "golang:"+wanted[1]) {
		t.Errorf("%s, go.mod wants Go %s", images[0], wanted[1])
	}
	if caps := regexp.MustCompile(`setcap (\S+)`).FindAllStringSubmatch(text, -1); len(caps) != 1 || caps[0][1] != "cap_net_raw+ep" {
		t.Errorf("setcap %v", caps)
	}
	if !strings.Contains(last, `ENTRYPOINT ["/usr/bin/weir"]`) {
		t.Error("no ENTRYPOINT")
	}
	build(t)
	for _, m := range regexp.MustCompile(`CMD \[(?:"/usr/bin/weir", )?"(\w+)"\]`).FindAllStringSubmatch(last, -1) {
		run(t, binaryOf(runtime.GOARCH), m[1], "--help")
	}
}

// Package deploy_test checks what weir is installed with against the tools that read
// it, the configuration, and the kernel.
package deploy_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"
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

// lack ends a test that cannot run here. Nothing is missing where CI is set.
func lack(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

func need(t *testing.T, program, debianPackage string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		lack(t, program+" is missing: apt-get install "+debianPackage)
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

// architectures are all that package.sh knows where CI is set, and otherwise this one:
// the other takes a minute, unless its standard library is compiled already.
func architectures() []string {
	if os.Getenv("CI") != "" {
		return []string{"amd64", "arm64"}
	}
	return []string{runtime.GOARCH}
}

var packaged = sync.OnceValue(func() error {
	cmd := exec.Command("./package.sh", architectures()...)
	cmd.Env = append(os.Environ(), "OUT="+built, "VERSION=v"+version, "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("package.sh: %w\n%s", err, out)
	}
	return os.Chmod(built, 0o755) // for users who are not root
})

func build(t *testing.T) {
	t.Helper()
	if err := packaged(); err != nil {
		t.Fatal(err)
	}
}

func binaryOf(arch string) string  { return filepath.Join(built, "weir-linux-"+arch) }
func packageOf(arch string) string { return filepath.Join(built, "weir_"+version+"_"+arch+".deb") }

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

// strict decodes a document into a struct that has the parts that matter here.
func strict[T any](t *testing.T, doc *yaml.Node) (v T) {
	t.Helper()
	if err := doc.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
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

func TestKubernetes(t *testing.T) {
	type probe struct {
		HTTPGet struct{ Host, Path, Port string } `yaml:"httpGet"`
	}
	type daemonSet struct {
		Spec struct {
			Selector struct {
				MatchLabels map[string]string `yaml:"matchLabels"`
			}
			Template struct {
				Metadata struct{ Labels map[string]string }
				Spec     struct {
					HostNetwork        bool   `yaml:"hostNetwork"`
					HostPID            bool   `yaml:"hostPID"`
					HostIPC            bool   `yaml:"hostIPC"`
					DNSPolicy          string `yaml:"dnsPolicy"`
					ServiceAccountName string `yaml:"serviceAccountName"`
					Token              *bool  `yaml:"automountServiceAccountToken"`
					Grace              int    `yaml:"terminationGracePeriodSeconds"`
					SecurityContext    struct {
						RunAsNonRoot bool `yaml:"runAsNonRoot"`
						RunAsUser    int  `yaml:"runAsUser"`
						FSGroup      int  `yaml:"fsGroup"`
						Seccomp      struct{ Type string }
					} `yaml:"securityContext"`
					InitContainers []any `yaml:"initContainers"`
					Containers     []struct {
						Ports []struct {
							Name          string
							ContainerPort int `yaml:"containerPort"`
							HostPort      int `yaml:"hostPort"`
						}
						SecurityContext struct {
							Privileged   bool
							Escalation   *bool `yaml:"allowPrivilegeEscalation"`
							ReadOnly     bool  `yaml:"readOnlyRootFilesystem"`
							RunAsUser    *int  `yaml:"runAsUser"`
							Capabilities struct{ Drop, Add []string }
						} `yaml:"securityContext"`
						Startup   probe `yaml:"startupProbe"`
						Liveness  probe `yaml:"livenessProbe"`
						Readiness probe `yaml:"readinessProbe"`
						Resources struct{ Requests, Limits map[string]string }
						Mounts    []struct {
							Name string
							Path string `yaml:"mountPath"`
						} `yaml:"volumeMounts"`
					}
					Volumes []struct {
						Name      string
						ConfigMap *struct{ Name string } `yaml:"configMap"`
						Secret    *struct {
							Name string `yaml:"secretName"`
							Mode int    `yaml:"defaultMode"`
						}
						HostPath any `yaml:"hostPath"`
					}
				}
			}
		}
	}
	var set daemonSet
	var config map[string]string
	names := map[string]string{}
	for d := yaml.NewDecoder(strings.NewReader(read(t, "kubernetes/daemonset.yaml"))); ; {
		var doc yaml.Node
		if err := d.Decode(&doc); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		head := strict[struct {
			Kind     string
			Metadata struct{ Name, Namespace string }
		}](t, &doc)
		names[head.Kind] = head.Metadata.Name
		if head.Kind != "Namespace" && head.Metadata.Namespace != "weir" {
			t.Errorf("%s is in namespace %q", head.Kind, head.Metadata.Namespace)
		}
		switch head.Kind {
		case "DaemonSet":
			set = strict[daemonSet](t, &doc)
		case "ConfigMap":
			config = strict[struct{ Data map[string]string }](t, &doc).Data
		case "ServiceAccount":
			if token := strict[struct {
				Token *bool `yaml:"automountServiceAccountToken"`
			}](t, &doc).Token; token == nil || *token {
				t.Error("the ServiceAccount has a token")
			}
		}
	}
	pod := set.Spec.Template.Spec
	if len(pod.Containers) != 1 || len(pod.InitContainers) > 0 {
		t.Fatalf("%d containers", len(pod.Containers))
	}
	c := pod.Containers[0]
	for what, ok := range map[string]bool{
		"hostNetwork, and nothing else of the host": pod.HostNetwork && !pod.HostPID && !pod.HostIPC,
		"names of Services":                         pod.DNSPolicy == "ClusterFirstWithHostNet",
		"no token":                                  pod.Token != nil && !*pod.Token && pod.ServiceAccountName == names["ServiceAccount"],
		"not privileged":                            !c.SecurityContext.Privileged && c.SecurityContext.Escalation != nil && !*c.SecurityContext.Escalation,
		"drops all capabilities":                    slices.Equal(c.SecurityContext.Capabilities.Drop, []string{"ALL"}),
		"adds NET_RAW alone":                        slices.Equal(c.SecurityContext.Capabilities.Add, []string{"NET_RAW"}),
		"read-only":                                 c.SecurityContext.ReadOnly,
		"not root": pod.SecurityContext.RunAsNonRoot && c.SecurityContext.RunAsUser == nil &&
			strconv.Itoa(pod.SecurityContext.RunAsUser) == imageUser(t),
		"limit of memory, none of CPU":     c.Resources.Limits["memory"] != "" && c.Resources.Limits["cpu"] == "" && len(c.Resources.Requests) == 2,
		"selects its pods":                 len(set.Spec.Selector.MatchLabels) > 0 && fmt.Sprint(set.Spec.Selector.MatchLabels) == fmt.Sprint(set.Spec.Template.Metadata.Labels),
		"one port":                         len(c.Ports) == 1,
		"the ConfigMap has the one file":   len(config) == 1 && config["weir.yaml"] != "",
		"the password is in no ConfigMap":  !strings.Contains(config["weir.yaml"], "password:"),
		"the Secret is not in this file":   names["Secret"] == "",
		"a namespace that allows all this": names["Namespace"] == "weir",
	} {
		if !ok {
			t.Errorf("does not hold: %s", what)
		}
	}
	longerThanShutdown(t, "terminationGracePeriodSeconds", strconv.Itoa(pod.Grace)+"s")

	// The kubelet asks where weir listens if nothing else is configured.
	known, used := keys(t, read(t, "../config.example.yaml")), keys(t, config["weir.yaml"])
	host, port, err := net.SplitHostPort(fmt.Sprint(known["admin.listen"]))
	if err != nil || strconv.Itoa(c.Ports[0].ContainerPort) != port || c.Ports[0].HostPort != c.Ports[0].ContainerPort {
		t.Errorf("port %+v, admin.listen is %v", c.Ports, known["admin.listen"])
	}
	for path, p := range map[string][]probe{"/healthz": {c.Startup, c.Liveness}, "/readyz": {c.Readiness}} {
		for _, p := range p {
			if p.HTTPGet.Host != host || p.HTTPGet.Path != path || p.HTTPGet.Port != c.Ports[0].Name {
				t.Errorf("probe %+v, want %s on %s", p, path, host)
			}
		}
	}
	for k := range used {
		if _, ok := known[k]; !ok {
			t.Errorf("%s is no key of config.example.yaml", k)
		}
	}
	mounts := map[string]string{}
	for _, m := range c.Mounts {
		mounts[m.Name] = m.Path
	}
	if len(pod.Volumes) != len(mounts) {
		t.Errorf("%d volumes, %d mounts", len(pod.Volumes), len(mounts))
	}
	for _, v := range pod.Volumes {
		switch path := mounts[v.Name]; {
		case path == "" || v.HostPath != nil:
			t.Errorf("volume %s: mounted on %q, of the host %v", v.Name, path, v.HostPath)
		case v.ConfigMap != nil && (v.ConfigMap.Name != names["ConfigMap"] || path != "/etc/weir"):
			t.Errorf("ConfigMap %s on %s", v.ConfigMap.Name, path)
		case v.Secret != nil:
			// README.md makes it.
			command := "secret generic " + v.Secret.Name + " --from-file=" + filepath.Base(fmt.Sprint(used["clickhouse.password_file"])) + "="
			if fmt.Sprint(used["clickhouse.password_file"]) != path+"/password" || !strings.Contains(read(t, "README.md"), command) || v.Secret.Mode != 0o440 {
				t.Errorf("secret %+v on %s, the password is in %v", v.Secret, path, used["clickhouse.password_file"])
			}
		}
	}
}

func TestStatic(t *testing.T) {
	build(t)
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	for _, arch := range architectures() {
		f, err := elf.Open(binaryOf(arch))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
				t.Errorf("%s is linked dynamically: %v", arch, p.Type)
			}
		}
		if f.Machine != machines[arch] {
			t.Errorf("%s is for %v", arch, f.Machine)
		}
	}
	if out := run(t, binaryOf(runtime.GOARCH), "version"); !strings.HasPrefix(out, "weir "+version+" ") {
		t.Errorf("version: %s", out)
	}
}

// TestPackage holds that the package is what nfpm.yaml promises.
func TestPackage(t *testing.T) {
	need(t, "dpkg-deb", "dpkg")
	build(t)
	var promise struct {
		Contents []struct {
			Dst, Type string
			Info      struct{ Mode uint32 } `yaml:"file_info"`
		}
		Scripts map[string]string
	}
	if err := yaml.Unmarshal([]byte(read(t, "nfpm.yaml")), &promise); err != nil {
		t.Fatal(err)
	}
	var want, conffiles []string
	for _, c := range promise.Contents {
		want = append(want, fmt.Sprintf("-%s root/root .%s", strings.TrimPrefix(os.FileMode(c.Info.Mode).String(), "-"), c.Dst))
		if c.Type == "config" {
			conffiles = append(conffiles, c.Dst)
		}
	}
	slices.Sort(want)
	for _, arch := range architectures() {
		var got []string
		for line := range strings.Lines(run(t, "dpkg-deb", "-c", packageOf(arch))) {
			if f := strings.Fields(line); f[0][0] != 'd' {
				got = append(got, f[0]+" "+f[1]+" "+f[5])
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s has\n%s\nwant\n%s", arch, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		for field, want := range map[string]string{"Package": "weir", "Version": version, "Architecture": arch, "Depends": "systemd"} {
			if got := strings.TrimSpace(run(t, "dpkg-deb", "-f", packageOf(arch), field)); got != want {
				t.Errorf("%s: %s is %q, want %q", arch, field, got, want)
			}
		}
		if got := strings.Fields(run(t, "dpkg-deb", "-I", packageOf(arch), "conffiles")); !slices.Equal(got, conffiles) {
			t.Errorf("conffiles %v, want %v", got, conffiles)
		}
		for _, script := range promise.Scripts {
			if run(t, "dpkg-deb", "-I", packageOf(arch), filepath.Base(script)) != read(t, filepath.Join("..", script)) {
				t.Errorf("%s is another", script)
			}
		}
		extracted := t.TempDir()
		run(t, "dpkg-deb", "-x", packageOf(arch), extracted)
		if read(t, extracted+"/usr/bin/weir") != read(t, binaryOf(arch)) || read(t, extracted+"/etc/weir/weir.yaml") != read(t, "../config.example.yaml") {
			t.Error("the package has another program or configuration")
		}
	}
}

// TestInstall takes the package through its life, in a folder.
func TestInstall(t *testing.T) {
	need(t, "systemd-sysusers", "systemd")
	need(t, "dpkg", "dpkg")
	if os.Geteuid() != 0 {
		lack(t, "dpkg needs root")
	}
	build(t)
	root := t.TempDir()
	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(root+"/var/lib/dpkg/status", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	dpkg := func(args ...string) {
		t.Helper()
		run(t, "dpkg", append([]string{"--root=" + root, "--force-script-chrootless", "--force-depends", "--log=/dev/null"}, args...)...)
	}
	there := func(path string, want bool) {
		t.Helper()
		if _, err := os.Lstat(filepath.Join(root, path)); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	const (
		config  = "/etc/weir/weir.yaml"
		enabled = "/etc/systemd/system/multi-user.target.wants/weir.service"
		state   = "/var/lib/weir/state"
		records = "/var/lib/weir/clickhouse" // weir-clickhouse's
	)

	dpkg("-i", packageOf(runtime.GOARCH))
	if !regexp.MustCompile(`(?m)^weir:[^:]*:[1-9]\d*:[1-9]\d*:[^:]*:/var/lib/weir:/usr/sbin/nologin$`).MatchString(read(t, root+"/etc/passwd")) {
		t.Errorf("no user weir in %s", read(t, root+"/etc/passwd"))
	}
	there(enabled, false)
	run(t, "systemctl", "--root="+root, "enable", "weir.service")
	there(enabled, true)
	if err := os.WriteFile(root+config, []byte("host: changed\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(root+state, 0o755), os.MkdirAll(root+records, 0o755)); err != nil {
		t.Fatal(err)
	}

	dpkg("-i", packageOf(runtime.GOARCH)) // as an upgrade
	there(enabled, true)
	if read(t, root+config) != "host: changed\n" {
		t.Error("an upgrade changed the configuration")
	}

	dpkg("-r", "weir")
	there(enabled, false)
	there("/usr/bin/weir", false)
	there(config, true)
	there(state, true)

	dpkg("-P", "weir")
	there("/etc/weir", false)
	there(state, false)
	there(records, true)

	if err := os.Remove(root + records); err != nil {
		t.Fatal(err)
	}
	dpkg("-i", packageOf(runtime.GOARCH))
	dpkg("-P", "weir")
	there("/var/lib/weir", false)
}

// runtimeVariable makes of the test binary what starts a service: it takes its rights
// and executes its arguments.
const runtimeVariable = "WEIR_DEPLOY_TEST_RIGHTS"

const user = 65532

// become takes the rights that systemd, Kubernetes or Docker give a process of a user
// who is not root, for whom CAP_NET_RAW alone was asked.
func become(as string, args []string) error {
	runtime.LockOSThread() // rights are a thread's, and execve takes those of its caller
	// The options are prctl(2)'s, in order: what needs root comes first.
	for c := 0; c <= unix.CAP_LAST_CAP; c++ {
		if c != unix.CAP_NET_RAW {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && err != unix.EINVAL {
				return fmt.Errorf("drop capability %d: %w", c, err)
			}
		}
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Setgroups(nil); err != nil {
		return err
	}
	if err := unix.Setresgid(user, user, user); err != nil {
		return err
	}
	if err := unix.Setresuid(user, user, user); err != nil {
		return err
	}
	const raw = 1 << unix.CAP_NET_RAW
	var sets [2]unix.CapUserData
	if as == "systemd" || as == "kubernetes" { // moby's SetCapabilities leaves these empty
		sets[0].Permitted, sets[0].Effective = raw, raw
	}
	if as == "systemd" {
		sets[0].Inheritable = raw
	}
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &sets[0]); err != nil {
		return err
	}
	if as == "systemd" {
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_NET_RAW, 0, 0); err != nil {
			return err
		}
	}
	if as != "docker" {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
	}
	return syscall.Exec(args[0], args, os.Environ())
}

// TestCapabilities runs the agent with the rights that it has as each kind of service.
func TestCapabilities(t *testing.T) {
	if os.Geteuid() != 0 {
		lack(t, "another user's rights need root")
	}
	build(t)
	for _, c := range []struct {
		as      string
		file    bool // the file has the capability, as in the image
		refused bool
	}{
		{as: "systemd"},
		{as: "kubernetes", file: true},
		{as: "kubernetes", refused: true}, // so the image needs it
		{as: "docker", file: true},
		{as: "docker with no-new-privileges", file: true, refused: true}, // so compose.yaml does not have it
	} {
		t.Run(fmt.Sprintf("%s, file %v", c.as, c.file), func(t *testing.T) {
			dir, err := os.MkdirTemp("", "weir") // t.TempDir is too long for a socket
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			if err := errors.Join(os.Chown(dir, user, user), os.Chmod(dir, 0o755)); err != nil {
				t.Fatal(err)
			}
			program := filepath.Join(dir, "weir")
			if err := os.WriteFile(program, []byte(read(t, binaryOf(runtime.GOARCH))), 0o755); err != nil {
				t.Fatal(err)
			}
			if c.file {
				// struct vfs_cap_data in linux/capability.h: revision 2, effective.
				data := binary.LittleEndian.AppendUint32(nil, 0x02000001)
				data = binary.LittleEndian.AppendUint32(data, 1<<unix.CAP_NET_RAW)
				if err := unix.Setxattr(program, "security.capability", append(data, make([]byte, 12)...), 0); err != nil {
					t.Fatal(err)
				}
			}
			manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer manager.Close()
			if err := os.Chmod(filepath.Join(dir, "notify"), 0o777); err != nil {
				t.Fatal(err)
			}
			environment := []string{"WEIR_ADMIN_SOCKET=" + filepath.Join(dir, "weir.sock"), "HOME=" + dir}

			cmd := exec.Command(os.Args[0], program, "run", "--output", "none", "--interface", "lo", "--listen", "")
			cmd.Env = append(environment, runtimeVariable+"="+c.as, "NOTIFY_SOCKET="+filepath.Join(dir, "notify"))
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() {
				ended <- cmd.Wait()
				manager.SetReadDeadline(time.Now()) // nothing more will come
			}()
			defer cmd.Process.Kill()

			said := ""
			for b := make([]byte, 4096); !strings.Contains(said, "READY=1"); {
				n, err := manager.Read(b)
				if err != nil {
					break
				}
				said += string(b[:n]) + "\n"
			}
			if c.refused {
				if err := <-ended; err == nil || !strings.Contains(stderr.String(), "CAP_NET_RAW") {
					t.Errorf("%v: %s", err, &stderr)
				}
				return
			}
			if !strings.Contains(said, "READY=1") {
				t.Fatalf("%v: %s", <-ended, &stderr)
			}
			status := exec.Command(program, "status")
			status.Env = environment
			for {
				out, err := status.CombinedOutput()
				if err == nil {
					break
				}
				// It is ready before it has seen the interfaces.
				if !strings.Contains(string(out), "no interface is captured on") {
					t.Fatalf("weir status: %v: %s", err, out)
				}
				status = exec.Command(program, "status")
				status.Env = environment
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; err != nil {
				t.Errorf("%v: %s", err, &stderr)
			}
		})
	}
}

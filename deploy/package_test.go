package deploy_test

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v3"

	"weir/internal/lack"
)

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
		lack.Of(t, "dpkg needs root")
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

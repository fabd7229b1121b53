package deploy_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weir/internal/lack"
)

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
		lack.Of(t, "another user's rights need root")
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

package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// start starts a replay of standard input, which stays open after the capture.
func start(t *testing.T, stdout *os.File, args ...string) (cmd *exec.Cmd, stderr *bytes.Buffer) {
	t.Helper()
	stderr = new(bytes.Buffer)
	return startTo(t, stdout, stderr, args...), stderr
}

func startTo(t *testing.T, stdout *os.File, stderr io.Writer, args ...string) *exec.Cmd {
	t.Helper()
	path, err := buildProgram()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append([]string{"replay"}, args...)...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	cmd.Stdin = r
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	text, err := os.ReadFile(captures + "/long.pcap")
	if err != nil {
		t.Fatal(err)
	}
	// The program may end before it has read everything.
	go w.Write(text)
	return cmd
}

// terminal returns both ends of a new one.
func terminal(t *testing.T) (screen, program *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return screen, program
}

// TestProgress: a terminal shows how far a replay is, unless told not to.
func TestProgress(t *testing.T) {
	screen, program := terminal(t)
	cmd := startTo(t, nil, program, "--output", "none", "-")
	program.Close()
	shown := bufio.NewReader(screen)
	text, err := shown.ReadString('k') // of "848 kB"
	if err != nil || !strings.Contains(text, "replay -") || !strings.Contains(text, "8") {
		t.Errorf("the terminal shows %q, %v", text, err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	rest, _ := io.ReadAll(shown) // ends with an error, as terminals do
	if !strings.Contains(string(rest), "packets=6529 ") {
		t.Errorf("after the bar the terminal shows %q", rest)
	}

	screen, program = terminal(t)
	cmd = startTo(t, nil, program, "--output", "none", "--no-progress", captures+"/long.pcap")
	program.Close()
	all, _ := io.ReadAll(screen)
	cmd.Wait()
	if !strings.HasPrefix(string(all), "packets=6529 ") {
		t.Errorf("with --no-progress the terminal shows %q", all)
	}
}

// TestInterrupt: an interrupt ends the input; what was read is written and counted.
func TestInterrupt(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd, stderr := start(t, w, "--output", "jsonl", "--interval", "1s", "-")
	w.Close()
	lines := bufio.NewScanner(r)
	if !lines.Scan() {
		t.Fatal("no record")
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	var written uint64
	for more := true; more; more = lines.Scan() {
		written += packetsOf(t, lines.Text())
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != exitFailure {
		t.Errorf("ended with %v", cmd.ProcessState)
	}
	n := summaryOf(t, stderr.String())
	if !strings.Contains(stderr.String(), "interrupted") || n[0] == 0 || written+n[1]+n[2] != n[0] {
		t.Errorf("records of %d packets, and %s", written, stderr)
	}
}

// packetsOf returns the packets of both directions in a record in JSON.
func packetsOf(t *testing.T, line string) uint64 {
	t.Helper()
	var r struct {
		Packets        uint64
		ReversePackets uint64 `json:"reverse_packets"`
	}
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	return r.Packets + r.ReversePackets
}

// TestFullDisk: where the records cannot be written, the replay ends although its
// input goes on, and gives no counts.
func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	cmd, stderr := start(t, full, "--output", "jsonl", "--interval", "1s", "-")
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != exitFailure {
		t.Errorf("ended with %v", cmd.ProcessState)
	}
	if !strings.Contains(stderr.String(), "no space left") || strings.Contains(stderr.String(), "packets=") {
		t.Errorf("standard error: %s", stderr)
	}
}

// TestHostileName: what a capture calls its interface does not drive the terminal.
func TestHostileName(t *testing.T) {
	block := func(kind uint32, body ...byte) []byte {
		for len(body)%4 != 0 {
			body = append(body, 0)
		}
		size := uint32(len(body) + 12)
		b := binary.LittleEndian.AppendUint32(nil, kind)
		b = binary.LittleEndian.AppendUint32(b, size)
		return binary.LittleEndian.AppendUint32(append(b, body...), size)
	}
	name := "\x1b[31mEVIL\a"
	file := block(0x0a0d0d0a, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255)
	iface := append([]byte{220, 0, 0, 0, 0, 0, 0, 0, 2, 0, byte(len(name)), 0}, name...)
	for len(iface)%4 != 0 {
		iface = append(iface, 0)
	}
	file = append(file, block(1, append(iface, 0, 0, 0, 0)...)...)
	file = append(file, block(6, append(make([]byte, 12), 1, 0, 0, 0, 1, 0, 0, 0, 9)...)...)
	path := filepath.Join(t.TempDir(), "evil.pcapng")
	if err := os.WriteFile(path, file, 0o644); err != nil {
		t.Fatal(err)
	}
	r := weir(t, nil, "replay", "--output", "jsonl", path)
	if r.code != exitFailure || !strings.Contains(r.stderr, "EVIL") || strings.ContainsAny(r.stderr, "\x1b\a") {
		t.Errorf("exit %d: %q", r.code, r.stderr)
	}
}

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"weir/capture"
	"weir/capture/capturetest"
	"weir/capture/pcap"
)

// udpFrame returns an Ethernet frame of size octets with a UDP datagram to a port.
func udpFrame(size int, port uint16) []byte {
	f := capturetest.UDP(size, 1)
	binary.BigEndian.PutUint16(f[36:], port)
	return f
}

// startRecord starts weir record in the test's namespace and waits until it captures.
func startRecord(t *testing.T, arguments ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd, stderr, _ := startRecordInto(t, false, arguments...)
	return cmd, stderr
}

// startRecordInto does the same, with its standard output for the test to read.
func startRecordInto(t *testing.T, piped bool, arguments ...string) (*exec.Cmd, *bytes.Buffer, io.Reader) {
	t.Helper()
	program, err := buildProgram()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, append([]string{"record"}, arguments...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	var out io.Reader
	if piped {
		if out, err = cmd.StdoutPipe(); err != nil {
			t.Fatal(err)
		}
	}
	// The child is in the namespace of the thread that starts it.
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	capturetest.WaitForCapture(t)
	return cmd, &stderr, out
}

func recorded(t *testing.T, path string) (all []capture.Packet) {
	t.Helper()
	r, err := pcap.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for p, err := range capture.NewReader(r).Packets() {
		if err != nil {
			return all
		}
		q := *p
		q.Data = bytes.Clone(p.Data)
		all = append(all, q)
	}
	return all
}

// TestRecord records what is sent, by count, and until it is interrupted.
func TestRecord(t *testing.T) {
	for name, c := range map[string]struct {
		arguments []string
		snaplen   int
		filtered  bool
	}{
		"all":       {nil, 1500, false},
		"snaplen":   {[]string{"--snaplen", "60"}, 60, false},
		"filter":    {[]string{"--filter", "udp port 53"}, 1500, true},
		"count":     {[]string{"--count", "100"}, 1500, false},
		"small":     {[]string{"--buffer", "2MiB", "--ip-only", "--promiscuous", "--quiet"}, 1500, false},
		"by octets": {[]string{"--snaplen", "ipv4-transport"}, 54, false},
	} {
		t.Run(name, func(t *testing.T) {
			capturetest.Namespace(t)
			left, _ := capturetest.Cable(t, "left", "right")
			s := capturetest.NewSender(t, left)
			path := filepath.Join(t.TempDir(), "out.pcap")
			cmd, stderr := startRecord(t, append([]string{"-i", "right", "-o", path}, c.arguments...)...)
			var want [][]byte
			for i := range 100 {
				port := uint16(53 + i%2)
				f := udpFrame(60+i, port)
				if err := s.Send(f); err != nil {
					t.Fatal(err)
				}
				if !c.filtered || port == 53 {
					want = append(want, f)
				}
			}
			if name != "count" {
				cmd.Process.Signal(syscall.SIGINT)
			}
			if err := cmd.Wait(); err != nil {
				t.Fatalf("%v: %s", err, stderr)
			}
			got := recorded(t, path)
			if len(got) != len(want) || !strings.Contains(stderr.String(), fmt.Sprintf("packets=%d drops=0 ", len(want))) {
				t.Fatalf("%d packets, want %d; %s", len(got), len(want), stderr)
			}
			for i, p := range got {
				if !bytes.Equal(p.Data, want[i][:min(len(want[i]), c.snaplen)]) || int(p.WireLen) != len(want[i]) {
					t.Fatalf("packet %d: % x of %d, want % x", i, p.Data, p.WireLen, want[i])
				}
			}
		})
	}
}

// TestRecordRotates keeps the last files of many, with no packet lost between two.
func TestRecordRotates(t *testing.T) {
	capturetest.Namespace(t)
	left, _ := capturetest.Cable(t, "left", "right")
	s := capturetest.NewSender(t, left)
	dir := t.TempDir()
	cmd, stderr := startRecord(t, "-i", "right", "-o", filepath.Join(dir, "out.pcap"), "--rotate-size", "2000", "--files", "3", "--count", "100")
	for i := range 100 {
		if err := s.Send(udpFrame(84, uint16(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	// 24 octets of a file and 100 of each packet: 19 packets a file, 6 files.
	var ports []int
	for i := 4; i <= 6; i++ {
		for _, p := range recorded(t, filepath.Join(dir, fmt.Sprintf("out-%06d.pcap", i))) {
			ports = append(ports, int(binary.BigEndian.Uint16(p.Data[36:])))
		}
	}
	left3, err := os.ReadDir(dir)
	if err != nil || len(left3) != 3 || len(ports) != 100-3*19 || ports[0] != 57 || ports[len(ports)-1] != 99 || !strings.Contains(stderr.String(), "files=6 ") {
		t.Fatalf("%d files, ports %v, %v; %s", len(left3), ports, err, stderr)
	}
}

// TestRecordVLAN records by a test of tags, which the kernel has taken out.
func TestRecordVLAN(t *testing.T) {
	capturetest.Namespace(t)
	left, _ := capturetest.Cable(t, "left", "right")
	path := filepath.Join(t.TempDir(), "out.pcap")
	cmd, stderr := startRecord(t, "-i", "right", "-o", path, "--filter", "vlan 7 and udp")
	s := capturetest.NewSender(t, left)
	plain := udpFrame(100, 53)
	tagged := append(append(bytes.Clone(plain[:12]), 0x81, 0, 0, 7), plain[12:]...)
	for _, f := range [][]byte{plain, tagged, plain} {
		if err := s.Send(f); err != nil {
			t.Fatal(err)
		}
	}
	cmd.Process.Signal(syscall.SIGINT)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	if got := recorded(t, path); len(got) != 1 || !bytes.Equal(got[0].Data, tagged) {
		t.Fatalf("%+v; %s", got, stderr)
	}
}

// TestRecordBacklog interrupts a recording whose reader of standard output is slow:
// all that had arrived comes out.
func TestRecordBacklog(t *testing.T) {
	capturetest.Namespace(t)
	left, _ := capturetest.Cable(t, "left", "right")
	cmd, stderr, out := startRecordInto(t, true, "-i", "right", "-o", "-")
	s := capturetest.NewSender(t, left)
	const count = 2000 // of 1 KiB, far more than a pipe holds
	for i := range count {
		if err := s.Send(udpFrame(1000, uint16(i))); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			time.Sleep(2 * time.Millisecond) // for the kernel's backlog of 1,000
		}
	}
	cmd.Process.Signal(syscall.SIGINT)
	time.Sleep(300 * time.Millisecond) // the disk is slow; the interrupt is long in
	r, err := pcap.NewReader(out, "out")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for p, err := range capture.NewReader(r).Packets() {
		if err != nil {
			break
		}
		if port := int(binary.BigEndian.Uint16(p.Data[36:])); port != n {
			t.Fatalf("packet %d has port %d", n, port)
		}
		n++
	}
	if err := cmd.Wait(); err != nil || n != count || !strings.Contains(stderr.String(), fmt.Sprintf("packets=%d drops=0 ", count)) {
		t.Fatalf("%d packets, %v: %s", n, err, stderr)
	}
}

// TestRecordFlushes holds that a slow trickle reaches the file while it is recorded.
func TestRecordFlushes(t *testing.T) {
	capturetest.Namespace(t)
	left, _ := capturetest.Cable(t, "left", "right")
	path := filepath.Join(t.TempDir(), "out.pcap")
	_, stderr := startRecord(t, "-i", "right", "-o", path)
	s := capturetest.NewSender(t, left)
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err := s.Send(udpFrame(100, 53)); err != nil { // so that it is never idle
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err == nil && info.Size() > pcap.FileHeaderLen {
			return
		}
	}
	t.Fatalf("nothing in the file after 20 s; %s", stderr)
}

// TestRecordMoved takes a file away that the rotation would delete.
func TestRecordMoved(t *testing.T) {
	capturetest.Namespace(t)
	left, _ := capturetest.Cable(t, "left", "right")
	dir := t.TempDir()
	cmd, stderr := startRecord(t, "-i", "right", "-o", filepath.Join(dir, "out.pcap"), "--rotate-size", "2000", "--files", "1", "--count", "60")
	if err := os.Remove(filepath.Join(dir, "out-000001.pcap")); err != nil {
		t.Fatal(err)
	}
	s := capturetest.NewSender(t, left)
	for range 60 {
		if err := s.Send(udpFrame(84, 53)); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	if n := len(recorded(t, filepath.Join(dir, "out-000004.pcap"))); n != 60-3*19 {
		t.Fatalf("%d packets in the last file; %s", n, stderr)
	}
}

func TestRecordErrors(t *testing.T) {
	for arguments, want := range map[string]string{
		"":                                           "required flag",
		"-i lo":                                      "required flag",
		"-i nowhere9 -o /dev/null":                   "no such interface",
		"-i lo -o /dev/null --snaplen many":          "ipv6-transport",
		"-i lo -o /dev/null --buffer 3":              "--buffer",
		"-i lo -o /dev/null --buffer much":           "64MiB",
		"-i lo -o /dev/null --files 3":               "--rotate-size",
		"-i lo -o - --rotate-time 1s":                "standard output",
		"-i lo -o /dev/null --filter nonsense((":     "tcpdump does not take",
		"-i lo -o /dev/null --filter-file /dev/null": "empty",
		"-i lo -o /nowhere/out.pcap -c 1":            "/nowhere/out.pcap",
	} {
		r := weir(t, nil, append([]string{"record"}, strings.Fields(arguments)...)...)
		if r.code == exitOK || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %d: %s, want %q", arguments, r.code, r.stderr, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]uint64{"4096": 4096, "64MiB": 64 << 20, "1.5GB": 1500000000, "1 kib": 1024, "7b": 7} {
		if got, err := parseSize(s); err != nil || got != want {
			t.Errorf("%q: %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "-1", "x", "1XB", "NaN", "1e30", "0", "Inf"} {
		if got, err := parseSize(s); err == nil {
			t.Errorf("%q: %d", s, got)
		}
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"weir/capture"
	"weir/capture/pcap"
)

var update = flag.Bool("update", false, "write the goldens anew")

// recordings are all whole captures of the project.
func recordings(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"*.pcap", "*.pcapng"} {
		m, err := filepath.Glob(filepath.Join(captures, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, m...)
	}
	if len(files) < 10 {
		t.Fatalf("only %d captures in %s", len(files), captures)
	}
	return files
}

// TestGolden holds the records of every capture, in both ways to make them,
// against those that were read and approved.
func TestGolden(t *testing.T) {
	for _, file := range recordings(t) {
		for suffix, args := range map[string][]string{
			".jsonl":       {"--output", "jsonl"},
			".uniflow.csv": {"--output", "csv", "--uniflow", "--interval", "0"},
		} {
			name := filepath.Base(file) + suffix
			t.Run(name, func(t *testing.T) {
				r := weir(t, nil, append(append([]string{"replay"}, args...), file)...)
				want := 0
				if strings.HasPrefix(name, "cut.") {
					want = exitDamaged
				}
				if r.code != want {
					t.Fatalf("exit %d, want %d: %s", r.code, want, r.stderr)
				}
				golden := filepath.Join(captures, "golden", name)
				if *update {
					if err := os.WriteFile(golden, []byte(r.stdout), 0o644); err != nil {
						t.Fatal(err)
					}
					return
				}
				text, err := os.ReadFile(golden)
				if err != nil {
					t.Fatalf("%v: make it with go test ./cmd/weir -run Golden -update, and read it", err)
				}
				if string(text) != r.stdout {
					t.Errorf("%s differs:\n%s", golden, firstDifference(string(text), r.stdout))
				}
			})
		}
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d:\n want %s\n got  %s", i+1, w[i], g[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}

var summaryLine = regexp.MustCompile(`^packets=(\d+) not_ip=(\d+) decode_errors=(\d+) drops=0 flows=(\d+) bytes=(\d+) seconds=\d+\.\d+$`)

// summaryOf reads the line of counts: packets, not IP, decode errors, flows, bytes.
func summaryOf(t *testing.T, stderr string) (n [5]uint64) {
	t.Helper()
	for line := range strings.Lines(stderr) {
		if m := summaryLine.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil {
			for i := range n {
				v, err := strconv.ParseUint(m[i+1], 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				n[i] = v
			}
			return n
		}
	}
	t.Fatalf("no line of counts in %q", stderr)
	return n
}

// TestSumsClose holds the records against the line of counts, and that against
// the packets of the file.
func TestSumsClose(t *testing.T) {
	files := recordings(t)
	others, err := filepath.Glob("../../../shared/captures/*.pcap*") // more of them, where they are
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, others...) {
		for _, args := range [][]string{{}, {"--uniflow"}, {"--interval", "0"}, {"--max-flows", "2"}} {
			r := weir(t, nil, append(append([]string{"replay", "--output", "jsonl"}, args...), file)...)
			n := summaryOf(t, r.stderr)
			var packets, octets uint64
			for line := range strings.Lines(r.stdout) {
				var rec struct {
					Packets        uint64
					Bytes          uint64
					ReversePackets uint64 `json:"reverse_packets"`
					ReverseBytes   uint64 `json:"reverse_bytes"`
				}
				if err := json.Unmarshal([]byte(line), &rec); err != nil {
					t.Fatalf("%s: %v in %s", file, err, line)
				}
				packets += rec.Packets + rec.ReversePackets
				octets += rec.Bytes + rec.ReverseBytes
			}
			if packets+n[1]+n[2] != n[0] || octets != n[4] {
				t.Errorf("%s %v: records hold %d packets and %d bytes; counted: %v", file, args, packets, octets, n)
			}
			if want := packetsIn(t, file); n[0] != want {
				t.Errorf("%s: %d packets, the file has %d", file, n[0], want)
			}
		}
	}
}

// packetsIn counts the packets of a file, up to where it is damaged.
func packetsIn(t *testing.T, file string) (n uint64) {
	t.Helper()
	r, err := pcap.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		b, err := r.NextBatch()
		if err != nil {
			return n
		}
		n += uint64(len(b))
	}
}

func TestExitCodes(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pcap")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	web := captures + "/web.pcap"
	for _, c := range []struct {
		name   string
		args   []string
		code   int
		stderr string
	}{
		{"fine", []string{"replay", "--output", "none", web}, exitOK, "packets="},
		{"cut", []string{"replay", "--output", "none", captures + "/cut.pcap"}, exitDamaged, "packets=60 "},
		{"cut and another", []string{"replay", "--output", "none", captures + "/cut.pcap", web}, exitDamaged, "packets=714 "},
		{"no capture", []string{"replay", "--output", "none", captures + "/README.md"}, exitNotCapture, "README.md"},
		{"no capture after one", []string{"replay", "--output", "none", web, captures + "/README.md"}, exitNotCapture, "README.md"},
		{"empty", []string{"replay", "--output", "none", empty}, exitNotCapture, "empty"},
		{"no such file", []string{"replay", "nowhere.pcap"}, exitFailure, "nowhere.pcap"},
		{"folder", []string{"replay", captures}, exitFailure, "folder"},
		{"no file", []string{"replay"}, exitUsage, "--help"},
		{"flag", []string{"replay", "--nonsense", web}, exitUsage, "nonsense"},
		{"command", []string{"nonsense"}, exitUsage, "nonsense"},
		{"output", []string{"replay", "--output", "xml", web}, exitUsage, "xml"},
		{"interval", []string{"replay", "--interval", "soon", web}, exitUsage, "soon"},
		{"negative interval", []string{"replay", "--interval=-1s", web}, exitUsage, "-1s"},
		{"local-net", []string{"replay", "--local-net", "10.0.0.0/99", web}, exitUsage, "10.0.0.0/99"},
		{"rebase", []string{"replay", "--rebase", "yesterday", web}, exitUsage, "yesterday"},
		{"max-flows", []string{"replay", "--max-flows", "0", web}, exitUsage, "flows.max"},
		{"token alone", []string{"replay", "--token", "a", web}, exitUsage, "--token"},
		{"subcommand", []string{"query", "nonsense"}, exitUsage, "nonsense"},
		{"shell", []string{"completion", "nonsense"}, exitUsage, "nonsense"},
		{"flags that exclude each other", []string{"schema", "--apply", "--check"}, exitUsage, "check"},
		{"demo's database", []string{"demo", "--database", "x"}, exitUsage, "weir_demo"},
		{"token and now", []string{"replay", "--output", "clickhouse", "--token", "a", "--rebase", "now", web}, exitUsage, "--token"},
		{"stdin twice", []string{"replay", "-", "-"}, exitUsage, "twice"},
		{"no server", []string{"replay", "--output", "clickhouse", "--clickhouse", "127.0.0.1:1", web}, exitFailure, "127.0.0.1:1"},
		{"config", []string{"replay", "--config", "nowhere.yaml", web}, exitUsage, "nowhere.yaml"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := weir(t, nil, c.args...)
			if r.code != c.code || !strings.Contains(r.stderr, c.stderr) {
				t.Errorf("exit %d, want %d with %q; standard error:\n%s", r.code, c.code, c.stderr, r.stderr)
			}
			if c.code != exitOK && c.code != exitDamaged && r.stdout != "" {
				t.Errorf("standard output holds %q", r.stdout)
			}
		})
	}
}

// TestCut: the flows up to the damage are there, and its place is named.
func TestCut(t *testing.T) {
	r := weir(t, nil, "replay", "--output", "jsonl", captures+"/cut.pcap")
	if r.code != exitDamaged || strings.Count(r.stdout, "\n") == 0 {
		t.Fatalf("exit %d, output %q", r.code, r.stdout)
	}
	if !regexp.MustCompile(`(byte|offset) \d+`).MatchString(r.stderr) {
		t.Errorf("no byte offset in %q", r.stderr)
	}
}

// TestSameRecords: compression, standard input and being cut into several files
// change nothing about the records.
func TestSameRecords(t *testing.T) {
	args := []string{"replay", "--output", "jsonl", "--interface", "x"}
	want := weir(t, nil, append(args, captures+"/web.pcap")...)
	if want.stdout == "" {
		t.Fatal("no records")
	}
	for _, file := range []string{"/web.pcap.gz", "/web.pcap.zst"} {
		if got := weir(t, nil, append(args, captures+file)...); got.stdout != want.stdout {
			t.Errorf("%s: %s", file, firstDifference(want.stdout, got.stdout))
		}
	}
	text, err := os.ReadFile(captures + "/web.pcap")
	if err != nil {
		t.Fatal(err)
	}
	if got := weir(t, bytes.NewReader(text), append(args, "-")...); got.stdout != want.stdout {
		t.Errorf("standard input: %s", firstDifference(want.stdout, got.stdout))
	}
	parts := split(t, captures+"/web.pcap", 3)
	if got := weir(t, nil, append(args, parts...)...); got.stdout != want.stdout {
		t.Errorf("three files: %s", firstDifference(want.stdout, got.stdout))
	}
}

// split writes the packets of a file into n files.
func split(t *testing.T, file string, n int) (parts []string) {
	t.Helper()
	r, err := pcap.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	total, done := packetsIn(t, file), uint64(0)
	var w *pcap.Writer
	for {
		batch, err := r.NextBatch()
		if err != nil {
			break
		}
		for i := range batch {
			if done%(total/uint64(n)+1) == 0 {
				if w != nil {
					if err := w.Flush(); err != nil {
						t.Fatal(err)
					}
				}
				path := filepath.Join(t.TempDir(), fmt.Sprintf("part%d.pcap", len(parts)))
				f, err := os.Create(path)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { f.Close() })
				if w, err = pcap.NewWriter(f, capture.LinkEthernet, 0); err != nil {
					t.Fatal(err)
				}
				parts = append(parts, path)
			}
			done++
			if err := w.Write(&batch[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return parts
}

// TestRebase moves the first packet to a time, and everything with it.
func TestRebase(t *testing.T) {
	r := weir(t, nil, "replay", "--output", "jsonl", "--interval", "0", "--rebase", "2030-01-02T03:04:05.000000006Z", captures+"/tun.pcap")
	var rec struct{ First string }
	if err := json.Unmarshal([]byte(strings.SplitN(r.stdout, "\n", 2)[0]), &rec); err != nil {
		t.Fatal(err)
	}
	if rec.First != "2030-01-02T03:04:05.000000006Z" {
		t.Errorf("first packet at %s", rec.First)
	}
}

// TestLocalNet tells directions in a capture that has none.
func TestLocalNet(t *testing.T) {
	without := weir(t, nil, "replay", "--output", "csv", captures+"/long.pcap")
	if strings.Contains(without.stdout, ",out,") {
		t.Error("a direction out of nowhere")
	}
	with := weir(t, nil, "replay", "--output", "csv", "--local-net", "10.99.1.0/24", "--local-net", "fd99::1:0/112", captures+"/long.pcap")
	if !strings.Contains(with.stdout, ",out,") || !strings.Contains(with.stdout, ",in,") {
		t.Error("--local-net tells no directions")
	}
}

// TestUnsupportedLink: a link type that nobody can decode is named, and a capture
// of nothing else is a failure.
func TestUnsupportedLink(t *testing.T) {
	file := filepath.Join(t.TempDir(), "usb.pcap")
	head := []byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 220, 0, 0, 0}
	packet := []byte{1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 1, 2, 3, 4}
	if err := os.WriteFile(file, append(head, packet...), 0o644); err != nil {
		t.Fatal(err)
	}
	r := weir(t, nil, "replay", file)
	if r.code != exitFailure || !strings.Contains(r.stderr, "link type 220") || !strings.Contains(r.stderr, "decode_errors=1 ") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}

// TestInterruptible: a pipe that nobody writes to does not outlast the context.
func TestInterruptible(t *testing.T) {
	var fds [2]int
	if err := syscall.Pipe(fds[:]); err != nil {
		t.Fatal(err)
	}
	r, w := os.NewFile(uintptr(fds[0]), "r"), os.NewFile(uintptr(fds[1]), "w") // they block, as standard input does
	defer w.Close()
	ctx, cancel := context.WithCancel(context.Background())
	pipe, restore, err := interruptible(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	defer restore()
	ended := make(chan error, 1)
	go func() {
		_, err := pipe.Read(make([]byte, 1))
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("reading ended with %v", err)
	}
}

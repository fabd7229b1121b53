package pcap

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"weir/capture"
	"weir/internal/lack"
)

// frame is what tshark says of one frame.
type frame struct {
	time, length, captured, md5 string
	section, id                 string // empty in pcap files
	direction, reception        string // of epb_flags
}

// tshark reads a capture with Wireshark's own reader. complaint is what it says of
// a damaged file, after the frames before the damage.
func tshark(t *testing.T, path string) (frames []frame, complaint string) {
	t.Helper()
	if _, err := exec.LookPath("tshark"); err != nil {
		const what = "tshark is needed to compare with: apt-get install tshark"
		lack.Of(t, what)
	}
	cmd := exec.Command("tshark", "-n", "-r", path, "-o", "frame.generate_md5_hash:TRUE", "-T", "fields",
		"-e", "frame.time_epoch", "-e", "frame.len", "-e", "frame.cap_len", "-e", "frame.md5_hash",
		"-e", "frame.section_number", "-e", "frame.interface_id",
		"-e", "frame.packet_flags_direction", "-e", "frame.packet_flags_reception_type")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		if complaint = stderr.String(); !strings.Contains(complaint, "cut short") && !strings.Contains(complaint, "damaged or corrupt") {
			t.Fatalf("%v: %v\n%s", cmd, err, complaint)
		}
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 8 {
			t.Fatalf("tshark said %q", line)
		}
		frames = append(frames, frame{f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7]})
	}
	return frames, complaint
}

// nanoseconds returns the time of the frame, 0 if it has none, as packets of simple
// packet blocks.
func (f frame) nanoseconds(t *testing.T) int64 {
	t.Helper()
	if f.time == "" {
		return 0
	}
	whole, fraction, _ := strings.Cut(f.time, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	nanoseconds, err := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return seconds*1e9 + nanoseconds
}

// compareWithTshark reads path with the reader and with tshark. Of the frames in
// dataOnly, counted from 0, time and wire length are not compared.
func compareWithTshark(t *testing.T, path string, dataOnly map[int]string) {
	t.Helper()
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	packets, err := readAll(t, r)
	frames, complaint := tshark(t, path)
	if (err == io.EOF) != (complaint == "") {
		t.Errorf("ended with: %v; tshark: %s", err, complaint)
	}
	if len(frames) == 0 {
		t.Fatal("tshark saw nothing")
	}
	pcapng := frames[0].section != ""
	if pcapng {
		// tshark shows custom blocks and the like as frames, too. Packets are those
		// that are of an interface.
		n := 0
		for _, f := range frames {
			if f.id != "" {
				frames[n] = f
				n++
			}
		}
		frames = frames[:n]
	}
	if len(packets) != len(frames) {
		t.Fatalf("read %d packets, tshark %d", len(packets), len(frames))
	}
	// tshark counts interfaces in each section anew. The numbers differ, but stand
	// for each other one to one.
	ours, theirs := map[string]uint32{}, map[uint32]string{}
	for i, p := range packets {
		f := frames[i]
		sum := md5.Sum(p.Data)
		got := fmt.Sprintf("%d %s", len(p.Data), hex.EncodeToString(sum[:]))
		want := fmt.Sprintf("%s %s", f.captured, f.md5)
		// A time that was cut to MaxTime is beyond what tshark can count, too.
		if dataOnly[i] == "" && p.Time != capture.MaxTime {
			got += fmt.Sprintf(" %d %d", p.Time, p.WireLen)
			want += fmt.Sprintf(" %d %s", f.nanoseconds(t), f.length)
		}
		if got != want {
			t.Errorf("frame %d: got %s, tshark %s", i+1, got, want)
		}
		place := f.section + "/" + f.id
		if n, ok := ours[place]; ok && n != p.Interface {
			t.Errorf("frame %d: interface %d, but another one of %s was %d", i+1, p.Interface, place, n)
		}
		if s, ok := theirs[p.Interface]; ok && s != place {
			t.Errorf("frame %d: of interface %s, but interface %d was %s", i+1, place, p.Interface, s)
		}
		ours[place], theirs[p.Interface] = p.Interface, place
		if pcapng {
			if want := packetTypeOf(t, f); p.Type != want {
				t.Errorf("frame %d: type %v, tshark has direction %s and reception %s", i+1, p.Type, f.direction, f.reception)
			}
		}
	}
}

// packetTypeOf returns what tshark's reading of epb_flags amounts to.
func packetTypeOf(t *testing.T, f frame) capture.PacketType {
	t.Helper()
	number := func(s string) uint64 {
		if s == "" {
			return 0
		}
		n, err := strconv.ParseUint(s, 0, 32)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	switch number(f.direction) {
	case 1:
		byReception := map[uint64]capture.PacketType{2: capture.PacketMulticast, 3: capture.PacketBroadcast, 4: capture.PacketOtherHost}
		return byReception[number(f.reception)] // else 0, PacketHost
	case 2:
		return capture.PacketOutgoing
	}
	return capture.PacketUnknown
}

// Files of other programs, if they lie beside the repository.
func TestRealCapturesAgainstTshark(t *testing.T) {
	files, err := filepath.Glob("../../../shared/captures/*.pcap*")
	if err != nil {
		t.Fatal(err)
	}
	own, err := filepath.Glob("../../testdata/*.pcap*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(files, own...) {
		t.Run(filepath.Base(path), func(t *testing.T) { compareWithTshark(t, path, nil) })
	}
}

// The test's own captures, so that what they expect has a second opinion.
func TestSamplesAgainstTshark(t *testing.T) {
	exceptions := map[int]string{
		4: "a fraction of 2^32-1 units: tshark takes it for a negative number",
		5: "the same",
		6: "a wire length of 2^32-1: tshark shows at most 2^31-1",
	}
	for _, s := range samples() {
		if strings.HasPrefix(s.name, "unknown link type") {
			continue // tshark does not open such a file
		}
		t.Run(s.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sample")
			if err := os.WriteFile(path, s.content, 0o600); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(s.name, "pcapng") || strings.HasPrefix(s.name, "modified") {
				compareWithTshark(t, path, nil)
			} else {
				compareWithTshark(t, path, exceptions)
			}
		})
	}
}

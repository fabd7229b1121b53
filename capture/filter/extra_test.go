package filter_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"weir/capture"
	"weir/capture/filter"
	"weir/capture/pcap"
	"weir/internal/lack"
)

// tcpdump returns a program that tcpdump made.
func tcpdump(t testing.TB, expression string) []bpf.RawInstruction {
	t.Helper()
	out, err := exec.Command("tcpdump", "-y", "EN10MB", "-ddd", expression).Output()
	if err != nil {
		lack.Of(t, "tcpdump is needed: "+err.Error())
	}
	program, err := filter.ParseDDD(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// TestExtra counts packets with programs of tcpdump's, and with tcpdump.
func TestExtra(t *testing.T) {
	const path = "../../testdata/web.pcap"
	for _, expression := range []string{"tcp port 443", "udp", "ip6", "tcp[tcpflags] & tcp-syn != 0", "len > 500", "not tcp and not udp", "host 10.99.1.10 or greater 1000"} {
		program := tcpdump(t, expression)
		out, err := exec.Command("tcpdump", "-nr", path, "--count", expression).Output()
		if err != nil {
			t.Fatal(err)
		}
		var want int
		if _, err := fmt.Sscanf(string(out), "%d", &want); err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		for _, length := range lengths {
			_, vm := assemble(t, filter.Config{LinkType: capture.LinkEthernet, Length: length, All: true, Extra: program})
			r, err := pcap.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			got := 0
			for {
				batch, err := r.NextBatch()
				if err != nil {
					break
				}
				for _, p := range batch {
					if vm.Run(p.Data, metadata(&p)) > 0 {
						got++
					}
				}
			}
			r.Close()
			if got != want {
				t.Errorf("%q, %v: %d packets, tcpdump has %d", expression, length, got, want)
			}
		}
	}
}

// TestFarJumps puts a program before ours that its jumps cannot cross in one step.
func TestFarJumps(t *testing.T) {
	var extra []bpf.RawInstruction
	for i := range 2000 { // refuse packets whose octet 40 is 2000..., which is none
		extra = append(extra, bpf.RawInstruction{Op: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 40},
			bpf.RawInstruction{Op: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 0, Jf: 1, K: uint32(2000 + i)},
			bpf.RawInstruction{Op: unix.BPF_RET | unix.BPF_K, K: 0})
		if len(extra) > 3000 {
			break
		}
	}
	extra = append(extra, bpf.RawInstruction{Op: unix.BPF_LD | unix.BPF_IMM, K: 5}, bpf.RawInstruction{Op: unix.BPF_RET | unix.BPF_A})
	_, vm := assemble(t, filter.Config{LinkType: capture.LinkEthernet, Length: filter.MinimalIPv4Transport, Extra: extra})
	p := samples()[0].p
	if n := vm.Run(p.Data, metadata(&p)); n != 54 {
		t.Fatalf("%d octets", n)
	}
	if _, err := (filter.Config{LinkType: capture.LinkEthernet, Extra: append(extra, extra...)}).Assemble(); err == nil {
		t.Fatal("a program that the kernel does not take")
	}
}

func TestParseDDD(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "empty",
		"x":                      "line 1",
		"0\n":                    "line 1",
		"5000\n":                 "line 1",
		"1\n6 0 0\n":             "line 2",
		"1\n6 0 0 1 9\n":         "line 2",
		"2\n6 0 0 1\n":           "ends after 1 of the 2",
		"1\n6 0 0 1\n6 0 0 1":    "line 3",
		"1\n999 0 0 1\n":         "code 999",
		"2\n21 5 0 1\n6 0 0 1\n": "jumps out",
		"2\n5 0 0 1\n6 0 0 1\n":  "jumps out",
		"2\n52 0 0 0\n6 0 0 1\n": "divides by zero",
		"2\n2 0 0 16\n6 0 0 1\n": "scratch",
		"1\n0 0 0 1\n":           "line 2: the instruction is the last and does not return",
		"2\n100 0 0 32\n6 0 0 1": "shifts by more than 31",
		"2\n96 0 0 3\n6 0 0 1\n": "line 2: the instruction loads from scratch memory 3",
		// One of the two ways to the load stores nothing.
		"4\n21 0 1 7\n2 0 0 1\n96 0 0 1\n6 0 0 1\n": "line 4",
		"2\n32 0 0 4294963264\n6 0 0 1":             "extension 64",
		"2\n32 0 0 4294963201\n6 0 0 1":             "extension 1",
	} {
		if _, err := filter.ParseDDD(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestParseDDDEnd allows what editors leave at the end.
func TestParseDDDEnd(t *testing.T) {
	if program, err := filter.ParseDDD(strings.NewReader("2\r\n40 0 0 12\r\n6 0 0 1\r\n\n \n")); err != nil || len(program) != 2 {
		t.Fatal(program, err)
	}
}

// anyProgram makes a program that the kernel takes and the VM simulates out of
// octets. The first says how long it is: up to 1025 instructions. Indirect loads are
// not among them: see NewVM on those that wrap. Programs of tcpdump's have them.
func anyProgram(b []byte) (program []bpf.RawInstruction) {
	if len(b) < 5 {
		return nil
	}
	n, b := int(b[0])*4, b[1:]
	const (
		loads = unix.BPF_LD | unix.BPF_ABS
		alu   = unix.BPF_ALU
		jump  = unix.BPF_JMP
	)
	operations := []uint16{
		loads | unix.BPF_W, loads | unix.BPF_H, loads | unix.BPF_B, unix.BPF_LD | unix.BPF_LEN,
		unix.BPF_LD | unix.BPF_IMM, unix.BPF_LDX | unix.BPF_IMM, unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH, unix.BPF_ST, unix.BPF_STX,
		unix.BPF_LD | unix.BPF_MEM, unix.BPF_LDX | unix.BPF_MEM, unix.BPF_MISC | unix.BPF_TAX, unix.BPF_MISC | unix.BPF_TXA,
		alu | unix.BPF_ADD | unix.BPF_X, alu | unix.BPF_SUB, alu | unix.BPF_MUL, alu | unix.BPF_DIV | unix.BPF_X, alu | unix.BPF_MOD | unix.BPF_X,
		alu | unix.BPF_DIV, alu | unix.BPF_AND, alu | unix.BPF_OR | unix.BPF_X, alu | unix.BPF_XOR, alu | unix.BPF_LSH, alu | unix.BPF_RSH,
		jump | unix.BPF_JA, jump | unix.BPF_JEQ, jump | unix.BPF_JGT, jump | unix.BPF_JGE | unix.BPF_X, jump | unix.BPF_JSET, jump | unix.BPF_JSET | unix.BPF_X,
		unix.BPF_RET, unix.BPF_RET | unix.BPF_A,
	}
	for i := range uint32(4) { // all scratch memory that is loaded from
		program = append(program, bpf.RawInstruction{Op: unix.BPF_ST, K: i})
	}
	for i := range n {
		at := func(j int) uint32 { return uint32(b[(4*i+j+4*i/len(b))%len(b)]) }
		in := bpf.RawInstruction{Op: operations[int(at(0))%len(operations)], K: at(3)}
		behind := n - i // a return follows
		switch {
		case in.Op == jump|unix.BPF_JA:
			in.K = (in.K*4 + at(2)) % uint32(behind)
		case in.Op&7 == jump:
			in.Jt, in.Jf = uint8(int(at(1))%behind), uint8(int(at(2))%behind)
		case in.Op == alu|unix.BPF_LSH, in.Op == alu|unix.BPF_RSH:
			in.K %= 32
		case in.Op == alu|unix.BPF_DIV:
			in.K++
		case in.Op == unix.BPF_ST, in.Op == unix.BPF_STX, in.Op&0xe0 == unix.BPF_MEM && in.Op&7 <= unix.BPF_LDX:
			in.K %= 4
		case in.Op == loads|unix.BPF_W && in.K > 200:
			in.K = 0xfffff000 + []uint32{0, 4, 32, 44, 48}[in.K%5]
		case in.Op == unix.BPF_RET && at(1) < 128: // most programs end earlier otherwise
			in.Op = unix.BPF_LD | unix.BPF_IMM
		}
		program = append(program, in)
	}
	return append(program, bpf.RawInstruction{Op: unix.BPF_RET | unix.BPF_A})
}

// FuzzAssemble puts any program before ours: the kernel would take both together,
// and they accept what both accept, as long as ours says.
func FuzzAssemble(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 12, 26, 0, 1, 8, 31, 200, 0, 0}, uint8(3))
	f.Add([]byte{255, 26, 255, 1, 8, 0, 0, 0, 40, 31, 255, 0, 0}, uint8(17))
	all := samples()
	f.Fuzz(func(t *testing.T, b []byte, choice uint8) {
		extra := anyProgram(b)
		c := filter.Config{
			LinkType: capture.LinkEthernet, Length: lengths[int(choice>>2)%len(lengths)],
			All: choice&1 != 0, IgnoreVLANs: choice&2 != 0,
		}
		_, own := assemble(t, c)
		c.Extra = extra
		program, both := assemble(t, c)
		again := filter.Config{LinkType: capture.LinkEthernet, Extra: program}
		if err := again.Validate(); err != nil {
			t.Fatal(err)
		}
		if len(extra) == 0 {
			return
		}
		vm, err := filter.NewVM(extra)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			m := metadata(&s.p)
			want := uint32(0)
			if vm.Run(s.p.Data, m) != 0 {
				want = own.Run(s.p.Data, m)
			}
			if n := both.Run(s.p.Data, m); n != want {
				t.Fatalf("%s: %d octets, want %d", s.name, n, want)
			}
		}
	})
}

// FuzzParseDDD gives the parser anything; what it takes can be assembled and run.
func FuzzParseDDD(f *testing.F) {
	f.Add("1\n6 0 0 262144\n")
	f.Add("4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0\n")
	f.Add("3\n32 0 0 4294963200\n2 0 0 3\n22 0 0 0\n")
	data := samples()[0].p
	f.Fuzz(func(t *testing.T, text string) {
		program, err := filter.ParseDDD(strings.NewReader(text))
		if err != nil {
			return
		}
		own, err := filter.Config{LinkType: capture.LinkEthernet, Length: filter.MinimalIPv6Transport}.Assemble()
		if err != nil {
			t.Fatal(err)
		}
		both, err := filter.Config{LinkType: capture.LinkEthernet, Length: filter.MinimalIPv6Transport, Extra: program}.Assemble()
		if err != nil {
			if len(program) > 1000 {
				return // too long with what is ours
			}
			t.Fatal(err)
		}
		results := map[string]uint32{}
		for name, p := range map[string][]bpf.RawInstruction{"extra": program, "own": own, "both": both} {
			vm, err := filter.NewVM(p)
			if err != nil {
				return // an extension or instruction that is not simulated
			}
			results[name] = vm.Run(data.Data, metadata(&data))
		}
		if want := results["own"]; results["extra"] == 0 && results["both"] != 0 || results["extra"] != 0 && results["both"] != want {
			t.Fatalf("%v", results)
		}
	})
}

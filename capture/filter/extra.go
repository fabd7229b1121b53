package filter

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// ParseDDD reads a program as `tcpdump -ddd` prints it: the number of instructions
// in the first line, then one a line, in decimal: code, jt, jf, k. The program is
// checked as the kernel would.
func ParseDDD(r io.Reader) ([]bpf.RawInstruction, error) {
	s := bufio.NewScanner(io.LimitReader(r, 64*(maxInstructions+1)))
	if !s.Scan() {
		if s.Err() != nil {
			return nil, fmt.Errorf("read filter: %w", s.Err())
		}
		return nil, errors.New("filter: it is empty; `tcpdump -ddd EXPRESSION` prints one")
	}
	count, rest := 0, ""
	if n, _ := fmt.Sscanf(s.Text(), "%d%s", &count, &rest); n != 1 || count < 1 || count > maxInstructions {
		return nil, fmt.Errorf("filter: line 1 is %.40q, not the number of instructions, 1 to %d; `tcpdump -ddd EXPRESSION` prints a filter", s.Text(), maxInstructions)
	}
	code := make([]bpf.RawInstruction, 0, count)
	for s.Scan() {
		if len(code) == count && strings.TrimSpace(s.Text()) == "" {
			continue // empty lines at the end
		}
		if len(code) == count {
			return nil, fmt.Errorf("filter: line %d follows the %d instructions that line 1 announces", count+2, count)
		}
		var in bpf.RawInstruction
		rest = ""
		if n, _ := fmt.Sscanf(s.Text(), "%d %d %d %d%s", &in.Op, &in.Jt, &in.Jf, &in.K, &rest); n != 4 {
			return nil, fmt.Errorf("filter: line %d is %.40q, not four numbers", len(code)+2, s.Text())
		}
		code = append(code, in)
	}
	if s.Err() != nil {
		return nil, fmt.Errorf("read filter: %w", s.Err())
	}
	if len(code) < count {
		return nil, fmt.Errorf("filter: it ends after %d of the %d instructions that line 1 announces", len(code), count)
	}
	if i, what := fault(code); what != "" {
		return nil, fmt.Errorf("filter: line %d: the instruction %s", i+2, what)
	}
	return code, nil
}

// operations are those that bpf_check_classic in net/core/filter.c allows.
var operations = func() map[uint16]bool {
	m := map[uint16]bool{}
	for _, op := range []uint16{unix.BPF_ADD, unix.BPF_SUB, unix.BPF_MUL, unix.BPF_DIV, unix.BPF_MOD, unix.BPF_AND, unix.BPF_OR, unix.BPF_XOR, unix.BPF_LSH, unix.BPF_RSH} {
		m[unix.BPF_ALU|op|unix.BPF_K], m[unix.BPF_ALU|op|unix.BPF_X] = true, true
	}
	for _, size := range []uint16{unix.BPF_W, unix.BPF_H, unix.BPF_B} {
		m[unix.BPF_LD|size|unix.BPF_ABS], m[unix.BPF_LD|size|unix.BPF_IND] = true, true
	}
	for _, op := range []uint16{unix.BPF_JEQ, unix.BPF_JGE, unix.BPF_JGT, unix.BPF_JSET} {
		m[unix.BPF_JMP|op|unix.BPF_K], m[unix.BPF_JMP|op|unix.BPF_X] = true, true
	}
	for _, op := range []uint16{
		unix.BPF_ALU | unix.BPF_NEG, unix.BPF_LD | unix.BPF_W | unix.BPF_LEN, unix.BPF_LD | unix.BPF_IMM, unix.BPF_LD | unix.BPF_MEM,
		unix.BPF_LDX | unix.BPF_W | unix.BPF_LEN, unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH, unix.BPF_LDX | unix.BPF_IMM, unix.BPF_LDX | unix.BPF_MEM,
		unix.BPF_ST, unix.BPF_STX, unix.BPF_MISC | unix.BPF_TAX, unix.BPF_MISC | unix.BPF_TXA,
		unix.BPF_RET | unix.BPF_K, unix.BPF_RET | unix.BPF_A, unix.BPF_JMP | unix.BPF_JA,
	} {
		m[op] = true
	}
	return m
}()

// check returns what the kernel would not take, by the number of the instruction.
// No program is none to complain of.
func check(code []bpf.RawInstruction) error {
	if len(code) == 0 {
		return nil
	}
	if len(code) > maxInstructions {
		return fmt.Errorf("filter: it has %d instructions; the kernel takes %d", len(code), maxInstructions)
	}
	if i, what := fault(code); what != "" {
		return fmt.Errorf("filter: instruction %d of %d %s", i, len(code), what)
	}
	return nil
}

const (
	extensions    = 0xfffff000 // SKF_AD_OFF: loads from here on are of metadata
	lastExtension = 60         // SKF_AD_VLAN_TPID; all are multiples of 4
)

// fault returns the first instruction that the kernel would not take and why, as
// bpf_check_classic of net/core/filter.c has it, or no reason.
func fault(code []bpf.RawInstruction) (i int, why string) {
	for i, in := range code {
		behind := uint64(len(code) - i - 1)
		switch {
		case !operations[in.Op]:
			return i, fmt.Sprintf("has the code %d, which is none", in.Op)
		case in.Op == unix.BPF_JMP|unix.BPF_JA:
			if uint64(in.K) >= behind {
				return i, "jumps out of the program"
			}
		case in.Op&7 == unix.BPF_JMP:
			if uint64(in.Jt) >= behind || uint64(in.Jf) >= behind {
				return i, "jumps out of the program"
			}
		}
		switch in.Op {
		case unix.BPF_ALU | unix.BPF_DIV | unix.BPF_K, unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K:
			if in.K == 0 {
				return i, "divides by zero"
			}
		case unix.BPF_ALU | unix.BPF_LSH | unix.BPF_K, unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K:
			if in.K >= 32 {
				return i, "shifts by more than 31"
			}
		case unix.BPF_LD | unix.BPF_MEM, unix.BPF_LDX | unix.BPF_MEM, unix.BPF_ST, unix.BPF_STX:
			if in.K >= 16 {
				return i, "has no such scratch memory"
			}
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, unix.BPF_LD | unix.BPF_B | unix.BPF_ABS:
			if e := in.K - extensions; in.K >= extensions && (e > lastExtension || e%4 != 0) {
				return i, fmt.Sprintf("loads the extension %d, which is none", e)
			}
		}
	}
	if last := code[len(code)-1].Op; last != unix.BPF_RET|unix.BPF_K && last != unix.BPF_RET|unix.BPF_A {
		return len(code) - 1, "is the last and does not return"
	}
	return scratchFault(code)
}

// scratchFault finds loads of scratch memory that nothing was stored in on one of
// the ways to them, as check_load_and_stores of net/core/filter.c does. The jumps
// have been checked.
func scratchFault(code []bpf.RawInstruction) (i int, why string) {
	missing := make([]uint16, len(code)) // on a way that jumps here; a bit each
	var stored uint16                    // on the way from the instruction before
	for i, in := range code {
		stored &^= missing[i]
		switch {
		case in.Op == unix.BPF_ST || in.Op == unix.BPF_STX:
			stored |= 1 << in.K
		case in.Op == unix.BPF_LD|unix.BPF_MEM || in.Op == unix.BPF_LDX|unix.BPF_MEM:
			if stored&(1<<in.K) == 0 {
				return i, fmt.Sprintf("loads from scratch memory %d, where nothing may have been stored", in.K)
			}
		case in.Op == unix.BPF_JMP|unix.BPF_JA:
			missing[i+1+int(in.K)] |= ^stored
			stored = ^uint16(0) // no way from here to the next instruction
		case in.Op&7 == unix.BPF_JMP:
			missing[i+1+int(in.Jt)] |= ^stored
			missing[i+1+int(in.Jf)] |= ^stored
			stored = ^uint16(0)
		}
	}
	return 0, ""
}

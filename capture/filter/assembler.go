package filter

import (
	"fmt"
	"math"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// label is a place in a program that instructions jump to.
type label int

// maxInstructions is BPF_MAXINSNS of include/uapi/linux/bpf_common.h.
const maxInstructions = 4096

// program is a program under construction, whose jumps name their targets. A
// conditional jump of the machine reaches 255 instructions; assemble lengthens those
// that have to go farther.
type program struct {
	code   []instruction
	places []int // of labels, -1 if not placed yet
}

// instruction is one of the machine's, of which a jump has its targets as labels.
type instruction struct {
	raw          bpf.RawInstruction
	jumps        bool
	then, orElse label // the same for an unconditional jump
}

func (p *program) label() label {
	p.places = append(p.places, -1)
	return label(len(p.places) - 1)
}

// place has the label stand for the next instruction.
func (p *program) place(l label) { p.places[l] = len(p.code) }

// do adds instructions that do not jump.
func (p *program) do(list ...bpf.Instruction) {
	for _, in := range list {
		raw, err := in.Assemble()
		if err != nil {
			panic(err) // an instruction of this package that the machine does not have
		}
		p.code = append(p.code, instruction{raw: raw})
	}
}

// test adds a jump by the comparison of A with a constant.
func (p *program) test(c bpf.JumpTest, value uint32, then, orElse label) {
	raw, err := bpf.JumpIf{Cond: c, Val: value, SkipTrue: 1}.Assemble()
	if err != nil {
		panic(err)
	}
	if raw.Jt == 0 { // the machine has no such test but its opposite, which Assemble used
		then, orElse = orElse, then
	}
	p.code = append(p.code, instruction{raw: raw, jumps: true, then: then, orElse: orElse})
}

// oneOf adds a jump to then if A is one of the values. If not, the program goes on.
func (p *program) oneOf(then label, values ...uint32) {
	for _, v := range values {
		next := p.label()
		p.test(bpf.JumpEqual, v, then, next)
		p.place(next)
	}
}

// jump adds an unconditional jump.
func (p *program) jump(to label) {
	p.code = append(p.code, instruction{raw: bpf.RawInstruction{Op: unix.BPF_JMP | unix.BPF_JA}, jumps: true, then: to, orElse: to})
}

// include adds a whole program, which then goes on to next where it would accept
// the packet.
func (p *program) include(raw []bpf.RawInstruction, next label) {
	refuse := p.label()
	at := make([]label, len(raw))
	for i := range at {
		at[i] = p.label()
	}
	for i, in := range raw {
		p.place(at[i])
		switch in.Op {
		case unix.BPF_RET | unix.BPF_K:
			if in.K == 0 {
				p.jump(refuse)
			} else {
				p.jump(next)
			}
		case unix.BPF_RET | unix.BPF_A:
			p.test(bpf.JumpEqual, 0, refuse, next)
		case unix.BPF_JMP | unix.BPF_JA:
			p.jump(at[i+1+int(in.K)])
		default:
			c := instruction{raw: in}
			if in.Op&7 == unix.BPF_JMP {
				c.jumps, c.then, c.orElse = true, at[i+1+int(in.Jt)], at[i+1+int(in.Jf)]
			}
			p.code = append(p.code, c)
		}
	}
	p.place(refuse)
	p.do(bpf.RetConstant{})
}

// assemble resolves the labels.
func (p *program) assemble() ([]bpf.RawInstruction, error) {
	long := make([]bool, len(p.code)) // becomes three instructions
	at := make([]int, len(p.code)+1)
	for again := true; again; {
		again = false
		for i := range p.code {
			at[i+1] = at[i] + 1
			if long[i] {
				at[i+1] += 2
			}
		}
		if at[len(p.code)] > maxInstructions {
			return nil, fmt.Errorf("the program has %d instructions; the kernel takes %d", at[len(p.code)], maxInstructions)
		}
		for i, in := range p.code {
			if !in.jumps || long[i] || in.then == in.orElse {
				continue
			}
			from := at[i] + 1
			if at[p.places[in.then]]-from > math.MaxUint8 || at[p.places[in.orElse]]-from > math.MaxUint8 {
				long[i], again = true, true
			}
		}
	}
	out := make([]bpf.RawInstruction, 0, at[len(p.code)])
	for i, in := range p.code {
		raw := in.raw
		if !in.jumps {
			out = append(out, raw)
			continue
		}
		then, orElse := at[p.places[in.then]], at[p.places[in.orElse]]
		always := func(from, to int) bpf.RawInstruction {
			return bpf.RawInstruction{Op: unix.BPF_JMP | unix.BPF_JA, K: uint32(to - from - 1)}
		}
		switch {
		case in.then == in.orElse:
			out = append(out, always(at[i], then))
		case long[i]:
			raw.Jt, raw.Jf = 0, 1
			out = append(out, raw, always(at[i]+1, then), always(at[i]+2, orElse))
		default:
			raw.Jt, raw.Jf = uint8(then-at[i]-1), uint8(orElse-at[i]-1)
			out = append(out, raw)
		}
	}
	return out, nil
}

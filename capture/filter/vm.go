package filter

import (
	"fmt"
	"math"
	"slices"

	"golang.org/x/net/bpf"
)

// Metadata is what a program can ask of a packet besides its octets: the extensions
// of classic BPF (SKF_AD_* in include/uapi/linux/filter.h).
type Metadata struct {
	Protocol    uint16 // EtherType, host byte order
	PacketType  uint8  // PACKET_*
	Interface   uint32 // index
	RxHash      uint32
	VLANTCI     uint16
	VLANTPID    uint16
	VLANPresent bool
	Len         uint32 // octets on the wire
}

// VM runs a program as the kernel would, for sources that play the kernel. It is not
// safe for concurrent use.
type VM struct {
	code  []bpf.Instruction
	asked []bpf.Extension // what the program asks of a packet's metadata, each once
	made  map[variant]*bpf.VM
}

// variant is what the machines of one program differ by.
type variant struct {
	answers [8]uint32 // to what is asked; there are as many extensions that are simulated
	// captured is that the packet is as long on the wire as in memory, which is the
	// one answer that x/net/bpf's machine has: no machine for each length then.
	captured bool
}

// maxMade bounds how many variants of a program are kept.
const maxMade = 64

// NewVM returns a machine for the program. x/net/bpf's knows no extension but the
// length, so there is one of them for each answer that the metadata gives, with the
// answers in the place of the questions. Instructions that it does not run as the
// kernel does are an error. One difference cannot be told from the program: an
// indirect load whose X + K wraps at 32 bits is beyond the packet here, and not in
// the kernel.
func NewVM(program []bpf.RawInstruction) (*VM, error) {
	v := &VM{made: map[variant]*bpf.VM{}}
	code, ok := bpf.Disassemble(program)
	if !ok {
		return nil, fmt.Errorf("the program has an instruction that is not known")
	}
	v.code = code
	for i, in := range code {
		what, negative := "", false
		switch in := in.(type) {
		case bpf.LoadExtension:
			if what = unsimulated(in.Num); what == "" && !slices.Contains(v.asked, in.Num) {
				v.asked = append(v.asked, in.Num)
			}
		case bpf.NegateA:
			what = "negates"
		case bpf.ALUOpX: // which the kernel takes modulo 32
			if in.Op == bpf.ALUOpShiftLeft || in.Op == bpf.ALUOpShiftRight {
				what = "shifts by X"
			}
		case bpf.LoadAbsolute:
			negative = in.Off > math.MaxInt32
		case bpf.LoadIndirect:
			negative = in.Off > math.MaxInt32
		case bpf.LoadMemShift:
			negative = in.Off > math.MaxInt32
		}
		if negative { // SKF_NET_OFF, SKF_LL_OFF
			what = "loads at a negative offset"
		}
		if what != "" {
			return nil, fmt.Errorf("instruction %d %s, which is not simulated", i, what)
		}
	}
	_, err := v.machine(variant{})
	return v, err
}

// unsimulated says what an extension loads that nothing here can answer.
func unsimulated(e bpf.Extension) string {
	switch e {
	case bpf.ExtLen, bpf.ExtProto, bpf.ExtType, bpf.ExtInterfaceIndex, bpf.ExtRXHash, bpf.ExtVLANTag, bpf.ExtVLANTagPresent, bpf.ExtVLANProto:
		return ""
	case bpf.ExtNetlinkAttr, bpf.ExtNetlinkAttrNested:
		return "loads a netlink attribute"
	case bpf.ExtMark:
		return "loads the mark"
	case bpf.ExtQueue:
		return "loads the queue"
	case bpf.ExtLinkLayerType:
		return "loads the hardware type"
	case bpf.ExtCPUID:
		return "loads the CPU"
	case 40: // SKF_AD_ALU_XOR_X
		return "is A ^ X as an extension"
	case bpf.ExtPayloadOffset:
		return "loads the payload offset"
	case bpf.ExtRand:
		return "loads a random number"
	}
	return fmt.Sprintf("loads the extension %d", e)
}

// Run returns how many octets of a packet the program accepts, 0 if it refuses it.
func (v *VM) Run(data []byte, m Metadata) uint32 {
	a := variant{captured: m.Len == uint32(len(data))}
	for i, e := range v.asked {
		if e != bpf.ExtLen || !a.captured {
			a.answers[i] = m.answer(e)
		}
	}
	vm, err := v.machine(a)
	if err != nil {
		return 0 // cannot be: the program is the same but for constants
	}
	n, err := vm.Run(data)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// answer returns what the kernel says to an extension that is simulated.
func (m *Metadata) answer(e bpf.Extension) uint32 {
	switch e {
	case bpf.ExtLen:
		return m.Len
	case bpf.ExtProto:
		return uint32(m.Protocol)
	case bpf.ExtType:
		return uint32(m.PacketType)
	case bpf.ExtInterfaceIndex:
		return m.Interface
	case bpf.ExtRXHash:
		return m.RxHash
	case bpf.ExtVLANTag:
		return uint32(m.VLANTCI)
	case bpf.ExtVLANProto:
		return uint32(m.VLANTPID)
	}
	if m.VLANPresent {
		return 1
	}
	return 0
}

func (v *VM) machine(a variant) (*bpf.VM, error) {
	if vm := v.made[a]; vm != nil {
		return vm, nil
	}
	code := make([]bpf.Instruction, len(v.code))
	for i, in := range v.code {
		if e, ok := in.(bpf.LoadExtension); ok && !(e.Num == bpf.ExtLen && a.captured) {
			in = bpf.LoadConstant{Dst: bpf.RegA, Val: a.answers[slices.Index(v.asked, e.Num)]}
		}
		code[i] = in
	}
	vm, err := bpf.NewVM(code)
	if err != nil {
		return nil, fmt.Errorf("filter: %w", err)
	}
	if len(v.made) >= maxMade {
		clear(v.made)
	}
	v.made[a] = vm
	return vm, nil
}

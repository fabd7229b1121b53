package filter

import (
	"fmt"

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
	asked []bpf.Extension // what the program asks of a packet's metadata
	made  map[Metadata]*bpf.VM
}

// maxMade bounds how many variants of a program are kept.
const maxMade = 64

// NewVM returns a machine for the program. x/net/bpf's knows no extension but the
// length, so there is one of them for each answer that the metadata gives, with the
// answers in the place of the questions.
func NewVM(program []bpf.RawInstruction) (*VM, error) {
	v := &VM{made: map[Metadata]*bpf.VM{}}
	code, ok := bpf.Disassemble(program)
	if !ok {
		return nil, fmt.Errorf("the program has an instruction that is not known")
	}
	v.code = code
	for i, in := range code {
		e, ok := in.(bpf.LoadExtension)
		if !ok {
			continue
		}
		switch e.Num {
		case bpf.ExtLen, bpf.ExtProto, bpf.ExtType, bpf.ExtInterfaceIndex, bpf.ExtRXHash, bpf.ExtVLANTag, bpf.ExtVLANTagPresent, bpf.ExtVLANProto:
			v.asked = append(v.asked, e.Num)
		default:
			return nil, fmt.Errorf("instruction %d loads extension %d, which is not simulated", i, e.Num)
		}
	}
	_, err := v.machine(Metadata{})
	return v, err
}

// Run returns how many octets of a packet the program accepts, 0 if it refuses it.
func (v *VM) Run(data []byte, m Metadata) uint32 {
	vm, err := v.machine(v.answers(m))
	if err != nil {
		return 0 // cannot be: the program is the same but for constants
	}
	n, err := vm.Run(data)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// answers returns m with zeros where the program does not ask.
func (v *VM) answers(m Metadata) (a Metadata) {
	for _, e := range v.asked {
		switch e {
		case bpf.ExtLen:
			a.Len = m.Len
		case bpf.ExtProto:
			a.Protocol = m.Protocol
		case bpf.ExtType:
			a.PacketType = m.PacketType
		case bpf.ExtInterfaceIndex:
			a.Interface = m.Interface
		case bpf.ExtRXHash:
			a.RxHash = m.RxHash
		case bpf.ExtVLANTag:
			a.VLANTCI = m.VLANTCI
		case bpf.ExtVLANTagPresent:
			a.VLANPresent = m.VLANPresent
		case bpf.ExtVLANProto:
			a.VLANTPID = m.VLANTPID
		}
	}
	return a
}

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

func (v *VM) machine(a Metadata) (*bpf.VM, error) {
	if vm := v.made[a]; vm != nil {
		return vm, nil
	}
	code := make([]bpf.Instruction, len(v.code))
	for i, in := range v.code {
		if e, ok := in.(bpf.LoadExtension); ok {
			in = bpf.LoadConstant{Dst: bpf.RegA, Val: a.answer(e.Num)}
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

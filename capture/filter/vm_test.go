package filter_test

import (
	"strings"
	"testing"

	"golang.org/x/net/bpf"

	"weir/capture"
	"weir/capture/filter"
)

func TestVMAllocates(t *testing.T) {
	_, vm := assemble(t, filter.Config{LinkType: capture.LinkEthernet, Length: filter.MinimalIPv6Transport, IgnoreVLANs: true})
	p := samples()[0].p
	m := metadata(&p)
	if n := testing.AllocsPerRun(100, func() { vm.Run(p.Data, m) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
	// A program that asks for the length needs no machine for each length.
	_, vm = assemble(t, filter.Config{LinkType: capture.LinkEthernet, Length: filter.MinimalIPv6Transport, All: true})
	size := 0
	if n := testing.AllocsPerRun(1000, func() {
		size = (size + 1) % len(p.Data)
		vm.Run(p.Data[:size], filter.Metadata{Len: uint32(size)})
	}); n != 0 {
		t.Fatalf("%v allocations with packets of many lengths", n)
	}
}

// TestVMMetadata asks for each part of the metadata, more often than a machine is kept for.
func TestVMMetadata(t *testing.T) {
	m := filter.Metadata{Protocol: 0x0800, PacketType: 4, Interface: 3, RxHash: 99, VLANTCI: 0x2007, VLANTPID: 0x88a8, VLANPresent: true, Len: 1500}
	for extension, want := range map[bpf.Extension]uint32{
		bpf.ExtLen: 1500, bpf.ExtProto: 0x0800, bpf.ExtType: 4, bpf.ExtInterfaceIndex: 3, bpf.ExtRXHash: 99,
		bpf.ExtVLANTag: 0x2007, bpf.ExtVLANProto: 0x88a8, bpf.ExtVLANTagPresent: 1,
	} {
		vm, err := filter.NewVM(raw(t, bpf.LoadExtension{Num: extension}, bpf.RetA{}))
		if err != nil {
			t.Fatal(err)
		}
		if n := vm.Run(make([]byte, 60), m); n != want {
			t.Errorf("extension %d: %d, want %d", extension, n, want)
		}
	}
	vm, err := filter.NewVM(raw(t, bpf.LoadExtension{Num: bpf.ExtRXHash}, bpf.RetA{}))
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint32(1000) {
		if n := vm.Run(nil, filter.Metadata{RxHash: i}); n != i {
			t.Fatalf("%d, want %d", n, i)
		}
	}
}

// TestVMRefuses gives it what it would not do as the kernel does.
func TestVMRefuses(t *testing.T) {
	for want, in := range map[string]bpf.Instruction{
		"random":          bpf.LoadExtension{Num: bpf.ExtRand},
		"CPU":             bpf.LoadExtension{Num: bpf.ExtCPUID},
		"mark":            bpf.LoadExtension{Num: bpf.ExtMark},
		"negates":         bpf.NegateA{},
		"shifts by X":     bpf.ALUOpX{Op: bpf.ALUOpShiftLeft},
		"negative offset": bpf.LoadAbsolute{Off: 0xfff00000, Size: 1}, // SKF_NET_OFF
	} {
		if _, err := filter.NewVM(raw(t, in, bpf.RetA{})); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", in, err, want)
		}
	}
	for _, program := range [][]bpf.RawInstruction{nil, {{Op: 999}}, {{Op: 0}}} {
		if _, err := filter.NewVM(program); err == nil {
			t.Errorf("%v: no error", program)
		}
	}
}

func raw(t testing.TB, program ...bpf.Instruction) []bpf.RawInstruction {
	t.Helper()
	raw, err := bpf.Assemble(program)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func BenchmarkVM(b *testing.B) {
	_, vm := assemble(b, filter.Config{LinkType: capture.LinkEthernet, Length: filter.MinimalIPv6Transport})
	p := samples()[0].p
	m := metadata(&p)
	b.ReportAllocs()
	for b.Loop() {
		vm.Run(p.Data, m)
	}
}

package filter_test

func TestVMAllocates(t *testing.T) {
	_, vm := assemble(t, filter.Config{LinkType: capture.LinkEthernet, Length: filter.MinimalIPv6Transport, IgnoreVLANs: true})
	p := samples()[0].p
	m := metadata(&p)
	if n := testing.AllocsPerRun(100, func() { vm.Run(p.Data, m) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
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

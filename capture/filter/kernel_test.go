package filter_test

// TestKernel runs the same programs in the kernel, on a socket that sees the
// samples, and compares what passes and how much of it.
func TestKernel(t *testing.T) {
	capturetest.Namespace(t)
	left, right := capturetest.Cable(t, "left", "right")
	send := capturetest.NewSender(t, left)
	for _, length := range lengths {
		for _, all := range []bool{false, true} {
			for _, extra := range []string{"", "tcp", "vlan"} {
				c := filter.Config{LinkType: capture.LinkEthernet, Length: length, All: all}
				if extra != "" {
					c.Extra = tcpdump(t, extra)
				}
				program, vm := assemble(t, c)
				fd := open(t, right, program)
				for _, s := range samples() {
					if len(s.p.Data) < 14 {
						continue // cannot be sent
					}
					if s.name == "MPLS" || strings.HasPrefix(s.name, "tag") || strings.HasPrefix(s.name, "two") || strings.HasPrefix(s.name, "three") {
						if s.name != "MPLS" {
							continue // the kernel takes the tag out: TestVLAN of afring
						}
					}
					if err := send.Send(s.p.Data); err != nil {
						t.Fatal(err)
					}
					want := min(int(vm.Run(s.p.Data, metadata(&s.p))), len(s.p.Data))
					buf := make([]byte, 2048)
					n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
					if err == unix.EAGAIN {
						n = 0
					} else if err != nil {
						t.Fatal(err)
					}
					if n != want {
						t.Errorf("%s, %v, all %v, extra %q: %d octets in the kernel, %d in the VM", s.name, length, all, extra, n, want)
					}
				}
				unix.Close(fd)
			}
		}
	}
}

func open(t *testing.T, l link.Link, program []bpf.RawInstruction) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		t.Fatal(err)
	}
	var f []unix.SockFilter
	for _, in := range program {
		f = append(f, unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K})
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: l.Index}); err != nil {
		t.Fatal(err)
	}
	return fd
}

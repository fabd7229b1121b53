package filter_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"weir/capture"
	"weir/capture/capturetest"
	"weir/capture/filter"
	"weir/capture/link"
)

// TestKernel runs the same programs in the kernel, on a socket that sees the
// samples, and compares what passes and how much of it.
func TestKernel(t *testing.T) {
	capturetest.Namespace(t)
	left, right := capturetest.Cable(t, "left", "right")
	send := capturetest.NewSender(t, left)
	// A frame may arrive after it was sent, and nothing tells that one was refused. The
	// witness gets all, and gets them last: dev_add_pack of net/core/dev.c puts
	// sockets that are opened later in front.
	witness := open(t, right, raw(t, bpf.RetConstant{Val: 1}))
	defer unix.Close(witness)
	if err := unix.SetsockoptTimeval(witness, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 30}); err != nil {
		t.Fatal(err)
	}
	programs := map[string][]bpf.RawInstruction{"": nil}
	for _, expression := range []string{"tcp", "vlan", "ip6 and greater 100", "tcp[tcpflags] & tcp-syn != 0", "ip[ip[0] & 15] = 0"} {
		programs[expression] = tcpdump(t, expression)
	}
	configs([]capture.LinkType{capture.LinkEthernet}, func(c filter.Config) {
		for extra, program := range programs {
			c.Extra = program
			program, vm := assemble(t, c)
			fd := open(t, right, program)
			for _, s := range samples() {
				for _, size := range []int{14, 15, 17, 18, 20, 33, len(s.p.Data)} {
					p, ok := untag(s.p, size)
					if !ok {
						continue
					}
					if err := send.Send(s.p.Data[:size]); err != nil {
						t.Fatal(err)
					}
					if err := receive(witness); err != nil {
						t.Fatal(err)
					}
					want := min(int(vm.Run(p.Data, metadata(&p))), len(p.Data))
					buf := make([]byte, 2048)
					n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
					if err == unix.EAGAIN {
						n = 0
					} else if err != nil {
						t.Fatal(err)
					}
					if n != want {
						t.Errorf("%s of %d octets, %v, ignore %v, all %v, extra %q: %d octets in the kernel, %d in the VM", s.name, size, c.Length, c.IgnoreVLANs, c.All, extra, n, want)
					}
				}
			}
			unix.Close(fd)
		}
	})
}

// untag returns the first octets of a packet as the kernel has it on reception: with
// the outermost tag in metadata, and not at all if the tag has not two octets behind
// it (skb_vlan_untag in net/core/skbuff.c).
func untag(p capture.Packet, size int) (capture.Packet, bool) {
	p.Data = p.Data[:size]
	if tpid := binary.BigEndian.Uint16(p.Data[12:]); tpid == 0x8100 || tpid == 0x88a8 {
		if size < 20 {
			return p, false
		}
		p.VLANTPID, p.VLANTCI = tpid, binary.BigEndian.Uint16(p.Data[14:])
		p.Data = cat(p.Data[:12], p.Data[16:])
	}
	p.WireLen = uint32(len(p.Data))
	return p, true
}

// TestKernelPrograms runs programs at random in the kernel, which filters and cuts
// datagrams by them (sk_filter_trim_cap in net/core/filter.c).
func TestKernelPrograms(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	accepted, random := 0, rand.New(rand.NewPCG(1, 2))
	all := samples()
	buf := make([]byte, 2048)
	for i := range 2000 {
		seed := make([]byte, 5+random.IntN(400))
		for j := range seed {
			seed[j] = byte(random.Uint32())
		}
		if i%2 == 0 {
			seed[0] %= 4 // short ones have more to say than their first refusal
		}
		program := anyProgram(seed)
		if i%4 == 3 {
			program, _ = assemble(t, filter.Config{LinkType: capture.LinkEthernet, Length: filter.MinimalIPv6Transport, All: true, Extra: program})
		}
		vm, err := filter.NewVM(program)
		if err != nil {
			t.Fatal(err)
		}
		attach(t, fds[1], program)
		for range 4 {
			data := all[random.IntN(len(all))].p.Data
			if _, err := unix.Write(fds[0], data); err != nil {
				t.Fatal(err)
			}
			n, _, err := unix.Recvfrom(fds[1], buf, unix.MSG_DONTWAIT)
			if err == unix.EAGAIN {
				n = 0
			} else if err != nil {
				t.Fatal(err)
			}
			want := min(int(vm.Run(data, filter.Metadata{Len: uint32(len(data))})), len(data))
			if n != want {
				t.Fatalf("program %d: %d octets in the kernel, %d in the VM\n%v", i, n, want, program)
			}
			if n > 0 {
				accepted++
			}
		}
	}
	if accepted < 1000 || accepted > 7000 {
		t.Errorf("%d of 8000 datagrams were accepted: the programs say too little", accepted)
	}
}

func open(t *testing.T, l link.Link, program []bpf.RawInstruction) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		t.Fatal(err)
	}
	attach(t, fd, program)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: l.Index}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// receive waits for a packet and forgets it.
func receive(fd int) error {
	for {
		if _, _, err := unix.Recvfrom(fd, make([]byte, 1), 0); err != unix.EINTR {
			return err
		}
	}
}

func attach(t *testing.T, fd int, program []bpf.RawInstruction) {
	t.Helper()
	var f []unix.SockFilter
	for _, in := range program {
		f = append(f, unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K})
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}); err != nil {
		t.Fatal(err)
	}
}

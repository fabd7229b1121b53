package afring_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weir/capture"
	"weir/capture/afring"
	"weir/capture/capturetest"
	"weir/capture/filter"
	"weir/capture/link"
	"weir/capture/socket"
)

// tagged puts a VLAN tag into an Ethernet frame.
func tagged(f []byte, tpid, tci uint16) []byte {
	tag := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, tpid), tci)
	return append(append(bytes.Clone(f[:12]), tag...), f[12:]...)
}

// TestVLAN holds that both ends of a cable see the same tags, although one gets them
// in line and the other from metadata, and that IgnoreVLANs goes by their presence.
func TestVLAN(t *testing.T) {
	capturetest.Namespace(t)
	left, right := capturetest.Cable(t, "left", "right")
	frames := [][]byte{
		udp(100, 0), tagged(udp(100, 1), 0x8100, 0x2064), tagged(udp(100, 2), 0x8100, 0),
		tagged(tagged(udp(100, 3), 0x8100, 102), 0x88a8, 101),
	}
	wantTags := []string{"-", "100", "0", "101"}
	for _, ignore := range []bool{false, true} {
		var rings []*afring.Ring
		for _, l := range []link.Link{left, right} {
			r, err := afring.Open(l, afring.Config{Config: socket.Config{IgnoreVLANs: ignore, CaptureLength: filter.MinimalIPv6Transport}})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			rings = append(rings, r)
		}
		s := capturetest.NewSender(t, left)
		for _, f := range frames {
			if err := s.Send(f); err != nil {
				t.Fatal(err)
			}
		}
		for _, r := range rings {
			var tags []string
			readAll(t, r, func(p *capture.Packet) {
				n := p.Network()
				if n.Cause != capture.OK || len(p.IP()) < 28 || binary.BigEndian.Uint64(p.IP()[28:]) >= uint64(len(frames)) {
					t.Fatalf("%s: %+v, %+v", r.Interfaces()[0].Name, n, p)
				}
				if n.Tagged {
					tags = append(tags, strconv.Itoa(int(n.VLAN)))
				} else {
					tags = append(tags, "-")
				}
			})
			want := wantTags
			if ignore {
				want = wantTags[:1]
			}
			if got := strings.Join(tags, " "); got != strings.Join(want, " ") {
				t.Errorf("%s, IgnoreVLANs %v: tags %s, want %s", r.Interfaces()[0].Name, ignore, got, want)
			}
		}
	}
}

// TestLoopback holds that a packet on lo is counted once, also with fanout.
func TestLoopback(t *testing.T) {
	capturetest.Namespace(t)
	lo, err := link.ByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, fanout := range []socket.Fanout{{}, {Mode: socket.FanoutHash}} {
		r, err := afring.Open(lo, afring.Config{Blocks: 4, Config: socket.Config{Fanout: fanout}})
		if err != nil {
			t.Fatal(err)
		}
		sink, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		from, err := net.Dial("udp", sink.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if _, err := from.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
		}
		if n := readAll(t, r, func(*capture.Packet) {}); n != 100 {
			t.Errorf("fanout %+v: %d packets of 100", fanout, n)
		}
		from.Close()
		sink.Close()
		r.Close()
	}
}

// TestFanout holds, while packets pour in and rings join, that each packet reaches
// exactly one ring of a group, and by hash both directions of a flow the same.
func TestFanout(t *testing.T) {
	for name, mode := range map[string]socket.FanoutMode{
		"hash": socket.FanoutHash, "cpu": socket.FanoutCPU, "balance": socket.FanoutBalance,
		"rollover": socket.FanoutRollover, "queue": socket.FanoutQueue,
	} {
		t.Run(name, func(t *testing.T) {
			capturetest.Namespace(t)
			left, right := capturetest.Cable(t, "left", "right")
			const flows, rings = 200, 3
			var group []*afring.Ring
			f := socket.Fanout{Mode: mode}
			s := capturetest.NewSender(t, left)
			number := uint64(0)
			send := func() {
				for i := range flows {
					for _, back := range []bool{false, true} {
						b := udp(80, number)
						binary.BigEndian.PutUint16(b[34:], 1000+uint16(i))
						if back { // as the answer would be
							copy(b[26:], []byte{10, 99, 0, 2, 10, 99, 0, 1})
							binary.BigEndian.PutUint16(b[34:], 2000)
							binary.BigEndian.PutUint16(b[36:], 1000+uint16(i))
						}
						number++
						if err := s.Send(b); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			for range rings {
				r, err := afring.Open(right, afring.Config{Blocks: 64, RetireTimeout: 100 * time.Millisecond, Config: socket.Config{Fanout: f}})
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				f.Group = r.FanoutGroup()
				if f.Group == 0 {
					t.Fatal("the group has no number")
				}
				group = append(group, r)
				send()
				capturetest.Arrived(t, int(number), group...)
			}
			seen := map[uint64]int{}
			where := map[uint16]map[int]bool{}
			used := 0
			for i, r := range group {
				n := readAll(t, r, func(p *capture.Packet) {
					ip := p.IP()
					k := binary.BigEndian.Uint64(ip[28:])
					seen[k]++
					port := min(binary.BigEndian.Uint16(ip[20:]), binary.BigEndian.Uint16(ip[22:]))
					if k >= 2*flows*(rings-1) { // when all were there
						if where[port] == nil {
							where[port] = map[int]bool{}
						}
						where[port][i] = true
					}
				})
				if n > 0 {
					used++
				}
				if st := r.Stats(); st.Drops != 0 || int(st.Packets) != n {
					t.Fatalf("ring %d: %+v", i, st)
				}
			}
			if len(seen) != int(number) {
				t.Fatalf("%d packets of %d", len(seen), number)
			}
			for k, n := range seen {
				if n != 1 {
					t.Fatalf("packet %d reached %d rings", k, n)
				}
			}
			if mode == socket.FanoutHash {
				for port, rings := range where {
					if len(rings) != 1 {
						t.Errorf("flow %d is on %d rings", port, len(rings))
					}
				}
			}
			if (mode == socket.FanoutHash || mode == socket.FanoutBalance) && used != rings {
				t.Errorf("%d of %d rings had packets", used, rings)
			}
		})
	}
}

func run(t *testing.T, command string) string {
	t.Helper()
	words := strings.Fields(command)
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	return string(out)
}

// counter returns a figure of an interface in a named namespace.
func counter(t *testing.T, namespace, iface, name string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(run(t, "ip netns exec "+namespace+" cat /sys/class/net/"+iface+"/statistics/"+name)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestSuperPackets sends super-packets over a wire that takes none: the segments
// and octets that the ring counts before are those that the interface at the other
// end counts.
//
//	left === right|bridge|out (offloads off) === far
func TestSuperPackets(t *testing.T) {
	capturetest.Namespace(t)
	near, far := fmt.Sprintf("weir-b%d", os.Getpid()), fmt.Sprintf("weir-c%d", os.Getpid())
	for _, ns := range []string{near, far} {
		run(t, "ip netns add "+ns)
		defer exec.Command("ip", "netns", "del", ns).Run()
	}
	run(t, "ip link add left type veth peer name right netns "+near)
	run(t, "ip -n "+near+" link add out type veth peer name far netns "+far)
	run(t, "ip -n "+near+" link add br0 type bridge")
	for _, l := range []string{"right", "out"} {
		run(t, "ip -n "+near+" link set "+l+" master br0 up")
	}
	run(t, "ip -n "+near+" link set br0 up")
	run(t, "ip netns exec "+near+" ethtool -K out tso off gso off tx off sg off")
	run(t, "ip -n "+far+" address add 10.99.0.2/24 dev far")
	run(t, "ip -n "+far+" link set far up")
	run(t, "ip address add 10.99.0.1/24 dev left")
	capturetest.NoIPv6(t, "left")
	run(t, "ip link set left up")
	l, err := link.ByName("left")
	if err != nil {
		t.Fatal(err)
	}
	r, err := afring.Open(l, afring.Config{Blocks: 64, Config: socket.Config{CaptureLength: filter.MinimalIPv6Transport, NoFilter: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	packets, octets := counter(t, far, "far", "rx_packets"), counter(t, far, "far", "rx_bytes")
	server := exec.Command("ip", "netns", "exec", far, "iperf3", "-s", "-1", "--forceflush")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { server.Process.Kill(); server.Wait() }()
	for range 100 { // until it listens
		if strings.Contains(run(t, "ip netns exec "+far+" ss -ltn"), ":5201") {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	run(t, "iperf3 -c 10.99.0.2 -n 30M")
	// Within the same time, or what others send meanwhile is in one of the two only.
	super, segments, bytes := 0, 0, 0
	read := readAll(t, r, func(p *capture.Packet) {
		if p.Type != capture.PacketOutgoing {
			return
		}
		n := p.Segments()
		if n > 1 {
			super++
		}
		segments += n
		bytes += int(p.WireLen) + (n-1)*int(p.GSOHeader)
	})
	packets = counter(t, far, "far", "rx_packets") - packets
	octets = counter(t, far, "far", "rx_bytes") - octets
	if super == 0 || segments == read {
		t.Fatalf("%d packets, none of them a super-packet", read)
	}
	// Frames of the bridge itself and of IPv6 neighbour discovery reach far, too.
	if d := packets - segments; d < 0 || d > 20 || octets-bytes < 60*d-20*60 || octets-bytes > 120*20 {
		t.Fatalf("%d super-packets: %d segments of %d octets; the other end had %d of %d", super, segments, bytes, packets, octets)
	}
	if st := r.Stats(); st.Drops != 0 {
		t.Fatalf("%+v", st)
	}
}

// tun makes a tun device of a hardware type.
func tun(t *testing.T, name string, hardware int) *os.File {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "tun")
	t.Cleanup(func() { f.Close() })
	request, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETLINK, hardware); err != nil {
		t.Fatal(err)
	}
	capturetest.NoIPv6(t, name)
	return f
}

// TestHardwareTypes captures on devices of every type that has a word in capture/link,
// and of one that nobody knows.
func TestHardwareTypes(t *testing.T) {
	capturetest.Namespace(t)
	ip := udp(100, 7)[14:]
	for _, hardware := range []int{
		unix.ARPHRD_NONE, unix.ARPHRD_RAWIP, unix.ARPHRD_PPP, unix.ARPHRD_CISCO, unix.ARPHRD_TUNNEL, unix.ARPHRD_TUNNEL6,
		unix.ARPHRD_SIT, unix.ARPHRD_IPGRE, unix.ARPHRD_IP6GRE, 4711,
	} {
		name := fmt.Sprintf("t%d", hardware)
		f := tun(t, name, hardware)
		run(t, "ip link set "+name+" up")
		l, err := link.ByName(name)
		if err != nil {
			t.Fatal(err)
		}
		r, err := afring.Open(l, afring.Config{Blocks: 4, Config: socket.Config{CaptureLength: filter.MinimalIPv4Transport}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(ip); err != nil {
			t.Fatal(err)
		}
		n := readAll(t, r, func(p *capture.Packet) {
			if got := p.IP(); !bytes.Equal(got, ip[:40]) || int(p.WireLen) != len(ip) {
				t.Errorf("type %s: % x of %d octets, want % x of %d", l.HardwareName(), got, p.WireLen, ip[:40], len(ip))
			}
		})
		if n != 1 {
			t.Errorf("type %s: %d packets", l.HardwareName(), n)
		}
		r.Close()
		f.Close()
	}
	for _, hardware := range []int{unix.ARPHRD_CAN, unix.ARPHRD_NETLINK, unix.ARPHRD_IEEE80211_PRISM} {
		name := fmt.Sprintf("t%d", hardware)
		f := tun(t, name, hardware)
		run(t, "ip link set "+name+" up")
		_, err := afring.NewSource(name)
		if !errors.Is(err, link.ErrUnsupported) || !strings.Contains(err.Error(), fmt.Sprint(hardware)) {
			t.Errorf("type %d: %v", hardware, err)
		}
		f.Close()
	}
}

// TestSetupErrors holds that what cannot be is said, and leaves no descriptor.
func TestSetupErrors(t *testing.T) {
	capturetest.Namespace(t)
	_, right := capturetest.Cable(t, "left", "right")
	before := capturetest.OpenFiles(t)
	if _, err := afring.NewSource("nowhere"); !errors.Is(err, link.ErrNotFound) || !strings.Contains(err.Error(), "right") {
		t.Error(err)
	}
	for name, options := range map[string][]afring.Option{
		"block size": {afring.BufferSize(1000, 4)},
		"blocks":     {afring.BufferSize(1<<20, 1)},
		"retire":     {afring.RetireTimeout(time.Microsecond)},
		"busy":       {afring.BusyPoll(-1)},
		"fanout":     {afring.Fanout(socket.Fanout{Group: 4})},
		"hardware":   {afring.Timestamps(socket.TimestampsHardware)},
	} {
		if r, err := afring.NewSourceFromLink(right, options...); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "right") {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	run(t, "ip link set right down")
	if _, err := afring.NewSource("right"); !errors.Is(err, link.ErrDown) {
		t.Error(err)
	}
	if after := capturetest.OpenFiles(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// TestLargeRing maps a ring whose octets do not fit 32 bits.
func TestLargeRing(t *testing.T) {
	capturetest.Namespace(t)
	left, right := capturetest.Cable(t, "left", "right")
	r, err := afring.Open(right, afring.Config{BlockSize: 4 << 20, Blocks: 1025})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := capturetest.NewSender(t, left)
	if err := s.Send(udp(60, 1)); err != nil {
		t.Fatal(err)
	}
	if n := readAll(t, r, func(*capture.Packet) {}); n != 1 {
		t.Fatalf("%d packets", n)
	}
}

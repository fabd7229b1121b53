package link

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"weir/capture"
	"weir/internal/lack"
)

// namespace moves the test's goroutine into a new network namespace, which ends with
// the test. (capturetest has the same, and imports this package.)
func namespace(t testing.TB) {
	t.Helper()
	lack.Root(t)
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(os.NewSyscallError("unshare", err))
	}
}

// ip runs ip(8) in the namespace.
func ip(t testing.TB, args ...string) {
	t.Helper()
	if len(args) == 1 {
		args = strings.Fields(args[0])
	}
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %q: %v: %s", args, err, out)
	}
}

// tun makes a tun interface; TUNSETLINK on what it returns changes its type.
func tun(t testing.TB, name string) int {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(os.NewSyscallError("open /dev/net/tun", err))
	}
	t.Cleanup(func() { unix.Close(fd) })
	r, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err != nil {
		t.Fatal(os.NewSyscallError("TUNSETIFF", err))
	}
	return fd
}

func byName(t testing.TB, name string) Link {
	t.Helper()
	l, err := ByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestAll(t *testing.T) {
	namespace(t)
	if l := byName(t, "lo"); l.Up || !errors.Is(l.Capturable(), ErrDown) {
		t.Errorf("a new namespace has %+v", l)
	}
	ip(t, "link set lo up")
	ip(t, "link add br0 type bridge")
	ip(t, "link add name a type veth peer name b")
	ip(t, "link set dev a mtu 1400 master br0 up")
	ip(t, "addr add 192.0.2.1/24 dev b")
	ip(t, "addr add 192.0.2.2 peer 198.51.100.1/32 dev b")
	ip(t, "addr add 2001:db8::1/64 dev b nodad")
	links, err := All()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(links, byIndex) {
		t.Errorf("not sorted: %+v", links)
	}
	lo, a, b, br := byName(t, "lo"), byName(t, "a"), byName(t, "b"), byName(t, "br0")
	for _, l := range []Link{lo, a, b, br} {
		got, err := ByIndex(l.Index)
		if err != nil || !reflect.DeepEqual(got, l) || !slices.ContainsFunc(links, func(m Link) bool { return reflect.DeepEqual(l, m) }) {
			t.Errorf("%+v, by its index %+v, %v, in %+v", l, got, err, links)
		}
	}
	if !lo.Up || !lo.Running || lo.Kind != "" || lo.Hardware != unix.ARPHRD_LOOPBACK || lo.Capturable() != nil {
		t.Errorf("%+v", lo)
	}
	if !a.Up || a.Running || a.Kind != "veth" || a.MTU != 1400 || a.Master != br.Index || a.IsVLAN || a.Parent != 0 || a.Capturable() != nil {
		t.Errorf("up without a carrier, member of br0: %+v", a)
	}
	if br.Kind != "bridge" || br.Master != 0 {
		t.Errorf("%+v", br)
	}
	for _, want := range []string{"192.0.2.1/24", "192.0.2.2/32", "2001:db8::1/64"} {
		if !slices.Contains(b.Addresses, netip.MustParsePrefix(want)) {
			t.Errorf("%s is missing in %v", want, b.Addresses)
		}
	}
	if _, err := ByIndex(1 << 20); !errors.Is(err, ErrNotFound) {
		t.Errorf("ByIndex: %v", err)
	}
	if _, err := ByName("br1"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "there are br0, b,") {
		t.Errorf("ByName: %v", err)
	}
}

// TestDump lists more interfaces than one message of the kernel holds.
func TestDump(t *testing.T) {
	namespace(t)
	const pairs = 150
	for i := range pairs {
		ip(t, fmt.Sprintf("link add a%d type veth peer name b%d", i, i))
	}
	links, err := All()
	if err != nil || len(links) != 2*pairs+1 {
		t.Fatalf("%d interfaces, %v", len(links), err)
	}
}

func TestNameWithControlBytes(t *testing.T) {
	namespace(t)
	const name = "\x1b[31m;'$x"
	ip(t, "link", "add", name, "type", "veth", "peer", "name", "peer")
	l := byName(t, name)
	_, err := ByName("none")
	for _, err := range []error{err, l.Capturable()} {
		if err == nil || strings.Contains(err.Error(), "\x1b") || !strings.Contains(err.Error(), `"\x1b[31m;'$x"`) {
			t.Errorf("%q", err)
		}
	}
	if out, err := exec.Command("ip", "link", "add", AllUp, "type", "veth").CombinedOutput(); err == nil {
		t.Errorf("the kernel has let an interface be called %s: %s", AllUp, out)
	}
}

// TestHardware gives an interface of the kernel every type of the table, and some
// that are not in it.
func TestHardware(t *testing.T) {
	namespace(t)
	fd := tun(t, "x0")
	raw := map[uint16]capture.LinkType{
		1: capture.LinkEthernet, 519: capture.LinkRaw, 772: capture.LinkLoopback, 801: capture.Link80211,
		803: capture.Link80211Radio, 65534: capture.LinkNone,
	}
	refused := map[uint16]string{
		280: "CAN", 783: "IRDA", 802: "IEEE80211_PRISM", 804: "IEEE802154", 805: "IEEE802154_MONITOR", 824: "NETLINK", 826: "VSOCKMON",
	}
	// LocalTalk has addresses of one byte, FireWire of 16.
	others := []uint16{32, 256, 512, 513, 768, 769, 773, 776, 778, 779, 823, 24, 65000}
	seen := 0
	check := func(hardware uint16, link capture.LinkType, cooked bool, name string) {
		t.Helper()
		if err := unix.IoctlSetInt(fd, unix.TUNSETLINK, int(hardware)); err != nil {
			t.Fatalf("TUNSETLINK %d: %v", hardware, err)
		}
		l := byName(t, "x0")
		if _, ok := types[hardware]; ok {
			seen++
		}
		got, gotCooked, err := l.LinkType()
		if l.Hardware != hardware || got != link || gotCooked != cooked {
			t.Errorf("%d: hardware %d, %v, cooked %v, %v", hardware, l.Hardware, got, gotCooked, err)
		}
		if name == "" {
			if err != nil || !errors.Is(l.Capturable(), ErrDown) || !got.Supported() {
				t.Errorf("%d: %v, %v", hardware, err, l.Capturable())
			}
			return
		}
		want := fmt.Sprintf("%s (%d)", name, hardware)
		if !errors.Is(err, ErrUnsupported) || !errors.Is(l.Capturable(), ErrUnsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v does not say %s", hardware, err, want)
		}
	}
	for hardware, link := range raw {
		check(hardware, link, false, "")
	}
	for hardware, name := range refused {
		check(hardware, 0, false, name)
	}
	for _, hardware := range others {
		check(hardware, capture.LinkCooked, true, "")
	}
	if seen != len(types) {
		t.Errorf("%d of the table's %d types were tried", seen, len(types))
	}
	if got := (&Link{Hardware: 65000}).HardwareName(); got != "65000" {
		t.Errorf("unknown type is called %s", got)
	}
}

// vlan is a message as the kernel sends it for a VLAN device; elsewhere puts the
// parent into another namespace.
func vlan(t testing.TB, elsewhere bool) []byte {
	t.Helper()
	e := netlink.NewAttributeEncoder()
	e.String(unix.IFLA_IFNAME, "eth0.7")
	e.Uint32(unix.IFLA_LINK, 3)
	if elsewhere {
		e.Uint32(unix.IFLA_LINK_NETNSID, 0)
	}
	e.Nested(unix.IFLA_LINKINFO, func(e *netlink.AttributeEncoder) error {
		e.String(unix.IFLA_INFO_KIND, "vlan")
		e.Nested(unix.IFLA_INFO_DATA, func(e *netlink.AttributeEncoder) error {
			e.Uint16(unix.IFLA_VLAN_ID, 7)
			return nil
		})
		return nil
	})
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return append(make([]byte, unix.SizeofIfInfomsg), b...)
}

func TestVLAN(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		want := Link{Name: "eth0.7", Kind: "vlan", IsVLAN: true, VLAN: 7, Parent: 3}
		if elsewhere {
			want.Parent = 0
		}
		if l, err := decodeLink(vlan(t, elsewhere)); err != nil || !reflect.DeepEqual(l, want) {
			t.Errorf("%+v, %v; want %+v", l, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(vlan(f, false))
	f.Add(vlan(f, true))
	f.Add(statistics(f, 24*8))
	f.Add(statistics(f, 20))
	f.Add([]byte{2, 24, 0, 0, 1, 0, 0, 0, 8, 0, 1, 0, 192, 0, 2, 1})
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = decodeLink(b)
		_, _, _ = decodeAddress(b)
		_, _, _, _ = decodeCounters(b)
	})
}

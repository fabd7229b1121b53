package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// statistic returns a counter as sysfs has it, mounted for the test's namespace: the one
// that the test's process sees elsewhere is another namespace's.
func statistic(t *testing.T, sys, name, counter string) uint64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("%s/class/net/%s/statistics/%s", sys, name, counter))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// emit sends frames of 100 octets out of an interface.
func emit(t *testing.T, l Link, frames int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	frame := make([]byte, 100)
	frame[12], frame[13] = 0x88, 0xb5 // for experiments (IEEE 802)
	for range frames {
		if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: l.Index}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAllCounters(t *testing.T) {
	namespace(t)
	sys := t.TempDir()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil { // the thread ends with the test
		t.Fatal(os.NewSyscallError("unshare", err))
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("sysfs", sys, "sysfs", unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(sys, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ip(t, "link set lo up")
	ip(t, "link add name a type veth peer name b")
	for _, name := range []string{"a", "b"} {
		ip(t, "link set dev "+name+" addrgenmode none up")
	}
	a, b := byName(t, "a"), byName(t, "b")
	before, err := AllCounters()
	if err != nil {
		t.Fatal(err)
	}
	emit(t, a, 7)
	emit(t, b, 3)
	emit(t, byName(t, "lo"), 5)
	after, err := AllCounters()
	if err != nil {
		t.Fatal(err)
	}
	if len(after) != 3 {
		t.Errorf("%d interfaces, want 3", len(after))
	}
	for _, w := range []struct {
		name   string
		rx, tx uint64
	}{{"a", 3, 7}, {"b", 7, 3}, {"lo", 5, 5}} {
		l := byName(t, w.name)
		x, y := before[l.Index], after[l.Index]
		if rx, tx := y.RxPackets-x.RxPackets, y.TxPackets-x.TxPackets; rx != w.rx || tx != w.tx {
			t.Errorf("%s: received %d, sent %d, want %d and %d", w.name, rx, tx, w.rx, w.tx)
		}
		octets := uint64(100)
		if w.name == "lo" {
			octets -= 14 // it takes the header off before it counts (loopback_xmit in drivers/net/loopback.c)
		}
		if rx, tx := y.RxBytes-x.RxBytes, y.TxBytes-x.TxBytes; rx != octets*w.rx || tx != octets*w.tx {
			t.Errorf("%s: octets received %d, sent %d", w.name, rx, tx)
		}
		for counter, got := range map[string]uint64{"rx_packets": y.RxPackets, "tx_packets": y.TxPackets, "rx_bytes": y.RxBytes, "tx_bytes": y.TxBytes,
			"rx_dropped": y.RxDropped, "tx_dropped": y.TxDropped, "rx_missed_errors": y.RxMissed} {
			if want := statistic(t, sys, w.name, counter); got != want {
				t.Errorf("%s: %s is %d, sysfs says %d", w.name, counter, got, want)
			}
		}
	}
	// A veth whose peer is down drops what it is to send.
	ip(t, "link set dev b down")
	if after, err = AllCounters(); err != nil {
		t.Fatal(err)
	}
	if got, want := after[a.Index].TxDropped, statistic(t, sys, "a", "tx_dropped"); got != want {
		t.Errorf("tx_dropped is %d, sysfs says %d", got, want)
	}
}

// statistics returns a link with a struct rtnl_link_stats64 of so many octets, whose
// fields are 1, 2, 3, ...
func statistics(t testing.TB, octets int) []byte {
	t.Helper()
	var stats []byte
	for i := range uint64(octets/8 + 1) {
		stats = binary.NativeEndian.AppendUint64(stats, i+1)
	}
	e := netlink.NewAttributeEncoder()
	e.String(unix.IFLA_IFNAME, "eth0")
	e.Bytes(unix.IFLA_STATS64, stats[:octets])
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	info := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(info[4:], 9)
	return append(info, b...)
}

func TestDecodeCounters(t *testing.T) {
	want := Counters{RxPackets: 1, TxPackets: 2, RxBytes: 3, TxBytes: 4, RxDropped: 7, TxDropped: 8, RxMissed: 16}
	for _, octets := range []int{16 * 8, 24 * 8, 25 * 8, 100 * 8} { // of an old kernel, a newer one, a future one
		if index, c, ok, err := decodeCounters(statistics(t, octets)); err != nil || !ok || index != 9 || c != want {
			t.Errorf("%d octets: %d, %+v, %v, %v", octets, index, c, ok, err)
		}
	}
	for _, octets := range []int{0, 7, 16*8 - 1} {
		if _, c, ok, err := decodeCounters(statistics(t, octets)); !errors.Is(err, errShort) || ok || c != (Counters{}) {
			t.Errorf("%d octets: %+v, %v, %v", octets, c, ok, err)
		}
	}
	if _, _, ok, err := decodeCounters(vlan(t, false)); ok || err != nil {
		t.Errorf("a link without counters: %v, %v", ok, err)
	}
	if _, _, _, err := decodeCounters(make([]byte, unix.SizeofIfInfomsg-1)); !errors.Is(err, errShort) {
		t.Errorf("cut: %v", err)
	}
}

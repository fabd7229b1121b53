// Package capturetest gives tests a piece of network of their own: a namespace, and
// in it the two ends of a cable.
package capturetest

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weir/capture"
	"weir/capture/link"
	"weir/internal/lack"
)

// Namespace moves the test's goroutine into a new network namespace, which ends
// with the test. Sockets that it opens are in there; other goroutines are not.
func Namespace(t testing.TB) {
	t.Helper()
	lack.Root(t)
	// Never unlocked: the runtime ends the thread with the goroutine.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(os.NewSyscallError("unshare", err))
	}
	IP(t, "link set lo up")
}

// IP runs ip(8) in the current namespace.
func IP(t testing.TB, arguments string) {
	t.Helper()
	// A child begins in the namespace of the thread that makes it.
	if out, err := exec.Command("ip", strings.Fields(arguments)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", arguments, err, out)
	}
}

// Cable makes a pair of veth interfaces in the current namespace. What is sent
// into one comes out of the other. Nothing but the test sends: IPv6 is off.
func Cable(t testing.TB, a, b string) (link.Link, link.Link) {
	t.Helper()
	IP(t, "link add "+a+" type veth peer name "+b)
	NoIPv6(t, a)
	NoIPv6(t, b)
	ends := Up(t, a, b)
	return ends[0], ends[1]
}

// Up sets interfaces up and waits until they have a carrier: before that they lose
// what is sent.
func Up(t testing.TB, names ...string) []link.Link {
	t.Helper()
	for _, name := range names {
		IP(t, "link set "+name+" up")
	}
	var links []link.Link
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		links = links[:0]
		for _, name := range names {
			l, err := link.ByName(name)
			if err != nil {
				t.Fatal(err)
			}
			if l.Running {
				links = append(links, l)
			}
		}
		if len(links) == len(names) {
			return links
		}
	}
	t.Fatalf("of %v only %v have a carrier", names, links)
	return nil
}

// NoIPv6 keeps the kernel from sending packets of its own on an interface.
func NoIPv6(t testing.TB, name string) {
	t.Helper()
	// Of the namespace of the thread that opens it; not there if there is no IPv6.
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

// Sender sends frames as they are.
type Sender struct {
	t    testing.TB
	fd   int
	Sent int
}

// Arrived waits until that many packets have passed the filters of all the sources. A
// busy kernel delivers some time after it was sent, and has room for 1,000 packets
// in between (net.core.netdev_max_backlog): whoever sends more has to wait now and
// then.
func Arrived[S interface{ Stats() capture.Stats }](t testing.TB, packets int, sources ...S) {
	t.Helper()
	var sum uint64
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		sum = 0
		for _, s := range sources {
			sum += s.Stats().Received
		}
		if sum >= uint64(packets) {
			return
		}
	}
	t.Fatalf("%d packets have arrived, not %d", sum, packets)
}

// NewSender returns a sender on an interface.
func NewSender(t testing.TB, l link.Link) *Sender {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(os.NewSyscallError("socket", err))
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: l.Index}); err != nil {
		t.Fatal(os.NewSyscallError("bind", err))
	}
	return &Sender{t: t, fd: fd}
}

// Send sends one frame, beginning with the Ethernet header. It returns the error of
// an interface that is down or gone.
func (s *Sender) Send(frame []byte) error {
	for {
		_, err := unix.Write(s.fd, frame)
		switch err {
		case nil:
			s.Sent++
			return nil
		case unix.EINTR, unix.ENOBUFS, unix.EAGAIN:
			continue
		}
		return os.NewSyscallError("send", err)
	}
}

// WaitForCapture waits until somebody captures in the current namespace.
func WaitForCapture(t testing.TB) {
	t.Helper()
	const header = 1 // line of /proc/net/packet
	seen := false
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile("/proc/thread-self/net/packet")
		if err != nil {
			t.Fatal(err)
		}
		// Those of senders are bound to no protocol, which is the fourth column.
		for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n")[header:] {
			if f := strings.Fields(line); len(f) > 3 && f[3] == "0003" {
				if seen { // since the last look: its filter is in place by now
					return
				}
				seen = true
				break
			}
		}
	}
	t.Fatal("nobody captures")
}

// UDP returns an Ethernet frame of size octets, 50 at the least, with a UDP datagram
// from 10.99.0.1, port 1000 to 1499 by the number, to 10.99.0.2, port 2000. Its
// payload begins with the number.
func UDP(size int, number uint64) []byte {
	f := make([]byte, max(size, 50))
	copy(f, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45})
	binary.BigEndian.PutUint16(f[16:], uint16(len(f)-14))
	f[22], f[23] = 64, 17
	copy(f[26:], []byte{10, 99, 0, 1, 10, 99, 0, 2})
	binary.BigEndian.PutUint16(f[34:], 1000+uint16(number%500))
	binary.BigEndian.PutUint16(f[36:], 2000)
	binary.BigEndian.PutUint16(f[38:], uint16(len(f)-34))
	binary.BigEndian.PutUint64(f[42:], number)
	return f
}

// Flood sends the frame over and over until the test ends.
func (s *Sender) Flood(frame []byte) {
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			if err := s.Send(frame); err != nil {
				s.t.Error(err)
				return
			}
		}
	}()
	s.t.Cleanup(func() {
		stop.Store(true)
		<-done
	})
}

// OpenFiles returns how many descriptors the process has.
func OpenFiles(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

// GoneWhileWaiting lets a reader of the source get one packet and wait for the next,
// deletes what it captures on, and holds that the reader learns of it.
func GoneWhileWaiting(t testing.TB, src capture.Source, send, remove func()) {
	t.Helper()
	first, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for read := false; ; {
			packets, err := src.NextBatch()
			if len(packets) > 0 && !read {
				read = true
				close(first)
			}
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	send()
	<-first
	remove()
	select {
	case err := <-ended:
		if !errors.Is(err, capture.ErrLinkGone) {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the reader still waits")
	}
}

// Package socket opens AF_PACKET sockets as the sources above it need them:
// filtered before they see the first packet, waited for with the runtime's poller,
// with counts that reading does not reset. See packet(7).
package socket

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"weir/capture"
	"weir/capture/filter"
	"weir/capture/link"
)

var _ Port = (*Socket)(nil)

// Socket is an open packet socket. Wait belongs to one goroutine; the other
// methods may be called from any.
type Socket struct {
	link     link.Link
	linkType capture.LinkType
	cooked   bool
	group    uint16

	file  *os.File
	raw   syscall.RawConn
	count counter

	// Of Wait.
	poll  func(fd uintptr) bool
	ready func() bool
	down  error
}

// Kind says how the reader of a socket wants it prepared.
type Kind interface {
	// Prepare is called before the socket receives anything. raw says whether
	// packets come with their link-layer header.
	Prepare(fd int, raw bool) error
	// Count reads and resets the socket's statistics. Freezes are those of a ring.
	Count(fd int) (received, drops, freezes uint32, err error)
}

// Open opens a socket on an interface. Errors name what failed, and wrap those of
// the system: os.ErrPermission without CAP_NET_RAW, [link.ErrDown] for an
// interface that is down, [link.ErrUnsupported] for one that carries no IP.
func Open(l link.Link, c *Config, kind Kind) (s *Socket, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if err := l.Capturable(); err != nil {
		return nil, fmt.Errorf("capture on %s: %w", l.Name, err)
	}
	s = &Socket{link: l}
	if s.linkType, s.cooked, err = l.LinkType(); err != nil {
		return nil, fmt.Errorf("capture on %s: %w", l.Name, err)
	}
	program, err := filter.Config{
		LinkType: s.linkType, Length: c.CaptureLength, IgnoreVLANs: c.IgnoreVLANs, All: c.NoFilter, Extra: c.Filter,
	}.Assemble()
	if err != nil {
		return nil, fmt.Errorf("filter for %s: %w", l.Name, err)
	}
	kindOfSocket := unix.SOCK_RAW
	if s.cooked {
		kindOfSocket = unix.SOCK_DGRAM
	}
	// Protocol 0: it receives nothing until it is bound to one.
	fd, err := unix.Socket(unix.AF_PACKET, kindOfSocket|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		err = os.NewSyscallError("socket", err)
		if errors.Is(err, os.ErrPermission) {
			err = fmt.Errorf("%w: it needs CAP_NET_RAW: run as root, or setcap cap_net_raw+ep on the program", err)
		}
		return nil, fmt.Errorf("capture on %s: %w", l.Name, err)
	}
	if err := s.setUp(fd, c, kind, program); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("capture on %s: %w", l.Name, err)
	}
	s.file = os.NewFile(uintptr(fd), "packet socket of "+l.Name)
	if s.raw, err = s.file.SyscallConn(); err != nil {
		s.file.Close()
		return nil, fmt.Errorf("capture on %s: %w", l.Name, err)
	}
	s.count.read = kind.Count
	s.poll = s.pollOnce
	return s, nil
}

// refuseAll keeps packets out while a socket is bound and not yet what it is to
// be: a member of its fanout group above all, as until then it would get packets
// that others of the group get, too.
var refuseAll = []bpf.RawInstruction{{Op: unix.BPF_RET | unix.BPF_K}}

func (s *Socket) setUp(fd int, c *Config, kind Kind, program []bpf.RawInstruction) error {
	set := func(name string, option, value int) error {
		return os.NewSyscallError("setsockopt "+name, unix.SetsockoptInt(fd, unix.SOL_PACKET, option, value))
	}
	if err := attach(fd, refuseAll); err != nil {
		return err
	}
	if !s.cooked {
		// Before each packet comes what it is made of if it is a super-packet
		// (packet(7), linux/virtio_net.h). Only raw sockets have it.
		if err := set("PACKET_VNET_HDR", unix.PACKET_VNET_HDR, 1); err != nil {
			return err
		}
	}
	ignoreOutgoing := c.IgnoreOutgoing || s.linkType == capture.LinkLoopback
	if ignoreOutgoing {
		if err := set("PACKET_IGNORE_OUTGOING", unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return err
		}
	}
	if c.Timestamps == TimestampsHardware {
		if err := stampInHardware(fd, s.link.Name); err != nil {
			return err
		}
		if err := set("PACKET_TIMESTAMP", unix.PACKET_TIMESTAMP, unix.SOF_TIMESTAMPING_RAW_HARDWARE); err != nil {
			return err
		}
	}
	if err := kind.Prepare(fd, !s.cooked); err != nil {
		return err
	}
	if c.Promiscuous {
		member := unix.PacketMreq{Ifindex: int32(s.link.Index), Type: unix.PACKET_MR_PROMISC}
		err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &member)
		if err != nil {
			return os.NewSyscallError("setsockopt PACKET_ADD_MEMBERSHIP", err)
		}
	}
	address := unix.SockaddrLinklayer{Protocol: HostOrder(unix.ETH_P_ALL), Ifindex: s.link.Index}
	if err := unix.Bind(fd, &address); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if c.Fanout.Mode != FanoutNone {
		if err := set("PACKET_FANOUT", unix.PACKET_FANOUT, c.Fanout.argument(ignoreOutgoing)); err != nil {
			return err
		}
		group, err := unix.GetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT)
		if err != nil {
			return os.NewSyscallError("getsockopt PACKET_FANOUT", err)
		}
		s.group = uint16(group)
	}
	return attach(fd, program)
}

func attach(fd int, program []bpf.RawInstruction) error {
	f := make([]unix.SockFilter, len(program))
	for i, in := range program {
		f[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]})
	return os.NewSyscallError("setsockopt SO_ATTACH_FILTER", err)
}

// stampInHardware has the card stamp what it receives, unless it does so already.
func stampInHardware(fd int, name string) error {
	const what = "hardware timestamps"
	now, err := unix.IoctlGetHwTstamp(fd, name)
	if err == nil && now.Rx_filter == unix.HWTSTAMP_FILTER_ALL {
		return nil
	}
	wanted := unix.HwTstampConfig{Rx_filter: unix.HWTSTAMP_FILTER_ALL}
	if err == nil {
		wanted.Tx_type = now.Tx_type
	}
	err = unix.IoctlSetHwTstamp(fd, name, &wanted)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ERANGE):
		return fmt.Errorf("%s: the driver cannot stamp all packets; use software timestamps (%w)", what, err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s: switching them on needs CAP_NET_ADMIN: %w", what, err)
	case err != nil:
		return fmt.Errorf("%s: %w", what, os.NewSyscallError("ioctl SIOCSHWTSTAMP", err))
	}
	return nil
}

// Interface returns where the socket captures.
func (s *Socket) Interface() capture.Interface {
	return capture.Interface{Name: s.link.Name, LinkType: s.linkType, Index: s.link.Index}
}

// Raw reports whether packets come with their link-layer header, and with a
// virtio_net_hdr before it.
func (s *Socket) Raw() bool { return !s.cooked }

// FanoutGroup returns the number of the socket's group, 0 if it is in none.
func (s *Socket) FanoutGroup() uint16 { return s.group }

// Control calls f with the descriptor, which stays open and the socket's own.
func (s *Socket) Control(f func(fd uintptr)) error { return s.raw.Control(f) }

// Wait returns nil once ready says so. It asks when it begins and whenever the
// socket has something to say. The error is os.ErrDeadlineExceeded after the
// deadline or a Wake, and capture.ErrLinkGone if the interface was deleted; that
// it is down is no error, as it may come up again. Wait does not allocate.
func (s *Socket) Wait(ready func() bool, deadline time.Time) error {
	s.ready, s.down = ready, nil
	if err := s.file.SetReadDeadline(deadline); err != nil {
		return fmt.Errorf("wait on %s: %w", s.link.Name, err)
	}
	// After the deadline is set, or a Wake before it would be lost.
	if ready() {
		return nil
	}
	err := s.raw.Read(s.poll)
	if err == nil {
		err = s.down
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// Of a deletion the kernel says only that the interface is down, before its
		// index is taken from the socket; nothing comes after that.
		if gone := s.LinkState(); gone != nil {
			return gone
		}
		return err
	}
	if err == nil || errors.Is(err, capture.ErrLinkGone) {
		return err
	}
	return fmt.Errorf("wait on %s: %w", s.link.Name, err)
}

// pollOnce reports whether there is no more to wait for.
func (s *Socket) pollOnce(fd uintptr) bool {
	if s.ready() {
		return true
	}
	// Reading the error clears it. It is ENETDOWN both for an interface that is
	// down and for one that was deleted (packet_notifier in net/packet/af_packet.c).
	code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		s.down = os.NewSyscallError("getsockopt SO_ERROR", err)
		return true
	}
	if code == 0 {
		return false
	}
	switch e := unix.Errno(code); e {
	case unix.ENETDOWN:
	case unix.EINVAL:
		s.CountDrop()
		return s.ready()
	default:
		s.down = e
		return true
	}
	if gone(int(fd)) {
		s.down = capture.ErrLinkGone
		return true
	}
	return false
}

// LinkState returns capture.ErrLinkGone if the interface was deleted. It is for a
// reader whom a system call told that the network is down.
func (s *Socket) LinkState() (err error) {
	cerr := s.raw.Control(func(fd uintptr) {
		if gone(int(fd)) {
			err = capture.ErrLinkGone
		}
	})
	if cerr != nil {
		return cerr
	}
	return err
}

// gone reports whether the interface was deleted: the kernel then takes its index
// from the socket.
func gone(fd int) bool {
	address, err := unix.Getsockname(fd)
	if err != nil {
		return true
	}
	l, ok := address.(*unix.SockaddrLinklayer)
	return !ok || l.Ifindex <= 0
}

// Wake makes Wait return.
func (s *Socket) Wake() {
	_ = s.file.SetReadDeadline(time.Unix(1, 0)) // fails only where it is closed
}

// CountDrop counts a packet that the kernel had received and could not hand over:
// EINVAL, for a super-packet of a kind that struct virtio_net_hdr has no word for,
// such as SCTP's (packet_rcv_vnet in net/packet/af_packet.c).
func (s *Socket) CountDrop() { s.count.drop() }

// Counts returns the totals since the socket was opened, also after Close.
func (s *Socket) Counts() Counts {
	_ = s.raw.Control(func(fd uintptr) { s.count.add(int(fd)) }) // fails only where it is closed
	return s.count.total()
}

// Refuse lets no more packets in: those that come are not even counted.
func (s *Socket) Refuse() (err error) {
	if cerr := s.raw.Control(func(fd uintptr) { err = attach(int(fd), refuseAll) }); cerr != nil {
		return cerr
	}
	return err
}

// Close closes the socket. A ring that is still mapped keeps it alive; it then
// receives no more.
func (s *Socket) Close() error {
	_ = s.raw.Control(func(fd uintptr) {
		// Unbound from its protocol, it is out of the packet path.
		_ = attach(int(fd), refuseAll)
		s.count.add(int(fd))
	})
	return s.file.Close()
}

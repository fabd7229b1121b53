package afpacket

import (
	"encoding/binary"
	"errors"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"weir/capture"
	"weir/capture/socket"
)

// kind prepares a socket to say of each packet what a ring says.
type kind struct{ c *Config }

// Prepare sets what a socket is told by options of its own.
func (k kind) Prepare(fd int, _ bool) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
		return os.NewSyscallError("setsockopt PACKET_AUXDATA", err)
	}
	stamps := unix.SOF_TIMESTAMPING_SOFTWARE | unix.SOF_TIMESTAMPING_RX_SOFTWARE
	if k.c.Timestamps == socket.TimestampsHardware {
		stamps |= unix.SOF_TIMESTAMPING_RAW_HARDWARE | unix.SOF_TIMESTAMPING_RX_HARDWARE
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, stamps); err != nil {
		return os.NewSyscallError("setsockopt SO_TIMESTAMPING", err)
	}
	size := k.c.BufferSize
	if size == 0 {
		size = DefaultBufferSize
	}
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size)
	if errors.Is(err, unix.EPERM) {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size)
	}
	return os.NewSyscallError("setsockopt SO_RCVBUF", err)
}

// Count reads and resets the statistics (packet_getsockopt adds the drops to the
// packets).
func (kind) Count(fd int) (received, drops, freezes uint32, err error) {
	s, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, 0, 0, err
	}
	return s.Packets, s.Drops, 0, nil
}

// controlLen is room for a struct tpacket_auxdata and a struct scm_timestamping,
// each with its header.
const controlLen = 128

// receiver fetches packets from a socket. It holds the structures that recvmmsg(2)
// fills, which point to each other and so stay where they are.
type receiver struct {
	*socket.Socket
	raw      bool
	headers  [batchSize]unix.Mmsghdr
	parts    [batchSize][2]unix.Iovec
	names    [batchSize]unix.RawSockaddrLinklayer
	vnet     [batchSize][capture.VnetHeaderLen]byte
	control  [batchSize][controlLen]byte
	wanted   int
	received int
	err      error
	end      error // what comes when no packets are left
	call     func(fd uintptr)
}

func newReceiver(s *socket.Socket) *receiver {
	r := &receiver{Socket: s, raw: s.Raw()}
	r.call = r.recvmmsg
	return r
}

// Receive implements Port.
func (r *receiver) Receive(packets []capture.Packet, buffers [][]byte) (int, error) {
	r.wanted = min(len(packets), len(buffers), batchSize)
	for i, b := range buffers[:r.wanted] {
		parts := &r.parts[i]
		data := 0
		if r.raw {
			parts[0].Base = &r.vnet[i][0]
			parts[0].SetLen(len(r.vnet[i]))
			data = 1
		}
		parts[data].Base = unsafe.SliceData(b)
		parts[data].SetLen(len(b))
		h := &r.headers[i].Hdr
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		h.Namelen = unix.SizeofSockaddrLinklayer
		h.Iov = &parts[0]
		h.SetIovlen(data + 1)
		h.Control = &r.control[i][0]
		h.SetControllen(controlLen)
		h.Flags = 0
	}
	if err := r.Control(r.call); err != nil {
		return 0, err
	}
	if r.err == unix.ENETDOWN {
		// Said once, and before the packets that have arrived. It is no reason to
		// stop but if the interface was deleted.
		if r.end = r.LinkState(); r.end != nil && !errors.Is(r.end, capture.ErrLinkGone) {
			return 0, r.end
		}
		if err := r.Control(r.call); err != nil {
			return 0, err
		}
	}
	for r.err == unix.EINVAL {
		// It took a packet with it, so this ends; those behind it are whole.
		r.CountDrop()
		if err := r.Control(r.call); err != nil {
			return 0, err
		}
	}
	switch {
	case r.err == unix.EAGAIN, r.err == unix.EINTR:
		return 0, r.end
	case r.err != nil:
		return 0, os.NewSyscallError("recvmmsg", r.err)
	}
	for i := range r.received {
		p := &packets[i]
		r.describe(p, i, buffers[i])
		if p.Time == 0 {
			// The kernel begins to stamp packets some time after it was asked to
			// (net_enable_timestamp in net/core/dev.c).
			p.Time = time.Now().UnixNano()
		}
	}
	return r.received, nil
}

func (r *receiver) recvmmsg(fd uintptr) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.headers[0])), uintptr(r.wanted), unix.MSG_DONTWAIT, 0, 0)
	r.received, r.err = int(n), nil
	if errno != 0 {
		r.received, r.err = 0, errno
	}
}

// describe makes a packet of message i.
func (r *receiver) describe(p *capture.Packet, i int, buffer []byte) {
	m, name := &r.headers[i], &r.names[i]
	n := int(m.Len)
	if r.raw {
		n -= capture.VnetHeaderLen
	}
	n = min(max(n, 0), len(buffer))
	p.Data = buffer[:n]
	p.Type = capture.PacketType(name.Pkttype)
	p.WireLen, p.Time, p.VLANTCI, p.VLANTPID = uint32(n), 0, 0, 0
	r.ancillary(p, r.control[i][:min(uint64(m.Hdr.Controllen), controlLen)])
	if !r.raw {
		p.Protocol = socket.HostOrder(name.Protocol)
		return
	}
	p.SetGSO(&r.vnet[i])
}

// ancillary reads the control messages of a packet (cmsg(3)).
func (r *receiver) ancillary(p *capture.Packet, b []byte) {
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		if h.Len < unix.SizeofCmsghdr || h.Len > uint64(len(b)) {
			return
		}
		body := b[unix.SizeofCmsghdr:h.Len]
		switch {
		case h.Level == unix.SOL_PACKET && h.Type == unix.PACKET_AUXDATA && len(body) >= int(unsafe.Sizeof(unix.TpacketAuxdata{})):
			a := (*unix.TpacketAuxdata)(unsafe.Pointer(&body[0]))
			p.WireLen = a.Len
			p.SetVLAN(a.Status, a.Vlan_tci, a.Vlan_tpid)
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SO_TIMESTAMPING && len(body) >= 3*16:
			// struct scm_timestamping: software, unused, hardware.
			p.Time = timespec(body)
			if t := timespec(body[32:]); t != 0 {
				p.Time = t
			}
		}
		b = b[min((int(h.Len)+7)&^7, len(b)):]
	}
}

func timespec(b []byte) int64 {
	t := int64(binary.NativeEndian.Uint64(b))*1e9 + int64(binary.NativeEndian.Uint64(b[8:]))
	return min(max(t, 0), capture.MaxTime)
}

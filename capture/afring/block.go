package afring

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"weir/capture"
	"weir/capture/socket"
)

// The layout of TPACKET_V3, from include/uapi/linux/if_packet.h. Values are in
// host byte order, except for the protocol in sockaddr_ll.

// blockHeader is struct tpacket_block_desc with struct tpacket_hdr_v1 in it.
type blockHeader struct {
	version     uint32
	privOffset  uint32
	status      atomic.Uint32 // who owns the block
	packets     uint32
	firstOffset uint32 // from the start of the block, as is length
	length      uint32
	sequence    uint64
	_           [16]byte // times of the first and the last packet
}

// frameHeader is struct tpacket3_hdr and the struct sockaddr_ll that follows it.
type frameHeader struct {
	next     uint32 // offset of the next frame from this one, 0 in the last one
	sec      uint32
	nsec     uint32
	snaplen  uint32 // captured octets
	length   uint32 // octets on the wire
	status   uint32
	mac      uint16 // offset of the packet from the frame
	net      uint16
	rxhash   uint32
	vlanTCI  uint32
	vlanTPID uint16
	_        [10]byte
	family   uint16
	protocol uint16
	ifindex  int32
	hatype   uint16
	pkttype  uint8
	halen    uint8
	_        [8]byte
}

const (
	blockHeaderLen = int(unsafe.Sizeof(blockHeader{}))
	frameHeaderLen = int(unsafe.Sizeof(frameHeader{}))

	// frameOverhead is more than a block needs besides the packet for a block of
	// one: both headers, the link-layer header's room and alignment.
	frameOverhead = 256

	statusKernel   = 0      // TP_STATUS_KERNEL
	statusUser     = 1 << 0 // TP_STATUS_USER
	blockVersionV3 = 2      // TPACKET_V3 of enum tpacket_versions
)

// block is one block of a ring. It is all that knows of addresses; what it makes of
// offsets is checked to lie within the block.
type block []byte

func (b block) header() *blockHeader { return (*blockHeader)(unsafe.Pointer(&b[0])) }

// ready reports whether the block is the reader's. What was written before it
// became so is seen after it: a Load acquires.
func (b block) ready() bool { return b.header().status.Load()&statusUser != 0 }

// release gives the block back. Reads before it are done: a Store releases.
func (b block) release() { b.header().status.Store(statusKernel) }

// slice is how a []byte lies in memory (unsafe.SliceData, reflect.SliceHeader).
type slice struct {
	octets   unsafe.Pointer
	len, cap int
}

// special adds what few packets have: a tag that was taken out, and segments. It is
// apart to keep it out of the loop.
//
//go:noinline
func special(p *capture.Packet, h *frameHeader, vnet *[socket.VnetHeaderLen]byte, raw bool) {
	p.VLANTCI, p.VLANTPID = socket.VLAN(h.status, uint16(h.vlanTCI), h.vlanTPID)
	if raw {
		p.GSOSize, p.GSOHeader = socket.SuperPacket(p.Data, vnet)
	}
}

// cursor walks the frames of a block that is ready.
type cursor struct {
	block  block // up to the end of its last frame
	offset int
	left   uint32 // frames
}

// open begins the walk of b, whose number must be sequence. It reports whether the
// header makes sense.
func (c *cursor) open(b block, sequence uint64) bool {
	h := b.header()
	length, first := uint64(h.length), uint64(h.firstOffset)
	if h.version != blockVersionV3 || h.sequence != sequence || length > uint64(len(b)) ||
		first < uint64(blockHeaderLen) || first > length || first%8 != 0 ||
		uint64(h.packets) > length/uint64(frameHeaderLen) {
		return false
	}
	*c = cursor{block: b[:length], offset: int(first), left: h.packets}
	return true
}

// next describes up to len(batch) packets and returns their number. It reports
// whether the offsets made sense; after that it must not be called again.
//
// Interface and LinkType are left as they are: they are the same for all.
func (c *cursor) next(batch []capture.Packet, raw bool) (n int, ok bool) {
	n = min(len(batch), int(c.left))
	batch = batch[:n]
	base := unsafe.Pointer(unsafe.SliceData(c.block))
	size, at := uint64(len(c.block)), uint64(c.offset)
	if at+uint64(frameHeaderLen) > size {
		return 0, false
	}
	var mask uint16 // of the GSO size, which cooked packets have not
	if raw {
		mask = 0xffff
	}
	for i := range batch {
		h := (*frameHeader)(unsafe.Add(base, at))
		start := at + uint64(h.mac)
		if start+uint64(h.snaplen) > size {
			return 0, false
		}
		p := &batch[i]
		// As unsafe.Slice, whose own check of the length is the third one here.
		data := (*slice)(unsafe.Pointer(&p.Data))
		data.octets, data.len, data.cap = unsafe.Add(base, start), int(h.snaplen), int(h.snaplen)
		p.Time = int64(h.sec)*1e9 + int64(h.nsec)
		p.WireLen = h.length
		p.RxHash = h.rxhash
		p.Type = capture.PacketType(h.pkttype)
		p.VLANTCI, p.VLANTPID, p.GSOSize, p.GSOHeader = 0, 0, 0, 0 // one store
		// Within the block, whose own header is before its first frame.
		vnet := (*[socket.VnetHeaderLen]byte)(unsafe.Add(base, start-socket.VnetHeaderLen))
		if uint32(*(*uint16)(unsafe.Pointer(&vnet[4]))&mask)|h.status&unix.TP_STATUS_VLAN_VALID != 0 {
			special(p, h, vnet, raw)
		}
		// The next frame has to begin behind this one's header, and its own has to
		// fit; the last has 0 there.
		step := uint64(h.next)
		if step-uint64(frameHeaderLen) > size-at-2*uint64(frameHeaderLen) || at+2*uint64(frameHeaderLen) > size {
			if step != 0 || c.left != uint32(i+1) {
				return 0, false
			}
		}
		at += step
	}
	if !raw {
		c.protocols(batch)
	}
	c.offset = int(at)
	c.left -= uint32(n)
	return n, true
}

// protocols adds the EtherTypes of a batch of cooked packets, which begins where the
// cursor still is and whose offsets are checked.
func (c *cursor) protocols(batch []capture.Packet) {
	base, at := unsafe.Pointer(unsafe.SliceData(c.block)), c.offset
	for i := range batch {
		h := (*frameHeader)(unsafe.Add(base, at))
		batch[i].Protocol = socket.HostOrder(h.protocol)
		at += int(h.next)
	}
}

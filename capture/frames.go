package capture

import (
	"encoding/binary"
	"unsafe"
)

// Frames are packets that lie in memory one behind the other, each behind its
// header, as in a block of a TPACKET_V3 ring. They are what a [FrameSource] lends to
// a [Reader], so that nothing of a packet is looked at that nobody asks for.
//
// The zero Frames has none. It belongs to one goroutine.
type Frames struct {
	base unsafe.Pointer
	last uint64 // offset beyond which no frame can begin
	at   uint64 // of the next frame
	left int    // frames that are lent and not used yet
	rest int    // frames after those
	link LinkType
}

// FrameSource is a [Source] that can lend its packets as they lie in memory.
type FrameSource interface {
	Source
	// NextFrames is NextBatch without the describing: of the Frames that it returns,
	// always the same ones, so many more are lent, or none at an idle tick.
	NextFrames() (*Frames, error)
}

// frame is struct tpacket3_hdr and the struct sockaddr_ll that follows it
// (include/uapi/linux/if_packet.h), in host byte order but for the protocol.
type frame struct {
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
	protocol [2]byte
	ifindex  int32
	hatype   uint16
	pkttype  uint8
	halen    uint8
	_        [8]byte
}

// FrameHeaderLen is how many octets of a frame come before its packet at least.
const FrameHeaderLen = int(unsafe.Sizeof(frame{}))

// slice is how a []byte lies in memory (unsafe.SliceData, reflect.SliceHeader).
type slice struct {
	octets   unsafe.Pointer
	len, cap int
}

// Open begins with the n frames of a block, the first of which is at an offset of at
// least VnetHeaderLen octets. Nothing outside the block will be read, whatever is in
// it. It has to stay where it is while frames are lent.
func (f *Frames) Open(block []byte, first, n int, link LinkType) {
	*f = Frames{link: link}
	if last := len(block) - FrameHeaderLen; first <= last {
		f.base, f.last, f.at, f.rest = unsafe.Pointer(&block[0]), uint64(last), uint64(first), n
	}
}

// Lend lends up to n frames more, after all that were lent have been used, and
// returns how many. It reports false, now and ever after, if those could not be used
// because one did not lie within the block.
func (f *Frames) Lend(n int) (int, bool) {
	if f.left != 0 {
		return 0, false
	}
	f.left = min(n, f.rest)
	f.rest -= f.left
	return f.left, true
}

// Offset returns that of the next frame in the block.
func (f *Frames) Offset() int { return int(f.at) }

// peek returns the next frame, nil if none is lent, or if it cannot be where it
// should be. It is inlined, as are the three after it.
func (f *Frames) peek() *frame {
	if f.left > 0 && f.at <= f.last {
		return (*frame)(unsafe.Add(f.base, f.at))
	}
	return nil
}

// packet returns the packet of the frame that peek has returned, nil if it is not
// within the block.
func (f *Frames) packet(h *frame) []byte {
	if f.at+uint64(h.mac)+uint64(h.snaplen)-uint64(FrameHeaderLen) > f.last {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(h), h.mac)), int(h.snaplen))
}

// advance goes on to the frame after the one that peek has returned.
func (f *Frames) advance(h *frame) {
	f.left--
	if f.at += uint64(h.next); h.next < uint32(FrameHeaderLen) {
		f.at = f.last + 1 // nothing can follow this one
	}
}

// describe says of the frame's packet what all have, but for Data, Interface and
// LinkType.
func (h *frame) describe(p *Packet) {
	p.Time = int64(h.sec)*1e9 + int64(h.nsec)
	p.WireLen = h.length
	p.RxHash = h.rxhash
	p.Type = PacketType(h.pkttype)
	p.VLANTCI, p.VLANTPID, p.GSOSize, p.GSOHeader = 0, 0, 0, 0 // one store
}

// special reports whether there is more to say.
func (h *frame) special(link LinkType) bool {
	return gsoSize(unsafe.Add(unsafe.Pointer(h), h.mac))|h.status&statusVLANValid != 0 || link == LinkCooked
}

// gsoSize returns that of the struct virtio_net_hdr before a packet. It is within the
// block if the packet is, as the block has its own header before the first frame.
// Cooked packets have something else there.
func gsoSize(packet unsafe.Pointer) uint32 {
	return uint32(*(*uint16)(unsafe.Add(packet, vnetGSOSize-VnetHeaderLen)))
}

// describeMore says the rest: a tag that was taken out, segments, the protocol of a
// cooked packet. It is apart to keep it out of the loops.
//
//go:noinline
func (h *frame) describeMore(p *Packet, link LinkType) {
	p.SetVLAN(h.status, uint16(h.vlanTCI), h.vlanTPID)
	if link == LinkCooked {
		p.Protocol = binary.BigEndian.Uint16(h.protocol[:])
	} else {
		p.SetGSO((*[VnetHeaderLen]byte)(unsafe.Add(unsafe.Pointer(h), int(h.mac)-VnetHeaderLen)))
	}
}

// Describe describes as many of the packets that are lent as batch has room for and
// returns how many, or false if one is not within the block. Interface and LinkType
// it leaves as they are: they are the same for all.
func (f *Frames) Describe(batch []Packet) (n int, ok bool) {
	n = min(len(batch), f.left)
	if n == 0 || f.at > f.last {
		return 0, n == 0
	}
	// What peek, packet and advance do, but in registers, and with a pointer for an
	// index.
	base, at, last, size := f.base, f.at, f.last, f.last+uint64(FrameHeaderLen)
	var status, segments uint32
	for p, end := &batch[0], &batch[n-1]; ; p = (*Packet)(unsafe.Add(unsafe.Pointer(p), unsafe.Sizeof(*p))) {
		h := (*frame)(unsafe.Add(base, at))
		start, captured := at+uint64(h.mac), uint64(h.snaplen)
		if start+captured > size {
			return 0, false
		}
		// As unsafe.Slice, whose own check of the length is the third one here.
		data := (*slice)(unsafe.Pointer(&p.Data))
		data.octets, data.len, data.cap = unsafe.Add(base, start), int(captured), int(captured)
		h.describe(p)
		status |= h.status
		segments |= gsoSize(unsafe.Add(base, start))
		at += uint64(h.next)
		// The next frame begins behind this one's header and has room for its own;
		// the last has 0 there.
		if h.next < uint32(FrameHeaderLen) || at > last {
			if h.next != 0 || p != end || f.rest > 0 {
				return 0, false
			}
		}
		if p == end {
			break
		}
	}
	if segments|status&statusVLANValid != 0 || f.link == LinkCooked {
		h := f.peek()
		for i := range batch[:n] {
			h.describeMore(&batch[i], f.link)
			h = (*frame)(unsafe.Add(unsafe.Pointer(h), h.next))
		}
	}
	f.at = at
	f.left -= n
	return n, true
}

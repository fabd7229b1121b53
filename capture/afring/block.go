package afring

import (
	"sync/atomic"
	"unsafe"

	"weir/capture"
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

const (
	blockHeaderLen = int(unsafe.Sizeof(blockHeader{}))

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

// open makes f the frames of a block, whose number must be sequence. It reports
// whether the header makes sense.
func (b block) open(f *capture.Frames, sequence uint64, link capture.LinkType) bool {
	h := b.header()
	length, first := uint64(h.length), uint64(h.firstOffset)
	if h.version != blockVersionV3 || h.sequence != sequence || length > uint64(len(b)) ||
		first < uint64(blockHeaderLen) || first%8 != 0 || first+uint64(h.packets)*uint64(capture.FrameHeaderLen) > length {
		return false
	}
	f.Open(b[:length], int(first), int(h.packets), link)
	return true
}

package afring

import (
	"time"

	"weir/capture"
)

// Layout is the layout of a ring's memory, for those who fill one.
type Layout struct {
	BlockSize, Blocks int
	RetireTimeout     time.Duration
	Raw               bool // packets have a struct virtio_net_hdr before them
}

// Layout returns how the ring is laid out.
func (r *Ring) Layout() Layout {
	return Layout{BlockSize: r.blockSize, Blocks: r.blocks, RetireTimeout: r.retire, Raw: r.link != capture.LinkCooked}
}

// HandOver gives a block to the reader, with all that was written to it before.
func HandOver(b []byte) { block(b).header().status.Store(statusUser) }

// HandedOver reports whether the block is the reader's.
func HandedOver(b []byte) bool { return block(b).ready() }

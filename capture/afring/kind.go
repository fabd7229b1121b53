package afring

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// kind prepares a socket to have a ring.
type kind struct{ c *Config }

// fillRxHash is TP_FT_REQ_FILL_RXHASH: have the kernel compute a flow hash.
const fillRxHash = 1

// Prepare asks for the ring. Version 3 has frames of varying length, so that one
// frame size as large as a block stands for all (packet_set_ring in
// net/packet/af_packet.c); it also keeps the number of frames within 32 bits.
func (k kind) Prepare(fd int, _ bool) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return os.NewSyscallError("setsockopt PACKET_VERSION", err)
	}
	request := unix.TpacketReq3{
		Block_size:       uint32(k.c.BlockSize),
		Block_nr:         uint32(k.c.Blocks),
		Frame_size:       uint32(k.c.BlockSize),
		Frame_nr:         uint32(k.c.Blocks),
		Retire_blk_tov:   uint32(k.c.RetireTimeout.Milliseconds()),
		Feature_req_word: fillRxHash,
	}
	if err := unix.SetsockoptTpacketReq3(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &request); err != nil {
		return fmt.Errorf("a ring of %d blocks of %d KiB: %w", k.c.Blocks, k.c.BlockSize>>10, os.NewSyscallError("setsockopt PACKET_RX_RING", err))
	}
	return nil
}

// Count reads and resets the statistics (packet_getsockopt adds the drops to the
// packets).
func (kind) Count(fd int) (received, drops, freezes uint32, err error) {
	s, err := unix.GetsockoptTpacketStatsV3(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, 0, 0, err
	}
	return s.Packets, s.Drops, s.Freeze_q_cnt, nil
}

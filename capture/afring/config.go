package afring

import (
	"fmt"
	"math"
	"os"
	"time"

	"golang.org/x/net/bpf"

	"weir/capture"
	"weir/capture/filter"
	"weir/capture/socket"
)

// Config says how a ring is to be. The zero value is ready to use.
type Config struct {
	socket.Config
	// BlockSize is the octets of a block, a multiple of the page size, at least
	// what a captured packet needs. 0 is DefaultBlockSize.
	BlockSize int
	// Blocks is the number of blocks, at least 2. 0 is DefaultBlocks. The kernel
	// holds BlockSize times Blocks octets of memory for the ring.
	Blocks int
	// RetireTimeout is how long the kernel waits for a block to fill before it hands
	// it over as it is: how old a packet gets at most on its way. 1 ms to
	// MaxRetireTimeout in whole milliseconds; 0 is DefaultRetireTimeout.
	RetireTimeout time.Duration
}

// Defaults of Config. 16 blocks bridge some 30 ms at 3 million packets a second,
// each cut to its headers.
const (
	DefaultBlockSize     = 1 << 20
	DefaultBlocks        = 16
	DefaultRetireTimeout = 20 * time.Millisecond
	MaxRetireTimeout     = 10 * time.Second

	// maxBlockSize is what the page allocator gives in one piece: 1 << 10 pages of
	// 4 KiB (MAX_PAGE_ORDER in include/linux/mmzone.h).
	maxBlockSize = 4 << 20
)

func (c *Config) setDefaults() {
	if c.BlockSize == 0 {
		c.BlockSize = DefaultBlockSize
	}
	if c.Blocks == 0 {
		c.Blocks = DefaultBlocks
	}
	if c.RetireTimeout == 0 {
		c.RetireTimeout = DefaultRetireTimeout
	}
}

// Validate returns an error that names the field which makes no sense.
func (c *Config) Validate() error {
	d := *c
	d.setDefaults()
	if err := d.Config.Validate(); err != nil {
		return err
	}
	page := os.Getpagesize()
	// Of a packet that is captured whole any length may come; the kernel cuts what
	// does not fit a block.
	least := min(int(d.CaptureLength.Max(capture.LinkEthernet)), math.MaxUint16) + frameOverhead
	switch {
	case d.BlockSize < 0 || d.BlockSize%page != 0:
		return fmt.Errorf("block size %d is no multiple of the page size %d", d.BlockSize, page)
	case d.BlockSize > maxBlockSize:
		return fmt.Errorf("block size %d is more than the %d that the kernel has in one piece; use more blocks", d.BlockSize, maxBlockSize)
	case d.BlockSize < least:
		return fmt.Errorf("block size %d is too little for a packet of capture length %s, which takes %d", d.BlockSize, d.CaptureLength, least)
	case d.Blocks < 2:
		return fmt.Errorf("%d blocks, but reading one while the kernel fills another takes 2", d.Blocks)
	case int64(d.Blocks) > math.MaxInt32:
		return fmt.Errorf("%d blocks are more than the kernel can count", d.Blocks)
	case d.RetireTimeout < time.Millisecond || d.RetireTimeout > MaxRetireTimeout || d.RetireTimeout%time.Millisecond != 0:
		return fmt.Errorf("retire timeout %v is not a whole number of milliseconds within 1ms and %v", d.RetireTimeout, MaxRetireTimeout)
	}
	return nil
}

// Option sets one field of a Config.
type Option func(*Config)

// CaptureLength sets how much of each packet is captured.
func CaptureLength(l filter.Length) Option { return func(c *Config) { c.CaptureLength = l } }

// BufferSize sets the size and the number of the ring's blocks.
func BufferSize(blockSize, blocks int) Option {
	return func(c *Config) { c.BlockSize, c.Blocks = blockSize, blocks }
}

// RetireTimeout sets how old a packet gets at most on its way.
func RetireTimeout(d time.Duration) Option { return func(c *Config) { c.RetireTimeout = d } }

// Promiscuous sets whether packets for other hosts are captured, too.
func Promiscuous(on bool) Option { return func(c *Config) { c.Promiscuous = on } }

// IgnoreVLANs sets whether packets with a VLAN tag are refused.
func IgnoreVLANs(on bool) Option { return func(c *Config) { c.IgnoreVLANs = on } }

// IgnoreOutgoing sets whether packets that this host sends are refused.
func IgnoreOutgoing(on bool) Option { return func(c *Config) { c.IgnoreOutgoing = on } }

// DisableAutoBPF lets through what is not IP.
func DisableAutoBPF() Option { return func(c *Config) { c.NoFilter = true } }

// ExtraBPFInstructions sets a program that packets have to pass besides.
func ExtraBPFInstructions(program []bpf.RawInstruction) Option {
	return func(c *Config) { c.Filter = program }
}

// Timestamps sets whose clock stamps packets.
func Timestamps(t socket.Timestamps) Option { return func(c *Config) { c.Timestamps = t } }

// FanoutConfig and its modes are those of package socket.
type FanoutConfig = socket.Fanout

// The modes of FanoutConfig.
const (
	FanoutHash     = socket.FanoutHash
	FanoutCPU      = socket.FanoutCPU
	FanoutBalance  = socket.FanoutBalance
	FanoutRollover = socket.FanoutRollover
	FanoutQueue    = socket.FanoutQueue
)

// Fanout shares the interface among several rings.
func Fanout(f FanoutConfig) Option { return func(c *Config) { c.Fanout = f } }

// BusyPoll sets how long to look for packets before going to sleep.
func BusyPoll(d time.Duration) Option { return func(c *Config) { c.BusyPoll = d } }

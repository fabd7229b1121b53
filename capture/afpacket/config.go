package afpacket

import (
	"fmt"
	"time"

	"golang.org/x/net/bpf"

	"weir/capture/filter"
	"weir/capture/socket"
)

// Config says how a source is to be. The zero value is ready to use.
type Config struct {
	socket.Config
	// BufferSize is the octets that the kernel holds for packets which are not yet
	// read (SO_RCVBUF of socket(7)), its own bookkeeping of some 800 octets a
	// packet included. 0 is DefaultBufferSize. More than net.core.rmem_max needs
	// CAP_NET_ADMIN; without it the source has as much as it may.
	BufferSize int
}

// DefaultBufferSize holds some 10,000 small packets.
const DefaultBufferSize = 8 << 20

// maxBufferSize is what the kernel can double without overflow (sock_setsockopt).
const maxBufferSize = 1<<30 - 1

// Validate returns an error that names the field which makes no sense.
func (c *Config) Validate() error {
	if c.BufferSize < 0 || c.BufferSize > maxBufferSize {
		return fmt.Errorf("buffer size %d is not within 0 and %d", c.BufferSize, maxBufferSize)
	}
	return c.Config.Validate()
}

// Option sets one field of a Config.
type Option func(*Config)

// CaptureLength sets how much of each packet is captured.
func CaptureLength(l filter.Length) Option { return func(c *Config) { c.CaptureLength = l } }

// BufferSize sets how much the kernel holds of packets that are not yet read.
func BufferSize(octets int) Option { return func(c *Config) { c.BufferSize = octets } }

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

// Fanout shares the interface among several sources.
func Fanout(f socket.Fanout) Option { return func(c *Config) { c.Fanout = f } }

// BusyPoll sets how long to look for packets before going to sleep.
func BusyPoll(d time.Duration) Option { return func(c *Config) { c.BusyPoll = d } }

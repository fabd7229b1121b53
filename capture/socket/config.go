package socket

import (
	"fmt"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"weir/capture/filter"
)

// Config is what the sources over a packet socket have in common. The zero value
// captures every IP packet whole, both ways.
type Config struct {
	// CaptureLength is how much of each packet is captured.
	CaptureLength filter.Length
	// Promiscuous has the hardware pass on what is for other hosts, too. It needs
	// CAP_NET_ADMIN only where the driver does; the kernel undoes it at Close.
	Promiscuous bool
	// IgnoreVLANs refuses packets with a VLAN tag, whatever its value.
	IgnoreVLANs bool
	// IgnoreOutgoing refuses what this host sends. On loopback it is always so: each
	// packet passes there twice, out and in.
	IgnoreOutgoing bool
	// NoFilter lets through what is not IP.
	NoFilter bool
	// Filter is a program, such as `tcpdump -ddd` prints, that packets have to pass
	// besides. See [filter.ParseDDD].
	Filter []bpf.RawInstruction
	// Timestamps says whose clock stamps packets.
	Timestamps Timestamps
	// Fanout shares the interface's packets among several sockets.
	Fanout Fanout
	// BusyPoll is how long to look for packets before going to sleep, 0 to 1 s. It
	// trades a core for latency.
	BusyPoll time.Duration
}

// maxBusyPoll bounds BusyPoll: whoever wants more wants a core to burn, which a
// second of it is, too.
const maxBusyPoll = time.Second

// Validate returns an error that names the field which makes no sense.
func (c *Config) Validate() error {
	switch {
	case c.Timestamps > TimestampsHardware:
		return fmt.Errorf("timestamps %d is none of the kinds there are", c.Timestamps)
	case c.BusyPoll < 0 || c.BusyPoll > maxBusyPoll:
		return fmt.Errorf("busy poll %v is not within 0 and %v", c.BusyPoll, maxBusyPoll)
	}
	return c.Fanout.validate()
}

// Timestamps says whose clock stamps packets.
type Timestamps uint8

const (
	// TimestampsSoftware is the host's clock when the kernel got the packet.
	TimestampsSoftware Timestamps = iota
	// TimestampsHardware is the network card's own clock (SOF_TIMESTAMPING_RAW_HARDWARE
	// in Documentation/networking/timestamping.rst). The card stamps all that it
	// receives from then on, for everybody, and the clock need not be set. What it
	// does not stamp, such as packets sent, has software timestamps. It needs
	// CAP_NET_ADMIN unless the card stamps everything already.
	TimestampsHardware
)

// FanoutMode says how the kernel shares packets among the sockets of a group
// (PACKET_FANOUT in packet(7)).
type FanoutMode uint8

const (
	FanoutNone     FanoutMode = iota // no fanout
	FanoutHash                       // by flow; both directions of a flow reach the same socket
	FanoutCPU                        // by the CPU that received the packet
	FanoutBalance                    // in turn (PACKET_FANOUT_LB)
	FanoutRollover                   // the first socket until it is full, then the next
	FanoutQueue                      // by the hardware's queue (PACKET_FANOUT_QM)
)

// fanoutModes are the kernel's numbers, in the order of the modes.
var fanoutModes = [...]int{0, unix.PACKET_FANOUT_HASH, unix.PACKET_FANOUT_CPU, unix.PACKET_FANOUT_LB,
	unix.PACKET_FANOUT_ROLLOVER, unix.PACKET_FANOUT_QM}

// Fanout puts a socket into a group among which the kernel shares the packets of
// an interface: each packet reaches one of them. All have the same interface, mode
// and flags.
type Fanout struct {
	Mode FanoutMode
	// Group is the group's number within the network namespace. 0 begins a new one
	// with a number that nobody uses; [Socket.FanoutGroup] tells it.
	Group uint16
	// Rollover hands a packet to the next socket of the group if the one it belongs
	// to is full. With FanoutHash a flow may then reach two of them.
	Rollover bool
	// Defragment puts IPv4 fragments together before they are hashed, so that they
	// reach the socket of their flow; captured is the whole packet.
	Defragment bool
}

func (f Fanout) validate() error {
	if int(f.Mode) >= len(fanoutModes) {
		return fmt.Errorf("fanout mode %d is none of the modes there are", f.Mode)
	}
	if f.Mode == FanoutNone && f != (Fanout{}) {
		return fmt.Errorf("fanout: a group or flags without a mode")
	}
	return nil
}

// argument returns f as PACKET_FANOUT takes it: the group in the low half, mode
// and flags in the high one.
func (f Fanout) argument(ignoreOutgoing bool) int {
	flags := fanoutModes[f.Mode]
	if f.Rollover {
		flags |= unix.PACKET_FANOUT_FLAG_ROLLOVER
	}
	if f.Defragment {
		flags |= unix.PACKET_FANOUT_FLAG_DEFRAG
	}
	if f.Group == 0 {
		flags |= unix.PACKET_FANOUT_FLAG_UNIQUEID
	}
	if ignoreOutgoing {
		// The group has a hook of its own in the packet path, for which
		// PACKET_IGNORE_OUTGOING of its sockets does not count (fanout_add in
		// net/packet/af_packet.c).
		flags |= unix.PACKET_FANOUT_FLAG_IGNORE_OUTGOING
	}
	return int(f.Group) | flags<<16
}

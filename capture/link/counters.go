package link

import (
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Counters are what an interface has counted since it was made, or since its driver
// began anew: they may go back. The names are those of struct rtnl_link_stats64
// (include/uapi/linux/if_link.h), which says what each counts.
//
// Drivers differ in when they count a packet and in whether a super-packet is one. What
// a capture sees of an interface's packets is RxPackets and TxPackets, on loopback one
// of the two: there each packet is sent and received. RxDropped also counts packets that
// a capture has seen and that nobody else wanted; RxMissed are those that were lost for
// want of room before anybody saw them.
type Counters struct {
	RxPackets, TxPackets uint64
	RxBytes, TxBytes     uint64 // link layer included
	RxDropped, TxDropped uint64
	RxMissed             uint64 // rx_missed_errors
}

// AllCounters returns the counters of all interfaces by index. It asks for all at once,
// so that they are of nearly the same moment.
func AllCounters() (map[int]Counters, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("read the counters of interfaces: %w", err)
	}
	defer c.Close()
	messages, err := dump(c, unix.RTM_GETLINK, make([]byte, unix.SizeofIfInfomsg))
	if err != nil {
		return nil, fmt.Errorf("read the counters of interfaces: %w", err)
	}
	all := make(map[int]Counters, len(messages))
	for _, m := range messages {
		index, counters, ok, err := decodeCounters(m.Data)
		if err != nil {
			return nil, fmt.Errorf("read the counters of interfaces: %w", err)
		}
		if ok {
			all[index] = counters
		}
	}
	return all, nil
}

// decodeCounters decodes a struct ifinfomsg and, of the attributes after it,
// IFLA_STATS64. It returns false if that is not there.
func decodeCounters(b []byte) (index int, c Counters, ok bool, err error) {
	if len(b) < unix.SizeofIfInfomsg {
		return 0, c, false, errShort
	}
	d, err := netlink.NewAttributeDecoder(b[unix.SizeofIfInfomsg:])
	if err != nil {
		return 0, c, false, err
	}
	for d.Next() {
		if d.Type() != unix.IFLA_STATS64 {
			continue
		}
		stats := d.Bytes()
		// The fields in their order; newer kernels append some.
		for i, to := range []*uint64{&c.RxPackets, &c.TxPackets, &c.RxBytes, &c.TxBytes, nil, nil, &c.RxDropped, &c.TxDropped,
			nil, nil, nil, nil, nil, nil, nil, &c.RxMissed} {
			if len(stats) < 8*(i+1) {
				return 0, Counters{}, false, errShort
			}
			if to != nil {
				*to = binary.NativeEndian.Uint64(stats[8*i:])
			}
		}
		ok = true
	}
	if err := d.Err(); err != nil {
		return 0, Counters{}, false, err
	}
	return linkIndex(b), c, ok, nil
}

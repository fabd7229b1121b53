// Command vlanports is the VLAN side of an Ethernet switch, for kernels that
// have neither 8021q nor a bridge with VLAN filtering: what an access port
// receives leaves by the trunk with the port's tags, and what the trunk receives
// with exactly those tags leaves by the port without them. make.sh runs one at
// either end of a trunk, so that the tags in vlan.pcap lie around the packets of
// real programs.
//
//	vlanports TRUNK PORT=TAGS...
//
// TAGS are the tags from the outside in, separated by commas, each TPID:TCI in
// hexadecimal ("8100:0064" is VLAN 100, "88a8:012c,8100:0064" VLAN 100 in VLAN
// 300); no TAGS at all makes the port the trunk's untagged one. It prints
// "ready" once it forwards, and runs until it is killed.
//
// Its sockets carry no offloads: the hosts behind the ports have to compute
// their checksums and cut their segments themselves (ethtool -K DEV tx off).
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	addresses = 12      // destination and source MAC, before the tags
	maxFrame  = 1 << 16 // larger than any frame of a link without offloads
	auxSize   = 20      // sizeof(struct tpacket_auxdata), linux/if_packet.h
)

// port is an access port and the tags, as they lie on the wire, of its VLAN.
type port struct {
	fd   int
	tags []byte
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "vlanports:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: vlanports TRUNK PORT=TAGS [PORT=TAGS]")
	}
	trunk, err := open(args[0])
	if err != nil {
		return err
	}
	var ports []port
	for _, arg := range args[1:] {
		name, tags, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("port %q: want PORT=TAGS", arg)
		}
		p := port{}
		if p.tags, err = parseTags(tags); err != nil {
			return fmt.Errorf("port %q: %w", name, err)
		}
		if p.fd, err = open(name); err != nil {
			return err
		}
		ports = append(ports, p)
	}

	failed := make(chan error)
	go func() { failed <- fromTrunk(trunk, ports) }()
	for _, p := range ports {
		go func() { failed <- fromPort(p, trunk) }()
	}
	fmt.Println("ready")
	return <-failed
}

// parseTags returns the tags of text as octets of the wire.
func parseTags(text string) ([]byte, error) {
	var tags []byte
	if text == "" {
		return tags, nil
	}
	for tag := range strings.SplitSeq(text, ",") {
		tpid, tci, _ := strings.Cut(tag, ":")
		for _, half := range []string{tpid, tci} {
			n, err := strconv.ParseUint(half, 16, 16)
			if err != nil {
				return nil, fmt.Errorf("tag %q: want TPID:TCI in hexadecimal: %w", tag, err)
			}
			tags = binary.BigEndian.AppendUint16(tags, uint16(n))
		}
	}
	return tags, nil
}

// open returns a packet socket that receives what others send to interface name.
func open(name string) (int, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return 0, fmt.Errorf("interface %s: %w", name, err)
	}
	// Protocol 0 receives nothing until bind names the interface; otherwise the
	// first packets would be those of all interfaces.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("packet socket for %s: %w", name, err)
	}
	// Without this the socket would receive what it sends, for ever.
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return 0, fmt.Errorf("ignore outgoing packets of %s: %w", name, err)
	}
	// The kernel takes the outermost tag out of what is received
	// (skb_vlan_untag) and gives it back beside the frame.
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
		return 0, fmt.Errorf("ask for the VLAN tags of %s: %w", name, err)
	}
	all := binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL)
	address := &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(all), Ifindex: link.Index}
	if err := unix.Bind(fd, address); err != nil {
		return 0, fmt.Errorf("bind packet socket to %s: %w", name, err)
	}
	return fd, nil
}

// fromPort puts the port's tags into each frame and sends it to the trunk.
func fromPort(p port, trunk int) error {
	frame := make([]byte, maxFrame)
	tagged := make([]byte, 0, maxFrame+len(p.tags))
	for {
		n, _, err := receive(p.fd, frame)
		if err != nil {
			return fmt.Errorf("receive from port: %w", err)
		}
		tagged = append(tagged[:0], frame[:addresses]...)
		tagged = append(tagged, p.tags...)
		tagged = append(tagged, frame[addresses:n]...)
		if err := send(trunk, tagged); err != nil {
			return fmt.Errorf("send %d octets to trunk: %w", len(tagged), err)
		}
	}
}

// fromTrunk gives each frame, without its tags, to the port that has the same tags.
func fromTrunk(trunk int, ports []port) error {
	frame := make([]byte, maxFrame)
	plain := make([]byte, 0, maxFrame)
	for {
		n, outer, err := receive(trunk, frame)
		if err != nil {
			return fmt.Errorf("receive from trunk: %w", err)
		}
		tags, rest := outer, frame[addresses:n]
		for len(rest) >= 4 && isTag(rest) {
			tags, rest = append(tags, rest[:4]...), rest[4:]
		}
		for _, p := range ports {
			if !bytes.Equal(p.tags, tags) {
				continue
			}
			plain = append(append(plain[:0], frame[:addresses]...), rest...)
			if err := send(p.fd, plain); err != nil {
				return fmt.Errorf("send %d octets to port: %w", len(plain), err)
			}
		}
	}
}

// isTag reports whether an 802.1Q or 802.1ad tag lies at the front of b.
func isTag(b []byte) bool {
	tpid := binary.BigEndian.Uint16(b)
	return tpid == unix.ETH_P_8021Q || tpid == unix.ETH_P_8021AD
}

// receive reads one frame of at least an Ethernet header and returns its length
// and the tag that the kernel took out of it, if any.
func receive(fd int, frame []byte) (int, []byte, error) {
	control := make([]byte, unix.CmsgSpace(auxSize))
	for {
		n, controlLen, _, _, err := unix.Recvmsg(fd, frame, control, 0)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENETDOWN) {
			continue
		}
		if err != nil {
			return 0, nil, err
		}
		if n < addresses+2 {
			continue
		}
		messages, err := unix.ParseSocketControlMessage(control[:controlLen])
		if err != nil {
			return 0, nil, fmt.Errorf("control message: %w", err)
		}
		for _, m := range messages {
			if m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA {
				return n, auxTag(m.Data), nil
			}
		}
		return n, nil, nil
	}
}

// auxTag returns the tag of a struct tpacket_auxdata as octets of the wire, nil
// if it has none.
func auxTag(aux []byte) []byte {
	const status, tci, tpid = 0, 16, 18 // offsets of tp_status, tp_vlan_tci, tp_vlan_tpid
	if len(aux) < auxSize ||
		binary.NativeEndian.Uint32(aux[status:])&unix.TP_STATUS_VLAN_VALID == 0 {
		return nil
	}
	tag := binary.BigEndian.AppendUint16(nil, binary.NativeEndian.Uint16(aux[tpid:]))
	return binary.BigEndian.AppendUint16(tag, binary.NativeEndian.Uint16(aux[tci:]))
}

// send writes one frame. As a switch does, it drops the frame when the link is
// down or its queue is full.
func send(fd int, frame []byte) error {
	for {
		_, err := unix.Write(fd, frame)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENOBUFS):
			return nil
		}
		return err
	}
}

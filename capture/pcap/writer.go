package pcap

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"weir/capture"
)

// Writer writes a little-endian pcap file with nanosecond timestamps. It is not safe
// for concurrent use.
type Writer struct {
	w       *bufio.Writer
	link    capture.LinkType
	snaplen uint32
	header  [recordHeaderLen + prefixLen]byte // here, because it would not stay on the stack
}

// prefixLen is what a packet may have before its data: the beginning of an Ethernet
// header with a tag, or a header of Linux cooked capture (LINKTYPE_LINUX_SLL).
const prefixLen = 16

// An Ethernet header begins with the two addresses; a VLAN tag comes next (IEEE 802.1Q).
const (
	addressesLen = 12
	tagLen       = 4
)

// NewWriter begins a file and returns a writer for packets that begin as
// link says. Packets are cut to snaplen bytes; 0 is unlimited. Nothing is sure
// to reach w, the file header included, before Flush; closing w is up to the caller.
//
// Interface types that capture files have no number for (ARPHRD_*, such as
// [capture.LinkNone]) are written as what their packets are, Ethernet or raw IP,
// so that other programs can read the file; cooked packets get a header of Linux
// cooked capture.
func NewWriter(w io.Writer, link capture.LinkType, snaplen uint32) (*Writer, error) {
	inFile := fileLinkType(link)
	if inFile > math.MaxUint16 {
		return nil, fmt.Errorf("write pcap: link type %v does not fit the 16 bits that the file has for it", link)
	}
	limit := snaplen
	if limit == 0 {
		// What libpcap calls MAXIMUM_SNAPLEN: some readers take a 0 literally.
		limit = 262144
	}
	var h [fileHeaderLen]byte
	binary.LittleEndian.PutUint32(h[0:], magicNanoseconds)
	binary.LittleEndian.PutUint16(h[4:], 2)
	binary.LittleEndian.PutUint16(h[6:], 4)
	binary.LittleEndian.PutUint32(h[16:], limit)
	binary.LittleEndian.PutUint32(h[20:], uint32(inFile))
	wr := &Writer{w: bufio.NewWriterSize(w, 128<<10), link: link, snaplen: snaplen}
	wr.w.Write(h[:]) // fits the buffer, so it cannot fail yet
	return wr, nil
}

// fileLinkType returns the number that files have for a link type. Those of the
// devices are mapped as in libpcap's map_arphrd_to_dlt (pcap-linux.c).
func fileLinkType(t capture.LinkType) capture.LinkType {
	switch t {
	case capture.LinkLoopback:
		return capture.LinkEthernet
	case capture.LinkCooked:
		return capture.LinkSLL
	case capture.LinkNone, capture.LinkTunnel, capture.LinkTunnel6, capture.LinkSIT, capture.LinkGRE, capture.LinkGRE6:
		return capture.LinkRaw
	}
	return t
}

// Write adds a packet. It does not keep p or its data and does not allocate. Times
// from 2106-02-07T06:28:16Z on, which the format cannot express, become the last
// that it can. A VLAN tag that was taken out of an Ethernet packet is put back. The
// interface and the packet type are lost, as the format has no room for them. An
// error of the underlying writer comes back from every later call.
func (w *Writer) Write(p *capture.Packet) error {
	if p.LinkType != w.link {
		return fmt.Errorf("write packet: its link type is %v, but that of the file is %v; a pcap file has only one", p.LinkType, w.link)
	}
	prefix, used := w.before(p)
	size := w.captured(p)
	wire := min(max(uint64(len(p.Data)), uint64(p.WireLen))+uint64(prefix-used), math.MaxUint32)
	if size > maxRecord-recordHeaderLen {
		return fmt.Errorf("write packet: it has %d bytes, at most %d can be read back", size, maxRecord-recordHeaderLen)
	}
	seconds, nanoseconds := max(p.Time, 0)/1e9, max(p.Time, 0)%1e9
	if seconds > math.MaxUint32 {
		seconds, nanoseconds = math.MaxUint32, 1e9-1
	}
	h := w.header[:]
	binary.LittleEndian.PutUint32(h[0:], uint32(seconds))
	binary.LittleEndian.PutUint32(h[4:], uint32(nanoseconds))
	binary.LittleEndian.PutUint32(h[8:], uint32(size))
	binary.LittleEndian.PutUint32(h[12:], uint32(wire))
	if prefix > 0 {
		w.prefix(p, used)
		prefix = min(prefix, int(size))
	}
	data := p.Data[used:]
	w.w.Write(h[:recordHeaderLen+prefix]) // bufio keeps an error for the call after it
	if _, err := w.w.Write(data[:size-uint64(prefix)]); err != nil {
		return fmt.Errorf("write packet: %w", err)
	}
	return nil
}

// prefix writes what comes before the data: with used octets of them the beginning
// of an Ethernet header and the tag, else a cooked header. Of its fields, packet
// type, ARPHRD type, address length, address[8], protocol, a packet knows two.
func (w *Writer) prefix(p *capture.Packet, used int) {
	b := w.header[recordHeaderLen:]
	if used > 0 {
		copy(b, p.Data[:used])
		binary.BigEndian.PutUint16(b[used:], p.VLANTPID)
		binary.BigEndian.PutUint16(b[used+2:], p.VLANTCI)
		return
	}
	const arphrdVoid = 0xffff
	clear(b)
	kind := p.Type
	if kind > capture.PacketOutgoing {
		kind = capture.PacketHost
	}
	binary.BigEndian.PutUint16(b, uint16(kind))
	binary.BigEndian.PutUint16(b[2:], arphrdVoid)
	binary.BigEndian.PutUint16(b[14:], p.Protocol)
}

// before returns how many octets come before a packet's data, and how many of the
// data are among them.
func (w *Writer) before(p *capture.Packet) (prefix, used int) {
	switch {
	case w.link == capture.LinkCooked:
		return prefixLen, 0
	case p.VLANTPID != 0 && len(p.Data) >= addressesLen && fileLinkType(w.link) == capture.LinkEthernet:
		return prefixLen, addressesLen
	}
	return 0, 0
}

// captured returns how many octets of the packet are written.
func (w *Writer) captured(p *capture.Packet) uint64 {
	prefix, used := w.before(p)
	size := uint64(len(p.Data) + prefix - used)
	if w.snaplen != 0 {
		size = min(size, uint64(w.snaplen))
	}
	return size
}

// FileHeaderLen is the octets that a file has before its first packet.
const FileHeaderLen = fileHeaderLen

// RecordLen returns by how many octets Write makes the file longer.
func (w *Writer) RecordLen(p *capture.Packet) uint64 { return recordHeaderLen + w.captured(p) }

// Flush writes what is buffered.
func (w *Writer) Flush() error {
	if err := w.w.Flush(); err != nil {
		return fmt.Errorf("write packets: %w", err)
	}
	return nil
}

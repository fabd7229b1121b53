package mock

import (
	"encoding/binary"

	"weir/capture"
	"weir/capture/afring"
	"weir/capture/filter"
	"weir/capture/socket"
)

// refuses reports whether the kernel would not even ask the filter.
func (m *Ring) refuses(p *capture.Packet) bool {
	switch p.Type {
	case capture.PacketOutgoing:
		return m.config.IgnoreOutgoing || m.iface.LinkType == capture.LinkLoopback
	case capture.PacketOtherHost:
		return !m.config.Promiscuous
	}
	return false
}

// protocol returns the EtherType that the kernel would find.
func (m *Ring) protocol(p *capture.Packet) uint16 {
	switch m.iface.LinkType {
	case capture.LinkCooked:
		return p.Protocol
	case capture.LinkEthernet, capture.LinkLoopback:
		if len(p.Data) >= 14 {
			return binary.BigEndian.Uint16(p.Data[12:])
		}
		return 0
	}
	q := *p
	q.LinkType = m.iface.LinkType
	switch q.Network().Version {
	case 4:
		return 0x0800
	case 6:
		return 0x86dd
	}
	return 0
}

// accepted returns how many octets of the packet are captured, 0 if it is refused.
func (m *Ring) accepted(p *capture.Packet) int {
	if m.refuses(p) {
		return 0
	}
	n := m.vm.Run(p.Data, filter.Metadata{
		Protocol: m.protocol(p), PacketType: uint8(p.Type), Interface: uint32(m.iface.Index), RxHash: p.RxHash,
		VLANTCI: p.VLANTCI, VLANTPID: p.VLANTPID, VLANPresent: p.VLANTPID != 0, Len: wireLen(p),
	})
	return min(int(n), len(p.Data))
}

func wireLen(p *capture.Packet) uint32 { return max(p.WireLen, uint32(len(p.Data))) }

// place returns the offset of the packet in its frame, as tpacket_rcv of
// net/packet/af_packet.c has it.
func (m *Ring) place() (mac, net int) {
	header := 0
	switch m.iface.LinkType {
	case capture.LinkEthernet, capture.LinkLoopback:
		header = 14
	}
	net = align(frameHeaderLen+addressLen+max(header, minLinkRoom), 16)
	if m.layout.Raw {
		net += socket.VnetHeaderLen
	}
	return net - header, net
}

func (m *Ring) block(i int) []byte {
	return m.pages[i*m.layout.BlockSize : (i+1)*m.layout.BlockSize]
}

// room reports whether Add would not drop the packet.
func (m *Ring) room(p *capture.Packet) bool {
	if m.closed || m.ended != nil {
		return true
	}
	n := m.accepted(p)
	if n == 0 {
		return true
	}
	mac, _ := m.place()
	if m.at != 0 && m.at+mac+n <= m.layout.BlockSize {
		return true
	}
	next := m.current
	if m.at != 0 {
		m.retire() // full, whether or not the packet comes
		next = m.current
	}
	return !afring.HandedOver(m.block(next))
}

func (m *Ring) add(p *capture.Packet) Verdict {
	if m.closed || m.ended != nil {
		return Ended
	}
	captured := m.accepted(p)
	if captured == 0 {
		m.counts.Filtered++
		return Filtered
	}
	m.counts.Received++
	mac, net := m.place()
	// Cut as the kernel cuts what no block could hold.
	captured = min(captured, m.layout.BlockSize-blockHeaderLen-mac)
	if m.at != 0 && m.at+mac+captured > m.layout.BlockSize {
		m.retire()
	}
	if m.at == 0 && !m.openBlock() {
		m.counts.Drops++
		return Dropped
	}
	m.write(p, captured, mac, net)
	if m.each != nil {
		m.each(p)
	}
	return Queued
}

// openBlock begins the current block. It reports false if the reader has it still.
func (m *Ring) openBlock() bool {
	b := m.block(m.current)
	if afring.HandedOver(b) {
		if !m.frozen {
			m.frozen = true
			m.counts.Freezes++
		}
		return false
	}
	m.frozen = false
	m.at, m.last, m.packets = blockHeaderLen, 0, 0
	m.timer.Reset(m.layout.RetireTimeout)
	return true
}

// write lays out one frame.
func (m *Ring) write(p *capture.Packet, captured, mac, net int) {
	b := m.block(m.current)
	f := b[m.at:]
	clear(f[:mac])
	end := align(mac+captured, 8)
	put32 := func(at int, v uint32) { native.PutUint32(f[at:], v) }
	put16 := func(at int, v uint16) { native.PutUint16(f[at:], v) }
	put32(0, uint32(end))
	put32(4, uint32(p.Time/1e9))
	put32(8, uint32(p.Time%1e9))
	put32(12, uint32(captured))
	put32(16, wireLen(p))
	put16(24, uint16(mac))
	put16(26, uint16(net))
	put32(28, p.RxHash)
	status := uint32(0)
	if p.VLANTPID != 0 {
		status = statusVLANValid | statusVLANTPID
		put32(32, uint32(p.VLANTCI))
		put16(36, p.VLANTPID)
	}
	put32(20, status)
	// struct sockaddr_ll: family, protocol, interface, hardware type, packet type.
	put16(48, 17) // AF_PACKET
	binary.BigEndian.PutUint16(f[50:], m.protocol(p))
	put32(52, uint32(m.iface.Index))
	kind := p.Type
	if kind == capture.PacketUnknown {
		kind = capture.PacketHost
	}
	f[58] = byte(kind)
	if m.layout.Raw && p.GSOSize != 0 {
		vnet := f[mac-socket.VnetHeaderLen:]
		native.PutUint16(vnet[4:], p.GSOSize)
		if p.GSOHeader >= 8 {
			// As for UDP, whose header is always 8 octets: the same sum.
			vnet[0] = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
			native.PutUint16(vnet[6:], p.GSOHeader-8)
			native.PutUint16(vnet[8:], 6)
		}
	}
	copy(f[mac:], p.Data[:captured])
	m.last = m.at
	m.at = min(m.at+end, len(b))
	m.packets++
}

// retire hands the block in hand over to the reader.
func (m *Ring) retire() {
	if m.closed || m.at == 0 {
		return
	}
	b := m.block(m.current)
	native.PutUint32(b[m.last:], 0) // nothing follows the last frame
	native.PutUint32(b[0:], versionV3)
	native.PutUint32(b[12:], m.packets)
	native.PutUint32(b[16:], blockHeaderLen)
	native.PutUint32(b[20:], uint32(m.at))
	native.PutUint64(b[24:], m.number)
	afring.HandOver(b)
	m.number++
	m.current = (m.current + 1) % m.layout.Blocks
	m.at = 0
	m.timer.Stop()
	m.notify()
}

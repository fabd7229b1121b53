package mock

import (
	"encoding/binary"

	"weir/capture"
	"weir/capture/afring"
)

// The layout of TPACKET_V3, which the kernel has in include/uapi/linux/if_packet.h.
// TestLayout holds it against the kernel's own.
const (
	blockHeaderLen = 48 // struct tpacket_block_desc
	frameHeaderLen = 48 // struct tpacket3_hdr
	addressLen     = 20 // struct sockaddr_ll
	minLinkRoom    = 16 // for the link-layer header, however short it is

	statusUser        = 1 << 0 // TP_STATUS_USER
	statusChecksum    = 1 << 3 // TP_STATUS_CSUMNOTREADY
	statusVLANValid   = 1 << 4 // TP_STATUS_VLAN_VALID
	statusVLANTPID    = 1 << 6 // TP_STATUS_VLAN_TPID_VALID
	versionV3         = 2      // TPACKET_V3
	familyPacket      = 17     // AF_PACKET
	ethernetHeaderLen = 14
)

// place returns the offsets of the packet and of its network layer in its frame, as
// tpacket_rcv of net/packet/af_packet.c has them.
func (m *Ring) place() (mac, net int) {
	header := 0
	switch m.iface.LinkType {
	case capture.LinkEthernet, capture.LinkLoopback:
		header = ethernetHeaderLen
	}
	net = align(frameHeaderLen+addressLen+max(header, minLinkRoom), 16)
	if m.layout.Raw {
		net += capture.VnetHeaderLen
	}
	return net - header, net
}

func (m *Ring) block(i int) []byte {
	return m.pages[i*m.layout.BlockSize : (i+1)*m.layout.BlockSize]
}

// size returns how many octets of the packet a frame holds, and the frame's own. What
// no block could hold is cut as the kernel cuts it.
func (m *Ring) size(captured int) (held, frame int) {
	mac, _ := m.place()
	held = min(captured, m.layout.BlockSize-blockHeaderLen-mac)
	return held, align(mac+held, 8)
}

// fits reports whether a frame goes into a block that has its end at offset at
// (__packet_lookup_frame_in_block): one octet is always left free.
func (m *Ring) fits(at, frame int) bool { return at+frame < m.layout.BlockSize }

func (m *Ring) room(_ *capture.Packet, captured int) bool {
	_, frame := m.size(captured)
	if m.at != 0 {
		if m.fits(m.at, frame) {
			return true
		}
		m.retire() // whether or not the packet comes
	}
	if afring.HandedOver(m.block(m.current)) {
		return false
	}
	return m.fits(blockHeaderLen, frame) || !afring.HandedOver(m.block((m.current+1)%m.layout.Blocks))
}

func (m *Ring) put(p *capture.Packet, captured int) bool {
	captured, frame := m.size(captured)
	if m.at == 0 && !m.openBlock() {
		return false
	}
	if !m.fits(m.at, frame) {
		// A frame as large as a block goes into the next one without being asked,
		// and so one that has no packets may be handed over.
		m.retire()
		if !m.openBlock() {
			return false
		}
	}
	m.write(p, captured, frame)
	return true
}

// openBlock begins the current block. It reports false if the reader has it still.
func (m *Ring) openBlock() bool {
	if afring.HandedOver(m.block(m.current)) {
		if !m.frozen {
			m.frozen = true
			m.counts.Freezes++
		}
		return false
	}
	m.frozen = false
	m.at, m.last, m.packets = blockHeaderLen, blockHeaderLen, 0
	m.timer.Reset(m.layout.RetireTimeout)
	return true
}

// write lays out one frame.
func (m *Ring) write(p *capture.Packet, captured, frame int) {
	b := m.block(m.current)
	f := b[m.at:]
	mac, net := m.place()
	clear(f[:mac])
	put32 := func(at int, v uint32) { native.PutUint32(f[at:], v) }
	put16 := func(at int, v uint16) { native.PutUint16(f[at:], v) }
	put32(0, uint32(frame))
	sec, nsec := uint32(p.Time/1e9), uint32(p.Time%1e9)
	put32(4, sec)
	put32(8, nsec)
	put32(12, uint32(captured))
	put32(16, wireLen(p))
	put16(24, uint16(mac))
	put16(26, uint16(net))
	put32(28, p.RxHash)
	status := uint32(statusUser)
	if p.VLANTPID != 0 {
		status |= statusVLANValid | statusVLANTPID
		put32(32, uint32(p.VLANTCI))
		put16(36, p.VLANTPID)
	}
	if m.layout.Raw {
		v := m.vnet(p)
		copy(f[mac-len(v):], v[:])
		if v[0] != 0 {
			status |= statusChecksum
		}
	}
	put32(20, status)
	// struct sockaddr_ll: family, protocol, interface, hardware type, packet type.
	put16(48, familyPacket)
	binary.BigEndian.PutUint16(f[50:], m.protocol(p))
	put32(52, uint32(m.iface.Index))
	f[58] = packetType(p)
	copy(f[mac:], p.Data[:captured])
	if m.packets == 0 {
		native.PutUint32(b[32:], sec)
		native.PutUint32(b[36:], nsec)
	}
	native.PutUint32(b[40:], sec)
	native.PutUint32(b[44:], nsec)
	m.last = m.at
	m.at += frame
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
	native.PutUint32(b[4:], blockHeaderLen) // of the private area, which is empty
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

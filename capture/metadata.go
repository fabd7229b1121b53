package capture

import "encoding/binary"

// VnetHeaderLen is the octets of struct virtio_net_hdr, which precedes the packets
// of raw packet sockets that ask for it (PACKET_VNET_HDR).
const VnetHeaderLen = 10

const (
	vnetGSOSize = 4 // offset of gso_size in it

	statusVLANValid = 1 << 4 // TP_STATUS_VLAN_VALID of linux/if_packet.h
	statusVLANTPID  = 1 << 6 // TP_STATUS_VLAN_TPID_VALID

	vnetNeedsChecksum = 1  // VIRTIO_NET_HDR_F_NEEDS_CSUM
	tcpChecksumAt     = 16 // of the checksum within a TCP header
	tcpDataOffsetAt   = 12
	udpHeaderLen      = 8
)

// SetVLAN sets the tag that was taken out of the packet, or that there was none.
// status is the kernel's (struct tpacket_auxdata, struct tpacket3_hdr): kernels that
// do not say which kind of tag it was knew 802.1Q only.
func (p *Packet) SetVLAN(status uint32, tci, tpid uint16) {
	switch status & (statusVLANValid | statusVLANTPID) {
	case statusVLANValid | statusVLANTPID:
		p.VLANTCI, p.VLANTPID = tci, tpid
	case statusVLANValid:
		p.VLANTCI, p.VLANTPID = tci, etherVLAN
	default:
		p.VLANTCI, p.VLANTPID = 0, 0
	}
}

// SetGSO sets how many octets of payload each segment of a super-packet has and how
// many octets of Data each repeats, zeros for any other packet. vnet is its struct
// virtio_net_hdr (include/uapi/linux/virtio_net.h) in host byte order: flags, GSO
// type, header length, GSO size, where the checksum starts and where from there it
// stands.
//
// The header length there is that of the first fragment of memory, which may hold
// payload. But the checksum of a super-packet is always still to be made, from the
// transport header on, the innermost one if there is a tunnel.
func (p *Packet) SetGSO(vnet *[VnetHeaderLen]byte) {
	p.GSOSize, p.GSOHeader = binary.NativeEndian.Uint16(vnet[vnetGSOSize:]), 0
	if p.GSOSize == 0 || vnet[0]&vnetNeedsChecksum == 0 {
		return
	}
	start := int(binary.NativeEndian.Uint16(vnet[6:]))
	switch {
	case binary.NativeEndian.Uint16(vnet[8:]) != tcpChecksumAt:
		p.GSOHeader = uint16(start) + udpHeaderLen
	case start+tcpDataOffsetAt < len(p.Data):
		p.GSOHeader = uint16(start) + uint16(p.Data[start+tcpDataOffsetAt]>>4)*4
	}
}

package socket

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// VnetHeaderLen is the octets of struct virtio_net_hdr, which precedes the packets
// of raw sockets.
const VnetHeaderLen = 10

const (
	statusVLANValid = unix.TP_STATUS_VLAN_VALID
	statusVLANTPID  = unix.TP_STATUS_VLAN_TPID_VALID
	vlanTPID        = 0x8100 // IEEE 802.1Q

	vnetNeedsChecksum = 1  // VIRTIO_NET_HDR_F_NEEDS_CSUM
	tcpChecksumAt     = 16 // of the checksum within a TCP header
	tcpDataOffsetAt   = 12
	udpHeaderLen      = 8
)

// VLAN returns the tag that the status of a packet speaks of, zeros if there was
// none. Kernels that do not say which kind it was knew one only.
func VLAN(status uint32, tci, tpid uint16) (uint16, uint16) {
	switch status & (statusVLANValid | statusVLANTPID) {
	case statusVLANValid | statusVLANTPID:
		return tci, tpid
	case statusVLANValid:
		return tci, vlanTPID
	}
	return 0, 0
}

// SuperPacket returns the payload octets of each segment of a super-packet, 0 if
// it is none, and how many octets of its data each segment repeats, 0 if that cannot
// be told. vnet is its struct virtio_net_hdr (include/uapi/linux/virtio_net.h) in
// host byte order: flags, GSO type, header length, GSO size, where the checksum
// starts and where from there it stands.
//
// The header length there is that of the first fragment of memory, which may hold
// payload. But the checksum of a super-packet is always still to be made, from the
// transport header on, the innermost one if there is a tunnel.
func SuperPacket(data []byte, vnet *[VnetHeaderLen]byte) (size, header uint16) {
	size = binary.NativeEndian.Uint16(vnet[4:])
	if size == 0 || vnet[0]&vnetNeedsChecksum == 0 {
		return size, 0
	}
	start := int(binary.NativeEndian.Uint16(vnet[6:]))
	if binary.NativeEndian.Uint16(vnet[8:]) != tcpChecksumAt {
		return size, uint16(start) + udpHeaderLen
	}
	if start+tcpDataOffsetAt >= len(data) {
		return size, 0
	}
	return size, uint16(start) + uint16(data[start+tcpDataOffsetAt]>>4)*4
}

// HostOrder returns a value that lies in memory in network byte order. It is its
// own inverse.
func HostOrder(v uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], v)
	return binary.BigEndian.Uint16(b[:])
}

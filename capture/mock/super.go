package mock

import (
	"weir/capture"
)

// Of struct virtio_net_hdr (include/uapi/linux/virtio_net.h).
const (
	vnetNeedsChecksum = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
	vnetTCPv4         = 1 // VIRTIO_NET_HDR_GSO_TCPV4
	vnetTCPv6         = 4 // VIRTIO_NET_HDR_GSO_TCPV6
	vnetUDP           = 5 // VIRTIO_NET_HDR_GSO_UDP_L4

	tcpChecksumAt = 16
	udpChecksumAt = 6
	udpHeaderLen  = 8
)

// vnet returns the struct virtio_net_hdr of a packet, zeros if it is no
// super-packet: one whose segments repeat GSOHeader octets. It is a TCP header that
// ends there, or else made to look as if a UDP header did.
func (h *host) vnet(p *capture.Packet) (v [capture.VnetHeaderLen]byte) {
	if p.GSOSize == 0 {
		return v
	}
	native.PutUint16(v[2:], uint16(min(len(p.Data), 0xffff))) // the kernel's may include payload, too
	native.PutUint16(v[4:], p.GSOSize)
	if p.GSOHeader < udpHeaderLen {
		return v
	}
	kind, start, sum := byte(vnetUDP), int(p.GSOHeader)-udpHeaderLen, uint16(udpChecksumAt)
	if k, at, ok := h.tcp(p); ok && at+int(p.Data[at+12]>>4)*4 == int(p.GSOHeader) {
		kind, start, sum = k, at, tcpChecksumAt
	}
	v[0], v[1] = vnetNeedsChecksum, kind
	native.PutUint16(v[6:], uint16(start))
	native.PutUint16(v[8:], sum)
	return v
}

// tcp returns where the TCP header is, if it follows the first IP header, and the
// GSO type.
func (h *host) tcp(p *capture.Packet) (kind byte, at int, ok bool) {
	n := h.network(p)
	if n.Cause != capture.OK {
		return 0, 0, false
	}
	ip, protocol, size := p.Data[n.Offset:], 6, 40
	kind = vnetTCPv6
	if n.Version == 4 {
		kind, protocol, size = vnetTCPv4, 9, int(ip[0]&15)*4
	}
	if len(ip) < size+20 || ip[protocol] != 6 {
		return 0, 0, false
	}
	return kind, n.Offset + size, true
}

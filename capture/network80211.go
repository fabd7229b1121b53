package capture

import "encoding/binary"

// Fields of the 802.11 frame control (IEEE 802.11 clause 9.2.4.1).
const (
	wifiTypeData    = 2
	wifiSubtypeNull = 0x4 // bit of the subtype: no frame body
	wifiSubtypeQoS  = 0x8 // bit of the subtype: a QoS control field follows
	wifiToDS        = 0x01
	wifiFromDS      = 0x02
	wifiProtected   = 0x40
	wifiOrder       = 0x80 // in QoS frames: an HT control field follows
	wifiQoSAMSDU    = 0x80 // in the QoS control: the body is an aggregate
	radiotapTSFT    = 1 << 0
	radiotapFlags   = 1 << 1
	radiotapExt     = 1 << 31
	radiotapDataPad = 0x20 // in the flags: the header is padded to four octets
)

// ieee80211 decodes a data frame down to its LLC header. pad is the unit that
// the header's length is rounded up to, 0 for none.
func (n *Network) ieee80211(p *Packet, b []byte, pad int) Cause {
	if len(b) < 2 {
		return ErrorLinkHeader
	}
	kind, subtype, flags := b[0]>>2&3, b[0]>>4, b[1]
	if kind != wifiTypeData || subtype&wifiSubtypeNull != 0 {
		return NotIP80211
	}
	if flags&wifiProtected != 0 {
		return NotIPEncrypted
	}
	size := 24
	if flags&(wifiToDS|wifiFromDS) == wifiToDS|wifiFromDS {
		size += 6 // a fourth address
	}
	qos := -1
	if subtype&wifiSubtypeQoS != 0 {
		qos = size
		size += 2
		if flags&wifiOrder != 0 {
			size += 4
		}
	}
	if pad != 0 {
		size = (size + pad - 1) / pad * pad
	}
	if len(b) < size {
		return ErrorLinkHeader
	}
	if qos >= 0 && b[qos]&wifiQoSAMSDU != 0 {
		return NotIP80211
	}
	if b[22]&0xf != 0 { // a later 802.11 fragment has no LLC header
		return NotIP80211
	}
	et, payload, v := llc(b[size:])
	if v != OK {
		return v
	}
	return n.etherType(p, payload, et)
}

// radiotap strips the radiotap header (radiotap.org): version, pad, length (little
// endian), presence words; the flags are the only field of interest.
func (n *Network) radiotap(p *Packet, b []byte) Cause {
	if len(b) < 8 {
		return ErrorLinkHeader
	}
	size := int(binary.LittleEndian.Uint16(b[2:]))
	if size < 8 || len(b) < size {
		return ErrorLinkHeader
	}
	present := binary.LittleEndian.Uint32(b[4:])
	at := 8
	for word := present; word&radiotapExt != 0; at += 4 {
		if at+4 > size {
			return ErrorLinkHeader
		}
		word = binary.LittleEndian.Uint32(b[at:])
	}
	pad := 0
	if present&radiotapFlags != 0 {
		if present&radiotapTSFT != 0 {
			at = (at+7)&^7 + 8 // fields are aligned to their size
		}
		if at < size && b[at]&radiotapDataPad != 0 {
			pad = 4
		}
	}
	return n.ieee80211(p, b[size:], pad)
}

package flows_test

import (
	"encoding/binary"

	"weir/capture"
)

// Frame control of IEEE 802.11, as one octet each.
const (
	frameData    = 0x08
	frameQoSData = 0x88
	toDS         = 0x01
	fromDS       = 0x02
	moreFrag     = 0x04
	protected    = 0x40
	order        = 0x80
)

// wifi returns an 802.11 header: three addresses or four, and the QoS and HT
// control fields that the frame control asks for.
func wifi(kind, flags byte) []byte {
	b := join([]byte{kind, flags, 0x2c, 0}, macs, macs[:6], be16(0x1000)) // sequence number 1, little endian
	if flags&(toDS|fromDS) == toDS|fromDS {
		b = join(b, macs[:6])
	}
	if kind == frameQoSData {
		b = join(b, []byte{0x06, 0})
		if flags&order != 0 {
			b = join(b, repeat(0, 4))
		}
	}
	return b
}

// radiotap returns a radiotap header with these presence words and fields.
func radiotap(present []uint32, fields ...[]byte) []byte {
	var words []byte
	for _, w := range present {
		words = binary.LittleEndian.AppendUint32(words, w)
	}
	content := join(words, join(fields...))
	return join([]byte{0, 0}, binary.LittleEndian.AppendUint16(nil, uint16(4+len(content))), content)
}

// wifiSamples has IEEE 802.11 with and without radiotap.
func wifiSamples() []sample {
	const tsft, flags, rate, extended, datapad = 1, 2, 4, 1 << 31, 0x20
	body4, body6 := snap(0, 0x0800, inside4), snap(0, 0x86dd, inside6)
	air := func(data ...[]byte) capture.Packet { return on(capture.Link80211, data...) }
	tap := func(data ...[]byte) capture.Packet { return on(capture.Link80211Radio, data...) }
	noFragment := wifi(frameData, toDS)
	noFragment[22] |= 3 // fragment number
	aggregate := wifi(frameQoSData, toDS)
	aggregate[24] |= 0x80
	lookalike := wifi(frameQoSData, toDS)
	lookalike[8] |= datapad                                // where radiotap's flags would be, if its length allowed
	padded := join(wifi(frameQoSData, toDS), []byte{0, 0}) // 26 octets, rounded up to 28
	return []sample{
		{"802.11 to the access point", air(wifi(frameData, toDS), body4), got4, ""},
		{"802.11 from the access point", air(wifi(frameData, fromDS), body6), got6, ""},
		{"802.11 between stations", air(wifi(frameData, 0), body4), got4, ""},
		{"802.11 four addresses", air(wifi(frameData, toDS|fromDS), body4), got4, ""},
		{"802.11 QoS", air(wifi(frameQoSData, toDS), body4), got4, ""},
		{"802.11 QoS with HT control", air(wifi(frameQoSData, toDS|order), body6), got6, ""},
		{"802.11 QoS four addresses", air(wifi(frameQoSData, toDS|fromDS), body4), got4, ""},
		{"802.11 QoS HT four addresses", air(wifi(frameQoSData, toDS|fromDS|order), body4), got4, ""},
		{"802.11 order without QoS", air(wifi(frameData, toDS|order), body4), got4, ""},
		{"802.11 first fragment", air(wifi(frameData, toDS|moreFrag), body4), got4, "tshark waits for the other fragments"},
		{"802.11 later fragment", air(noFragment, body4), "ieee80211_control", ""},
		{"802.11 ARP", air(wifi(frameData, toDS), snap(0, 0x0806, repeat(0, 28))), "arp", ""},
		{"802.11 LLC", air(wifi(frameData, toDS), []byte{0x42, 0x42, 3}, repeat(0, 35)), "llc", ""},
		{"802.11 VLAN", air(wifi(frameData, toDS), snap(0, 0x8100, tag(9, 0x0800, inside4))), got4 + " vlan 9", ""},
		{"802.11 protected", air(wifi(frameQoSData, toDS|protected), repeat(0xc5, 60)), "ieee80211_encrypted", ""},
		{"802.11 A-MSDU", air(aggregate, ether(0x0030, body4)), "ieee80211_control", "tshark splits the aggregate into frames"},
		{"802.11 null", air(wifi(0x48, toDS)), "ieee80211_control", ""},
		{"802.11 QoS null", air(wifi(0xc8, toDS), []byte{0, 0}), "ieee80211_control", ""},
		{"802.11 beacon", air(wifi(0x80, 0), repeat(0, 20)), "ieee80211_control", ""},
		{"802.11 ack", air([]byte{0xd4, 0, 0, 0}, macs[:6]), "ieee80211_control", ""},

		{"radiotap empty", tap(radiotap([]uint32{0}), wifi(frameData, toDS), body4), got4, ""},
		{"radiotap flags", tap(radiotap([]uint32{flags | rate}, []byte{0, 2}), wifi(frameQoSData, toDS), body4), got4, ""},
		{"radiotap TSFT", tap(radiotap([]uint32{tsft | flags}, repeat(0xff, 8), []byte{0}), wifi(frameQoSData, toDS), body4), got4, ""},
		{"radiotap datapad", tap(radiotap([]uint32{flags}, []byte{datapad}), padded, body4), got4, ""},
		{"radiotap datapad without need", tap(radiotap([]uint32{flags}, []byte{datapad}), wifi(frameData, toDS), body6), got6, ""},
		{"radiotap TSFT datapad", tap(radiotap([]uint32{tsft | flags}, repeat(0, 8), []byte{datapad}), padded, body4), got4, ""},
		// With one more presence word, TSFT begins at 12 and is moved to 16.
		{"radiotap two words TSFT datapad", tap(radiotap([]uint32{tsft | flags | extended, 0},
			repeat(0, 4), repeat(0, 8), []byte{datapad}), padded, body4), got4, ""},
		{"radiotap protected", tap(radiotap([]uint32{0}), wifi(frameData, toDS|protected), repeat(0xc5, 60)), "ieee80211_encrypted", ""},
		{"radiotap cut off", tap([]byte{0, 0, 8, 0, 0, 0, 0}), "link_header", ""},
		{"radiotap length beyond the packet", tap([]byte{0, 0, 255, 255, 0, 0, 0, 0}, wifi(frameData, toDS), body4), "link_header", ""},
		{"radiotap length too short", tap([]byte{0, 0, 7, 0, 0, 0, 0, 0}, wifi(frameData, toDS), body4), "link_header", ""},
		{"radiotap presence without end", tap(radiotap([]uint32{extended, extended, extended}), wifi(frameData, toDS), body4), "link_header", ""},
		{"radiotap flags beyond its length", tap(radiotap([]uint32{tsft | flags}), lookalike, body4), got4, ""},
	}
}

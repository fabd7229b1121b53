package socket

import "encoding/binary"

// HostOrder returns a value that lies in memory in network byte order. It is its
// own inverse.
func HostOrder(v uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], v)
	return binary.BigEndian.Uint16(b[:])
}

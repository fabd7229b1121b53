package spool

import (
	"encoding/binary"
	"errors"
	"slices"
)

// Columns are stored as planes: the first octets of all values, then the second octets,
// and so on; of a plane whose octets are all the same, one. That is most of what there is
// to gain: of a counter of 64 bits five or six octets are always 0, and of an IPv4 address
// in IPv6 form twelve are always the same. It costs a fifth of what a compressor of
// bytes does, and what is left is smaller (BenchmarkPlanes).

// maxWidth bounds the octets of a value.
const maxWidth = 16

var errPlanes = errors.New("a column is not as long as its header says")

// appendPlanes appends the values of width octets that data holds: a bit for each plane
// that varies, the octet of each that does not, then the planes that do.
func appendPlanes(dst, data []byte, width int) []byte {
	if len(data) == 0 {
		return append(dst, 0, 0)
	}
	varies := varying(data, width)
	dst = binary.LittleEndian.AppendUint16(dst, varies)
	for p := range width {
		if varies&(1<<p) == 0 {
			dst = append(dst, data[p])
		}
	}
	n := len(data) / width
	for p := range width {
		if varies&(1<<p) == 0 {
			continue
		}
		from := len(dst)
		dst = slices.Grow(dst, n)[:from+n]
		plane := dst[from : from+n]
		for i, at := 0, p; i < len(plane) && at < len(data); i, at = i+1, at+width {
			plane[i] = data[at]
		}
	}
	return dst
}

// varying returns a bit for each plane of data that is not the same octet throughout.
func varying(data []byte, width int) (planes uint16) {
	var diff [maxWidth]byte
	switch width {
	case 1, 2, 4, 8, 16:
		words := data[:len(data)&^(max(width, 8)-1)]
		for half := 0; half < width && len(words) > 0; half += 8 {
			// A value, as often as it goes into a word, is in all words if it is in all values.
			var first [8]byte
			for i := range first {
				first[i] = data[half+i%min(width, 8)]
			}
			all := differing(words[half:], binary.LittleEndian.Uint64(first[:]), max(width, 8))
			for i := range 8 {
				diff[half+i%min(width, 8)] |= byte(all >> (8 * i))
			}
		}
		data = append(data[:width:width], data[len(words):]...) // the first value, and what no word holds
	}
	for at := width; at+width <= len(data); at += width {
		for p := range width {
			diff[p] |= data[at+p] ^ data[p]
		}
	}
	for p := range width {
		if diff[p] != 0 {
			planes |= 1 << p
		}
	}
	return planes
}

// differing returns the bits in which any of the words, step octets apart, differs from first.
func differing(data []byte, first uint64, step int) (all uint64) {
	for len(data) >= 8 {
		all |= binary.LittleEndian.Uint64(data) ^ first
		data = data[min(step, len(data)):]
	}
	return all
}

// planes puts rows values of width octets into dst, which is as long as they are, and
// returns what follows them in src.
func planes(dst, src []byte, width, rows int) ([]byte, error) {
	if len(src) < 2 {
		return nil, errPlanes
	}
	varies := binary.LittleEndian.Uint16(src)
	src = src[2:]
	if rows == 0 {
		return src, nil
	}
	for p := range width {
		if varies&(1<<p) != 0 {
			continue
		}
		if len(src) < 1 {
			return nil, errPlanes
		}
		dst[p] = src[0]
		src = src[1:]
	}
	for n := width; n < len(dst); n *= 2 {
		copy(dst[n:], dst[:n])
	}
	for p := range width {
		if varies&(1<<p) == 0 {
			continue
		}
		if len(src) < rows {
			return nil, errPlanes
		}
		plane := src[:rows]
		src = src[rows:]
		for i, at := 0, p; i < len(plane) && at < len(dst); i, at = i+1, at+width {
			dst[at] = plane[i]
		}
	}
	return src, nil
}

package table

import (
	"strconv"

	"weir/exporter"
)

// line is one line of columns in the making. All cells are ASCII.
type line struct {
	exporter.Gather
	debt int // columns by which earlier cells were too wide
}

func left[T string | []byte](l *line, text T, width int) {
	l.Buf = append(l.Buf, text...)
	l.pad(width - len(text))
	l.Buf = append(l.Buf, ' ')
}

func right[T string | []byte](l *line, text T, width int) {
	l.pad(width - len(text))
	l.Buf = append(append(l.Buf, text...), ' ')
}

// end writes the last cell of a line.
func end[T string | []byte](l *line, text T) {
	l.Buf = append(append(l.Buf, text...), '\n')
	l.debt = 0
}

// pad appends n spaces less what earlier cells took too many.
func (l *line) pad(n int) {
	n -= l.debt
	l.debt = max(-n, 0)
	for range n {
		l.Buf = append(l.Buf, ' ')
	}
}

// AppendEndpoint appends address and port: 192.0.2.1:443, [2001:db8::1]:443; the
// address alone where the port is 0. ICMP keeps type and code in the port's
// place, which are written as such: 192.0.2.1 8/0.
func AppendEndpoint(dst []byte, addr [16]byte, port uint16, proto uint8) []byte {
	if port == 0 {
		return exporter.AppendAddr(dst, addr)
	}
	if proto == protoICMP || proto == protoICMPv6 {
		dst = append(exporter.AppendAddr(dst, addr), ' ')
		dst = append(strconv.AppendUint(dst, uint64(port>>8), 10), '/')
		return strconv.AppendUint(dst, uint64(port&0xff), 10)
	}
	start := len(dst)
	dst = exporter.AppendAddr(append(dst, '['), addr)
	v6 := false
	for _, c := range dst[start:] {
		v6 = v6 || c == ':'
	}
	if v6 {
		dst = append(dst, ']')
	} else {
		dst = append(dst[:start], dst[start+1:]...)
	}
	return strconv.AppendUint(append(dst, ':'), uint64(port), 10)
}

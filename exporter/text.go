package exporter

import (
	"net/netip"
	"strconv"
	"time"

	"weir/flows"
)

// AppendText appends the column's value in plain text: numbers in decimal, names
// of enums, addresses with IPv4 as dotted quad, times as [AppendTime] writes
// them. Text comes as it is; quoting it is the caller's part. It allocates nothing
// but dst.
func (c *Column) AppendText(dst []byte, b *flows.Batch, r *flows.Record) []byte {
	switch c.Kind {
	case Text:
		return append(dst, c.Text(b)...)
	case Addr:
		return AppendAddr(dst, c.Addr(r))
	case Uint:
		return strconv.AppendUint(dst, c.Uint(b, r), 10)
	case Int:
		return strconv.AppendInt(dst, c.Int(b, r), 10)
	case Enum:
		return append(dst, c.Names[min(c.Uint(b, r), uint64(len(c.Names)-1))]...)
	default:
		return AppendTime(dst, c.Time(b, r))
	}
}

// AppendAddr appends a in the form of RFC 5952, an IPv4-mapped address as IPv4.
func AppendAddr(dst []byte, a [16]byte) []byte {
	return netip.AddrFrom16(a).Unmap().AppendTo(dst)
}

// AppendTime appends ns, nanoseconds since the Unix epoch, as RFC 3339 in UTC
// with nine digits. All such times have the same length, so they sort as text.
func AppendTime(dst []byte, ns int64) []byte {
	t := time.Unix(0, ns).UTC()
	year, month, day := t.Date()
	hour, minute, sec := t.Clock()
	dst = digits(dst, year, 4)
	dst = digits(append(dst, '-'), int(month), 2)
	dst = digits(append(dst, '-'), day, 2)
	dst = digits(append(dst, 'T'), hour, 2)
	dst = digits(append(dst, ':'), minute, 2)
	dst = digits(append(dst, ':'), sec, 2)
	dst = digits(append(dst, '.'), t.Nanosecond(), 9)
	return append(dst, 'Z')
}

// digits appends n as exactly width decimal digits.
func digits(dst []byte, n, width int) []byte {
	for range width {
		dst = append(dst, '0')
	}
	for i := len(dst) - 1; n > 0 && width > 0; i, width = i-1, width-1 {
		dst[i] = byte('0' + n%10)
		n /= 10
	}
	return dst
}

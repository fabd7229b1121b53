package table

import (
	"strconv"
	"time"
)

// Units in steps of 1000 (SI), as network people count.
var siPrefix = [...]string{"", "k", "M", "G", "T", "P", "E"}

// AppendCount appends n with at most four characters of digits and a prefix:
// "999", "3.4 k", "120 M".
func AppendCount(dst []byte, n uint64) []byte { return appendSI(dst, n, "") }

// AppendBytes appends n octets: "999 B", "1.2 MB".
func AppendBytes(dst []byte, n uint64) []byte { return appendSI(dst, n, "B") }

// AppendRate appends a rate in octets a second as bits a second, as links are
// measured: "9.4 Mb/s". It does not overflow: beyond 2^61 octets it stays there.
func AppendRate(dst []byte, octets uint64) []byte {
	return appendSI(dst, min(octets, 1<<61-1)*8, "b/s")
}

// appendSI rounds half up, in integers, so that it is the same on every machine.
func appendSI(dst []byte, n uint64, unit string) []byte {
	if n < 1000 {
		dst = strconv.AppendUint(dst, n, 10)
		if unit != "" {
			dst = append(append(dst, ' '), unit...)
		}
		return dst
	}
	exp, scale := 0, uint64(1)
	for n/scale >= 1000 {
		scale *= 1000
		exp++
	}
	// Tenths are kept below 10: 1.2 k, but 12 k and 120 k.
	tenths := n/scale*10 + (n%scale*10+scale/2)/scale
	if scale > 1<<60/10 { // n%scale*10 would overflow
		tenths = n/scale*10 + (n%scale/100*10+scale/200)/(scale/100)
	}
	if tenths >= 100 {
		whole := n / scale
		if n%scale >= scale/2 {
			whole++
		}
		if whole >= 1000 && exp+1 < len(siPrefix) { // 999.6 k is 1.0 M
			return append(append(append(dst, "1.0 "...), siPrefix[exp+1]...), unit...)
		}
		dst = strconv.AppendUint(dst, whole, 10)
	} else {
		dst = strconv.AppendUint(dst, tenths/10, 10)
		dst = append(dst, '.', byte('0'+tenths%10))
	}
	return append(append(append(dst, ' '), siPrefix[exp]...), unit...)
}

// AppendDuration appends d in at most seven characters: "0", "15ms", "1.25s",
// "3m07s", "2h05m", "12d03h", "1200d". Negative durations count as 0.
func AppendDuration(dst []byte, d time.Duration) []byte {
	two := func(dst []byte, n int64, unit byte) []byte {
		return append(dst, byte('0'+n/10%10), byte('0'+n%10), unit)
	}
	switch {
	case d < time.Microsecond:
		return append(dst, '0')
	case d < time.Millisecond:
		return append(strconv.AppendInt(dst, int64(d/time.Microsecond), 10), "us"...)
	case d < time.Second:
		return append(strconv.AppendInt(dst, int64(d/time.Millisecond), 10), "ms"...)
	case d < time.Minute:
		centis := int64(d / (10 * time.Millisecond))
		dst = append(strconv.AppendInt(dst, centis/100, 10), '.')
		return two(dst, centis%100, 's')
	case d < time.Hour:
		dst = append(strconv.AppendInt(dst, int64(d/time.Minute), 10), 'm')
		return two(dst, int64(d/time.Second)%60, 's')
	case d < 24*time.Hour:
		dst = append(strconv.AppendInt(dst, int64(d/time.Hour), 10), 'h')
		return two(dst, int64(d/time.Minute)%60, 'm')
	case d < 100*24*time.Hour:
		dst = append(strconv.AppendInt(dst, int64(d/(24*time.Hour)), 10), 'd')
		return two(dst, int64(d/time.Hour)%24, 'h')
	default:
		return append(strconv.AppendInt(dst, int64(d/(24*time.Hour)), 10), 'd')
	}
}

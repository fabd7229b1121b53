package exporter

import (
	"strconv"
	"unicode/utf8"
)

// Escape returns s as it may be printed on a terminal: what is not printable
// (control characters, escape sequences, marks that turn the writing direction,
// broken UTF-8) as \n, \x1b, \u202e; and with ascii set, everything beyond ASCII.
func Escape(s string, ascii bool) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '\\' {
			return string(appendEscaped(make([]byte, 0, len(s)+16), s, ascii))
		}
	}
	return s
}

func appendEscaped(dst []byte, s string, ascii bool) []byte {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			dst = append(dst, `\x`...)
			dst = append(dst, hex[s[i]>>4], hex[s[i]&15])
		case r == '\\':
			dst = append(dst, `\\`...)
		case strconv.IsPrint(r) && (!ascii || r < utf8.RuneSelf):
			dst = append(dst, s[i:i+n]...)
		case ascii:
			q := strconv.QuoteRuneToASCII(r)
			dst = append(dst, q[1:len(q)-1]...)
		default:
			q := strconv.QuoteRune(r)
			dst = append(dst, q[1:len(q)-1]...)
		}
		i += n
	}
	return dst
}

const hex = "0123456789abcdef"

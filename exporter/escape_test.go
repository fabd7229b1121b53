package exporter

import (
	"testing"
	"unicode/utf8"
)

func FuzzEscape(f *testing.F) {
	f.Add("eth0\x1b[31m\xff\u202e", true)
	f.Add("naïve \\ \u0085", false)
	f.Fuzz(func(t *testing.T, s string, ascii bool) {
		e := Escape(s, ascii)
		if !utf8.ValidString(e) {
			t.Fatalf("%q is not UTF-8", e)
		}
		for _, r := range e {
			if r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x202e || r == 0x2028 || ascii && r > 0x7e {
				t.Fatalf("%q lets %U through", e, r)
			}
		}
	})
}

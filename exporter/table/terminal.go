package table

import (
	"os"
	"strings"

	"golang.org/x/term"
)

// defaultWidth is the width where there is no terminal to ask.
const defaultWidth = 120

// Screen is what a table may use.
type Screen struct {
	Width int  // columns, 0 = 120
	ASCII bool // nothing but ASCII
}

// ScreenOf returns the screen behind f: its width if it is a terminal, and
// whether the locale (LC_ALL, LC_CTYPE, LANG, in the order of setlocale(3))
// allows more than ASCII.
func ScreenOf(f *os.File) Screen {
	s := Screen{Width: defaultWidth, ASCII: !utf8Locale(os.Getenv)}
	if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
		s.Width = w
	}
	return s
}

func utf8Locale(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := getenv(name); v != "" {
			v = strings.ToLower(v)
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

package table

import (
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestUnits(t *testing.T) {
	for _, c := range []struct {
		n           uint64
		count, size string
	}{
		{0, "0", "0 B"}, {999, "999", "999 B"}, {1000, "1.0 k", "1.0 kB"}, {1049, "1.0 k", "1.0 kB"}, {1050, "1.1 k", "1.1 kB"},
		{9949, "9.9 k", "9.9 kB"}, {9950, "10 k", "10 kB"}, {10_499, "10 k", "10 kB"}, {10_500, "11 k", "11 kB"},
		{999_499, "999 k", "999 kB"}, {999_500, "1.0 M", "1.0 MB"}, {1_234_567, "1.2 M", "1.2 MB"},
		{1 << 40, "1.1 T", "1.1 TB"}, {999_999_999_999_999_999, "1.0 E", "1.0 EB"}, {1_950_000_000_000_000_000, "2.0 E", "2.0 EB"},
		{9_960_000_000_000_000_000, "10 E", "10 EB"}, {math.MaxUint64, "18 E", "18 EB"},
	} {
		if got := string(AppendCount(nil, c.n)); got != c.count {
			t.Errorf("count %d: %q, want %q", c.n, got, c.count)
		}
		if got := string(AppendBytes(nil, c.n)); got != c.size {
			t.Errorf("bytes %d: %q, want %q", c.n, got, c.size)
		}
	}
	if got := string(AppendRate(nil, 1_175_000)); got != "9.4 Mb/s" {
		t.Errorf("rate: %q", got)
	}
	if got := string(AppendRate(nil, math.MaxUint64)); got != "18 Eb/s" {
		t.Errorf("greatest rate: %q", got)
	}
}

func TestDuration(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0": -5, "1us": 1500, "15ms": 15 * time.Millisecond, "1.25s": 1259 * time.Millisecond, "59.99s": time.Minute - 1,
		"3m07s": 187 * time.Second, "2h05m": 125 * time.Minute, "12d03h": 291 * time.Hour, "100d": 2400 * time.Hour,
		"106751d": math.MaxInt64,
	} {
		if got := string(AppendDuration(nil, d)); got != want {
			t.Errorf("%d: %q, want %q", d, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for n := range 256 {
		name := Proto(uint8(n))
		if name == "" || len(name) > 7 {
			t.Errorf("protocol %d is called %q", n, name)
		}
	}
	if Service(6, 443) != "https" || Service(1, 443) != "" || Service(17, 1) != "" {
		t.Error("services are wrong")
	}
	if got := string(AppendTCPFlags(nil, 0x12)); got != "AS" {
		t.Errorf("SYN-ACK is %q", got)
	}
}

func render(t *testing.T, tab *Table) string {
	t.Helper()
	var sb strings.Builder
	if _, err := tab.WriteTo(&sb); err != nil {
		t.Fatal(err)
	}
	return sb.String()
}

func sample(s Screen) *Table {
	tab := New(s, Column{Title: "source"}, Column{Title: "bytes", Kind: Bytes}, Column{Title: "share", Kind: Percent},
		Column{Kind: Bar}, Column{Title: "lasts", Kind: Duration}, Column{Title: "rate", Kind: Rate}, Column{Title: "n", Kind: Count})
	tab.Row("192.0.2.1", uint64(1_500_000), 0.75, 1.0, 90*time.Second, uint64(125_000), uint64(12))
	tab.Row("naïve\x1b[0m", uint64(500), 0.2501, 0.33, time.Millisecond, uint64(1), uint64(1_000_000))
	tab.Row("none", uint64(0), math.NaN(), 0.0, time.Duration(0), uint64(0), uint64(0))
	tab.Row("little", uint64(1), 0.0001, 0.0001, time.Duration(0), uint64(0), uint64(0))
	return tab
}

func TestTable(t *testing.T) {
	want := strings.TrimPrefix(`
source           bytes   share                                   lasts      rate      n
192.0.2.1       1.5 MB   75.0%  ██████████████████████████████   1m30s  1.0 Mb/s     12
naïve\x1b[0m     500 B   25.0%  █████████▉                         1ms     8 b/s  1.0 M
none               0 B    0.0%                                       0     0 b/s      0
little             1 B    0.0%  ▏                                    0     0 b/s      0
`, "\n")
	if got := render(t, sample(Screen{})); strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTableFitsTheScreen(t *testing.T) {
	for _, width := range []int{20, 50, 60, 80, 120, 200} {
		out := render(t, sample(Screen{Width: width}))
		lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
		for _, l := range lines {
			if n := utf8.RuneCountInString(l); n > max(width, 54) { // the numbers alone need that
				t.Errorf("width %d: a line has %d columns:\n%s", width, n, out)
			}
			if strings.HasSuffix(l, " ") {
				t.Errorf("width %d: line ends in a space: %q", width, l)
			}
		}
		if strings.Contains(out, "█") != (width >= 60) {
			t.Errorf("width %d: bar is there or not, wrongly:\n%s", width, out)
		}
	}
	long := New(Screen{Width: 40}, Column{Title: "host"}, Column{Title: "n", Kind: Count})
	long.Row(strings.Repeat("x", 100), uint64(7))
	if out := render(t, long); !strings.Contains(out, "…") || len([]rune(strings.Split(out, "\n")[1])) != 40 {
		t.Errorf("long text was not cut to the screen:\n%s", out)
	}
}

func TestASCII(t *testing.T) {
	out := render(t, sample(Screen{ASCII: true}))
	for _, r := range out {
		if r > 0x7e {
			t.Fatalf("%U in\n%s", r, out)
		}
	}
	if !strings.Contains(out, "###") {
		t.Errorf("no bar:\n%s", out)
	}
}

func TestLocale(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want bool
	}{
		{map[string]string{}, false},
		{map[string]string{"LANG": "de_DE.UTF-8"}, true},
		{map[string]string{"LANG": "C.utf8"}, true},
		{map[string]string{"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, false},
		{map[string]string{"LANG": "POSIX", "LC_CTYPE": "en_GB.UTF-8"}, true},
	} {
		if got := utf8Locale(func(k string) string { return c.env[k] }); got != c.want {
			t.Errorf("%v: %v", c.env, got)
		}
	}
}

func TestNumber(t *testing.T) {
	tb := New(Screen{ASCII: true}, Column{"records", Number}, Column{"what", Text})
	tb.Row(uint64(math.MaxUint64), "all")
	tb.Row(uint64(1000), "some")
	tb.Row(nil, "unknown")
	var sb strings.Builder
	if _, err := tb.WriteTo(&sb); err != nil {
		t.Fatal(err)
	}
	want := "             records  what\n18446744073709551615  all\n                1000  some\n                   -  unknown\n"
	if sb.String() != want {
		t.Errorf("got\n%s\nwant\n%s", sb.String(), want)
	}
}

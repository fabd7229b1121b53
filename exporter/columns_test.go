package exporter

import (
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"weir/capture"
	"weir/flows"
)

func TestColumnsAreWhole(t *testing.T) {
	var names []string
	shared := true
	for _, c := range Columns {
		names = append(names, c.Name)
		if c.Doc == "" || c.Forms == 0 {
			t.Errorf("%s has no description or no form", c.Name)
		}
		set := map[Kind]bool{Text: c.Text != nil, Addr: c.Addr != nil, Uint: c.Uint != nil && c.Names == nil,
			Int: c.Int != nil, Enum: c.Uint != nil && c.Names != nil, Time: c.Time != nil}
		for k, ok := range set {
			if ok != (k == c.Kind) {
				t.Errorf("%s of kind %d has the function of kind %d: %v", c.Name, c.Kind, k, ok)
			}
		}
		if (c.Bits != 0) != (c.Kind == Uint || c.Kind == Int) {
			t.Errorf("%s has %d bits", c.Name, c.Bits)
		}
		if c.Shared && !shared {
			t.Errorf("%s is shared but comes after one that is not", c.Name)
		}
		shared = c.Shared
	}
	want := []string{"ts", "host", "iface", "direction", "proto", "src_ip", "dst_ip", "src_port", "dst_port", "vlan",
		"packets", "bytes", "tcp_flags", "first", "last", "flow_start", "end_reason"}
	var got []string
	for _, c := range Select(Shown, true) {
		got = append(got, c.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("uniflow columns\n got %v\nwant %v", got, want)
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != len(Columns) {
		t.Error("a name occurs twice")
	}
}

// The names are those of package flows, which does not export its lists.
func TestEnumNames(t *testing.T) {
	for i, n := range directionNames {
		if got := flows.Direction(i).String(); got != n {
			t.Errorf("direction %d: %q here, %q there", i, n, got)
		}
	}
	for i, n := range initiatorNames {
		if got := flows.Initiator(i).String(); got != n {
			t.Errorf("initiator %d: %q here, %q there", i, n, got)
		}
	}
	for i, n := range endNames {
		if got := flows.EndReason(i).String(); got != n {
			t.Errorf("end reason %d: %q here, %q there", i, n, got)
		}
	}
}

func column(t *testing.T, name string) *Column {
	t.Helper()
	for i := range Columns {
		if Columns[i].Name == name {
			return &Columns[i]
		}
	}
	t.Fatalf("no column %s", name)
	return nil
}

func TestOffsets(t *testing.T) {
	const s = int64(time.Second)
	for _, c := range []struct {
		start, first, last, flow      int64
		wantFirst, wantDur, wantStart string
	}{
		{10 * s, 10*s + 1500*1e6, 12 * s, 10*s + 1500*1e6, "1500", "500", "0"},
		{10 * s, 10*s + 999_999, 10*s + 1_000_000, 9*s + 999_999_999, "0", "1", "3590001"},        // cut, then subtracted
		{10 * s, 9*s + 999_999_999, 10 * s, 9*s + 999_999_999, "-1", "1", "0"},                    // the capture went backwards
		{10*s + 5e8, 10*s + 6e8, 10*s + 6e8, 0, "600", "0", "3600000"},                            // ts is a whole second
		{3600 * s, 3601 * s, 3601 * s, 3599 * s, "1000", "0", "3601000"},                          // of the hour before
		{10 * s, 7200 * s, 7200 * s, 7199 * s, "7190000", "0", "1"},                               // after the hour's end
		{1e9 * s, 1e9 * s, 1e9 * s, 0, "0", "0", "4294967295"},                                    // ages ago
		{capture.MaxTime, capture.MaxTime, capture.MaxTime, 0, "316718723427", "0", "4294967295"}, // ts is clamped
		{-5 * s, 0, 0, 0, "0", "0", "0"},
	} {
		b := &flows.Batch{Start: c.start}
		r := &flows.Record{First: c.first, Last: c.last, Start: c.flow}
		for _, w := range []struct{ name, want string }{{"first_ms", c.wantFirst}, {"dur_ms", c.wantDur}, {"start_ms", c.wantStart}} {
			if got := string(column(t, w.name).AppendText(nil, b, r)); got != w.want {
				t.Errorf("%+v: %s = %s, want %s", c, w.name, got, w.want)
			}
		}
	}
}

func TestSecondsClampsAndNeverWraps(t *testing.T) {
	for _, c := range []struct {
		ns   int64
		want uint32
	}{
		{0, 0}, {-1, 0}, {math.MinInt64, 0}, {999_999_999, 0}, {1e9, 1},
		{math.MaxUint32 * 1e9, math.MaxUint32}, {(math.MaxUint32 + 1) * 1e9, math.MaxUint32},
		{capture.MaxTime, math.MaxUint32}, {math.MaxInt64, math.MaxUint32},
	} {
		if got := Seconds(c.ns); got != c.want {
			t.Errorf("Seconds(%d) = %d, want %d", c.ns, got, c.want)
		}
	}
}

func TestAppendTimeAgreesWithTheStandardLibrary(t *testing.T) {
	for _, ns := range []int64{0, 1, 999_999_999, 1_700_000_000_123_456_789, 951_782_399_000_000_000, capture.MaxTime, -1, math.MinInt64, math.MaxInt64} {
		want := time.Unix(0, ns).UTC().Format("2006-01-02T15:04:05.000000000Z")
		if got := string(AppendTime(nil, ns)); got != want {
			t.Errorf("%d: %s, want %s", ns, got, want)
		}
	}
}

func TestAppendAddr(t *testing.T) {
	for _, s := range []string{"192.0.2.1", "0.0.0.0", "2001:db8::1", "::", "::1", "fe80::ffff:c000:201"} {
		if got := string(AppendAddr(nil, netip.MustParseAddr(s).As16())); got != s {
			t.Errorf("%s became %s", s, got)
		}
	}
}

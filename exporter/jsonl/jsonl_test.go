package jsonl

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"weir/flows"
)

func record() flows.Record {
	first := time.Date(2026, 1, 2, 15, 4, 5, 6, time.UTC).UnixNano()
	return flows.Record{
		Key:       flows.NewKey(netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::2"), 40000, 443, 7, 6, flows.DirectionOut),
		Forward:   flows.Counters{Packets: 3, Octets: 1 << 63, TCPFlags: 0x1b},
		Reverse:   flows.Counters{Packets: 2, Octets: 99, TCPFlags: 0x12},
		First:     first,
		Last:      first + 1e9,
		Start:     first - 60e9,
		Initiator: flows.InitiatorSYN,
		EndReason: flows.EndEnd,
	}
}

func batch(r ...flows.Record) *flows.Batch {
	return &flows.Batch{Host: "h", Interface: "eth0", Start: time.Date(2026, 1, 2, 15, 4, 0, 0, time.UTC).UnixNano(), Records: r}
}

func write(t *testing.T, uniflow bool, batches ...*flows.Batch) string {
	t.Helper()
	var out bytes.Buffer
	s := New(&out, uniflow)
	for _, b := range batches {
		if err := s.Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestLine(t *testing.T) {
	const want = `{"ts":"2026-01-02T15:04:00.000000000Z","host":"h","iface":"eth0","direction":"out","proto":6,` +
		`"src_ip":"192.0.2.1","dst_ip":"2001:db8::2","src_port":40000,"dst_port":443,"vlan":7,` +
		`"packets":3,"bytes":9223372036854775808,"tcp_flags":27,"reverse_packets":2,"reverse_bytes":99,"reverse_tcp_flags":18,` +
		`"first":"2026-01-02T15:04:05.000000006Z","last":"2026-01-02T15:04:06.000000006Z","flow_start":"2026-01-02T15:03:05.000000006Z",` +
		`"initiator":"syn","end_reason":"end"}` + "\n"
	if got := write(t, false, batch(record())); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	uni := write(t, true, batch(record()))
	if strings.Contains(uni, "reverse_") || strings.Contains(uni, "initiator") {
		t.Errorf("uniflow has fields of paired records: %s", uni)
	}
	if !json.Valid([]byte(uni)) {
		t.Errorf("not JSON: %s", uni)
	}
}

func TestHostileNames(t *testing.T) {
	for _, name := range []string{"", `"`, `\`, "\n\r\t\x00\x1b[2J", "\x7f\u0085\u2028\u2029", "naïve 🦆", "\xff\xc3", "</script>"} {
		b := batch(record())
		b.Host, b.Interface = name, name
		line := write(t, false, b)
		if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") {
			t.Errorf("%q: not one line: %q", name, line)
		}
		var got struct{ Host, Iface string }
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if want := strings.ToValidUTF8(strings.ReplaceAll(name, "\xff\xc3", "\ufffd\ufffd"), "?"); got.Host != want || got.Iface != want {
			t.Errorf("%q came back as %q, %q", name, got.Host, got.Iface)
		}
		if strings.ContainsAny(line, "\x1b\x00\x7f") {
			t.Errorf("%q: control characters in %q", name, line)
		}
	}
}

func FuzzString(f *testing.F) {
	f.Add("eth0\xff\u2028\"")
	f.Fuzz(func(t *testing.T, s string) {
		ours := AppendString(nil, s)
		std, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var a, b string
		if err := json.Unmarshal(ours, &a); err != nil {
			t.Fatalf("%q: %v", ours, err)
		}
		if err := json.Unmarshal(std, &b); err != nil || a != b {
			t.Fatalf("%q decodes to %q, want %q", ours, a, b)
		}
	})
}

func TestManyRecordsAndBatchesAreWrittenWhole(t *testing.T) {
	b := batch()
	for range 1000 {
		b.Records = append(b.Records, record())
	}
	out := write(t, false, b, b)
	lines := strings.SplitAfter(out, "\n")
	if len(lines) != 2001 || lines[2000] != "" {
		t.Fatalf("%d lines", len(lines)-1)
	}
	for _, l := range lines[:2000] {
		if l != lines[0] {
			t.Fatalf("line differs: %s", l)
		}
	}
}

type failing struct{ err error }

func (w failing) Write([]byte) (int, error) { return 0, w.err }

func TestWriteErrorIsReported(t *testing.T) {
	s := New(failing{io.ErrClosedPipe}, false)
	if err := s.Write(t.Context(), batch(record())); err != nil {
		t.Fatalf("nothing should have been written yet: %v", err)
	}
	if err := s.Close(t.Context()); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Close: %v", err)
	}
}

func TestNoAllocationPerRecord(t *testing.T) {
	s := New(io.Discard, false)
	b := batch()
	for range 500 {
		b.Records = append(b.Records, record())
	}
	ctx := t.Context()
	if n := testing.AllocsPerRun(20, func() {
		if err := s.Write(ctx, b); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for 500 records", n)
	}
}

func BenchmarkWrite(b *testing.B) {
	s := New(io.Discard, false)
	in := batch()
	for range 1000 {
		in.Records = append(in.Records, record())
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Write(b.Context(), in); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "rows/s")
}

package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"weir/exporter/clickhouse"
	"weir/exporter/clickhouse/local/localtest"
	"weir/flows"
)

func TestMain(m *testing.M) { localtest.Main(m, removeProgram) }

// server returns options for a database of the test's own, with all tables.
func server(t *testing.T) clickhouse.Options {
	t.Helper()
	s := localtest.Start(t)
	o := clickhouse.Options{Addr: []string{s.Addr}, User: s.User, Password: s.Password, Database: "q_" + strings.ReplaceAll(t.Name(), "/", "_")}
	if err := clickhouse.Apply(t.Context(), o, clickhouse.SchemaOptions{}); err != nil {
		t.Fatal(err)
	}
	return o
}

var noon = time.Date(2020, 5, 17, 12, 0, 0, 0, time.UTC)

// known are the rows that the tests ask for: a long web download over three
// minutes, a DNS lookup, a ping over IPv6.
func known(t *testing.T, o clickhouse.Options) {
	t.Helper()
	rec := func(src, dst string, sport, dport uint16, proto uint8, start, first time.Time, out, in uint64) flows.Record {
		return flows.Record{
			Key:     flows.NewKey(netip.MustParseAddr(src), netip.MustParseAddr(dst), sport, dport, 0, proto, flows.DirectionOut),
			Forward: flows.Counters{Packets: 10, Octets: out, TCPFlags: map[bool]uint8{true: 0x1b}[proto == 6]},
			Reverse: flows.Counters{Packets: 20, Octets: in, TCPFlags: map[bool]uint8{true: 0x12}[proto == 6]},
			First:   first.UnixNano(), Last: first.Add(1500 * time.Millisecond).UnixNano(), Start: start.UnixNano(),
			Initiator: flows.InitiatorSYN,
		}
	}
	sink, err := clickhouse.NewSink(t.Context(), o, clickhouse.SinkOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		at := noon.Add(time.Duration(i) * time.Minute)
		b := &flows.Batch{Host: "h1", Interface: "eth0", Start: at.UnixNano(), End: at.Add(10 * time.Second).UnixNano(),
			Records: []flows.Record{rec("192.0.2.1", "198.51.100.9", 40000, 443, 6, noon, at.Add(time.Second), 1000, 100_000)}}
		if i == 2 {
			b.Records = append(b.Records,
				rec("192.0.2.1", "192.0.2.53", 5353, 53, 17, at.Add(2*time.Second), at.Add(2*time.Second), 60, 120),
				rec("2001:db8::1", "2001:db8::2", 0, 128<<8, 58, at.Add(3*time.Second), at.Add(3*time.Second), 840, 840))
		}
		if err := sink.Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if err := sink.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// ask runs `weir query args...`.
func ask(o clickhouse.Options, args ...string) (stdout, stderr string, err error) {
	return execute(newQueryCommand(func() (clickhouse.Options, error) { return o, nil }), args...)
}

func execute(cmd *cobra.Command, args ...string) (stdout, stderr string, err error) {
	var out, errOut bytes.Buffer
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(&out)
	cmd.SetErr(&errOut)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(context.Background())
	return out.String(), errOut.String(), err
}

func mustAsk(t *testing.T, o clickhouse.Options, args ...string) string {
	t.Helper()
	out, errOut, err := ask(o, args...)
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	if errOut != "" {
		t.Errorf("%v: on standard error: %s", args, errOut)
	}
	return out
}

func objects(t *testing.T, lines string) []map[string]any {
	t.Helper()
	var out []map[string]any
	for line := range strings.Lines(lines) {
		m := map[string]any{}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		out = append(out, m)
	}
	return out
}

func TestQueryTop(t *testing.T) {
	t.Setenv("LC_ALL", "C.UTF-8")
	o := server(t)
	known(t, o)
	got := mustAsk(t, o, "top", "--by", "src_ip,dst_ip,proto,dst_port")
	want := `q_TestQueryTop.flows, 2020-05-17 12:00:00 to 12:02:00 UTC (all there is): 3 flows, 150 packets, 305 kB
src_ip       dst_ip        proto  dst_port     bytes  share                                     sent  received  packets  flows
192.0.2.1    198.51.100.9  tcp    443 https   303 kB  99.4%  ███████████████████████████████   3.0 kB    300 kB       90      1
2001:db8::1  2001:db8::2   icmp6  128/0       1.7 kB   0.6%  ▏                                  840 B     840 B       30      1
192.0.2.1    192.0.2.53    udp    53 domain    180 B   0.1%  ▏                                   60 B     120 B       30      1
`
	squeeze := func(s string) string { return strings.Join(strings.Fields(strings.ReplaceAll(s, "█", "")), " ") }
	if squeeze(got) != squeeze(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	rows := objects(t, mustAsk(t, o, "top", "--by", "proto", "-o", "json", "--sort", "flows"))
	if len(rows) != 3 || rows[0]["proto"] != 6.0 && rows[0]["proto"] != 17.0 && rows[0]["proto"] != 58.0 {
		t.Fatalf("JSON: %v", rows)
	}
	for _, r := range rows {
		if r["proto"] == 6.0 && (r["bytes"] != 3000.0 || r["reverse_bytes"] != 300000.0 || r["total_bytes"] != 303000.0 || r["flows"] != 1.0 || r["packets"] != 30.0) {
			t.Errorf("TCP: %v", r)
		}
	}
	parsed, err := csv.NewReader(strings.NewReader(mustAsk(t, o, "top", "-o", "csv", "--limit", "1"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(parsed[0], ",") + "|" + strings.Join(parsed[1], ","); len(parsed) != 2 ||
		got != "src_ip,dst_ip,total_bytes,bytes,reverse_bytes,total_packets,packets,reverse_packets,flows|192.0.2.1,198.51.100.9,303000,3000,300000,90,30,60,1" {
		t.Errorf("CSV: %s", got)
	}
}

// Every column can be grouped by.
func TestQueryTopByEveryColumn(t *testing.T) {
	o := server(t)
	known(t, o)
	for _, name := range groupNames() {
		rows := objects(t, mustAsk(t, o, "top", "--by", name, "-o", "json"))
		if len(rows) == 0 {
			t.Errorf("%s: no rows", name)
		}
		for _, r := range rows {
			if _, ok := r[name]; !ok {
				t.Errorf("%s is not in %v", name, r)
			}
		}
		mustAsk(t, o, "top", "--by", name)
	}
	if rows := objects(t, mustAsk(t, o, "top", "--by", "icmp_type,icmp_code", "-o", "json", "--where", "proto = 58")); rows[0]["icmp_type"] != 128.0 || rows[0]["icmp_code"] != 0.0 {
		t.Errorf("ICMP: %v", rows)
	}
}

func TestQuerySeries(t *testing.T) {
	t.Setenv("LC_ALL", "C.UTF-8")
	o := server(t)
	known(t, o)
	got := mustAsk(t, o, "series", "--every", "30s")
	for _, want := range []string{"(all there is): 3 flows, 150 packets, 305 kB, in steps of 30s", "12:00:00  101 kB", "12:00:30     0 B   0.0%", "12:02:00  103 kB", "27 kb/s"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "\n"); n != 2+5 {
		t.Errorf("%d lines:\n%s", n, got)
	}
	rows := objects(t, mustAsk(t, o, "series", "--every", "1m", "--by", "proto", "-o", "json"))
	if len(rows) != 5 || rows[0]["time"] != "2020-05-17T12:00:00.000000000Z" || rows[0]["proto"] != 6.0 || rows[4]["total_bytes"] != 180.0 {
		t.Errorf("by protocol: %v", rows)
	}
	if auto := mustAsk(t, o, "series"); strings.Count(auto, "\n") != 2+13 || !strings.Contains(auto, "in steps of 10s") {
		t.Errorf("chosen steps:\n%s", auto)
	}
	_, errOut, err := ask(o, "series", "--every", "1m", "--by", "proto", "--limit", "4")
	if err != nil || !strings.Contains(errOut, "first 4 rows") {
		t.Errorf("cut: %v, %q", err, errOut)
	}
	if _, _, err := ask(o, "series", "--every", "1s", "--limit", "10"); !isUsage(err) || !strings.Contains(err.Error(), "121 steps") {
		t.Errorf("too many steps: %v", err)
	}
}

func TestQueryFlows(t *testing.T) {
	o := server(t)
	known(t, o)
	got := mustAsk(t, o, "flows")
	if !strings.HasPrefix(got, "q_TestQueryFlows.flows, 2020-05-17 12:00:00 to 12:02:00 UTC (all there is): 5 rows\n") ||
		!strings.Contains(got, "192.0.2.1:40000       198.51.100.9:443") || !strings.Contains(got, "2001:db8::2 128/0") {
		t.Errorf("got\n%s", got)
	}
	rows := objects(t, mustAsk(t, o, "flows", "-o", "json", "--limit", "3"))
	if len(rows) != 3 || rows[0]["src_port"] != 40000.0 || rows[2]["src_ip"] != "2001:db8::1" {
		t.Fatalf("the latest three in the order of time: %v", rows)
	}
	for k, want := range map[string]any{"ts": "2020-05-17T12:02:00.000000000Z", "host": "h1", "iface": "eth0", "direction": "out", "proto": 6.0,
		"first": "2020-05-17T12:02:01.000000000Z", "last": "2020-05-17T12:02:02.500000000Z", "flow_start": "2020-05-17T12:00:00.000000000Z",
		"bytes": 1000.0, "reverse_bytes": 100000.0, "tcp_flags": 27.0, "initiator": "syn", "end_reason": "none"} {
		if rows[0][k] != want {
			t.Errorf("%s = %v, want %v", k, rows[0][k], want)
		}
	}
	if csv := mustAsk(t, o, "flows", "-o", "csv", "--where", "proto = 17"); strings.Count(csv, "\n") != 2 || !strings.HasPrefix(csv, "ts,host,iface,") {
		t.Errorf("CSV: %s", csv)
	}
	if top := mustAsk(t, o, "flows", "--limit", "1"); !strings.Contains(top, "the latest 1 of 5 rows") {
		t.Errorf("got %s", top)
	}
}

func TestQueryRange(t *testing.T) {
	o := server(t)
	if out, errOut, err := ask(o, "top"); err != nil || out != "" || !strings.Contains(errOut, "is empty: fill it with `weir replay") {
		t.Errorf("empty table: %q, %q, %v", out, errOut, err)
	}
	known(t, o)
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"--since", "2020-05-17 12:01"}, 4},
		{[]string{"--since", "2020-05-17T12:01:00.5Z"}, 3}, // an interval counts by its beginning
		{[]string{"--until", "2020-05-17T14:02:00+02:00"}, 2},
		{[]string{"--until", "2020-05-17 12:02:01"}, 5},
		{[]string{"--since", "2020-05-17", "--until", "2020-05-18"}, 5},
		{[]string{"--since", "1000w"}, 5},
	} {
		if rows := objects(t, mustAsk(t, o, append([]string{"flows", "-o", "json"}, c.args...)...)); len(rows) != c.want {
			t.Errorf("%v: %d rows, want %d", c.args, len(rows), c.want)
		}
	}
	for _, args := range [][]string{{"--since", "1h"}, {"--until", "2019-01-01"}, {"--where", "proto = 99"}} {
		for _, sub := range []string{"top", "series", "flows"} {
			out, errOut, err := ask(o, append([]string{sub}, args...)...)
			if err != nil || out != "" || !strings.Contains(errOut, "no flows") || !strings.Contains(errOut, "holds 2020-05-17 12:00:00 to 12:02:00") {
				t.Errorf("%s %v: %q, %q, %v", sub, args, out, errOut, err)
			}
		}
	}
}

func isUsage(err error) bool {
	var e *exitError
	return errors.As(err, &e) && e.code == exitUsage
}

func TestQueryUsage(t *testing.T) {
	unreachable := func() (clickhouse.Options, error) {
		t.Error("a server was asked for")
		return clickhouse.Options{}, errors.New("none")
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"top", "--by", "nonsense"}, "src_ip, dst_ip, src_port"},
		{[]string{"top", "--by", "bytes"}, "is not one of"},
		{[]string{"top", "--by", "src_ip,src_ip"}, "twice"},
		{[]string{"top", "--by", ""}, "name a column"},
		{[]string{"top", "--sort", "size"}, "bytes, packets, flows"},
		{[]string{"top", "--output", "xml"}, "table, json, csv"},
		{[]string{"top", "--limit", "0"}, "--limit"},
		{[]string{"top", "--limit", "1000001"}, "--limit"},
		{[]string{"top", "--timeout", "1ms"}, "--timeout"},
		{[]string{"top", "--since", "yesterday"}, "neither a time"},
		{[]string{"top", "--since", "-1h"}, "neither a time"},
		{[]string{"top", "--since", "2026-01-02", "--until", "2026-01-01"}, "not before"},
		{[]string{"series", "--every", "100ms"}, "whole seconds"},
		{[]string{"series", "--every", "0"}, "whole seconds"},
		{[]string{"flows", "--where", "1) OR (1"}, "closes nothing"},
	} {
		_, _, err := execute(newQueryCommand(unreachable), c.args...)
		if !isUsage(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want a usage error with %q", c.args, err, c.want)
		}
	}
}

// Nothing that --where can say changes anything or reads anything else.
func TestQueryCannotWrite(t *testing.T) {
	o := server(t)
	known(t, o)
	for _, where := range []string{
		"1); DROP TABLE flows; --", "1) UNION ALL SELECT 1 --", "1 /* ", "1; INSERT INTO flows VALUES ()",
		"x'\\') OR (1", "1 OR (SELECT 1) = 1", "1 IN (sElEcT 1)", "1 FORMAT Null", "1 INTO OUTFILE '/tmp/x'", "1 SETTINGS readonly = 0",
		"1 IN url('http://127.0.0.1:1/', CSV, 'x UInt8')", "1 IN file('/etc/passwd', CSV, 'x String')", "1 IN (1", "‘x’ = 1", "$$a$$ = 'a'",
		"1 LIMIT 1", "nosuchcolumn = 1", "1 GROUP BY 1", "'", "\\", "1 # x", "",
	} {
		for _, sub := range []string{"top", "series", "flows"} {
			if where == "" {
				continue // no condition at all
			}
			if out, _, err := ask(o, sub, "--where", where); err == nil {
				t.Errorf("%s --where %q was answered:\n%s", sub, where, out)
			}
		}
	}
	if _, _, err := ask(o, "top", "--where", "nosuchcolumn = 1"); err == nil || !strings.Contains(err.Error(), "nosuchcolumn") || !strings.Contains(err.Error(), "see --where") {
		t.Errorf("an unknown column: %v", err)
	}
	for _, where := range []string{"host = 'it''s; -- \\' ( /*'", "`proto` = 6 or \"proto\" = 6", "has([6, 17], proto)", "src_ip IN ('192.0.2.1', '192.0.2.2')", "isIPAddressInRange(IPv6NumToString(src_ip), '::ffff:192.0.2.0/120')"} {
		if _, _, err := ask(o, "flows", "--where", where); err != nil {
			t.Errorf("--where %q: %v", where, err)
		}
	}
	if rows := objects(t, mustAsk(t, o, "flows", "-o", "json")); len(rows) != 5 {
		t.Errorf("%d rows are left of 5", len(rows))
	}
}

func TestQueryLimits(t *testing.T) {
	o := server(t)
	known(t, o)
	_, _, err := ask(o, "flows", "--timeout", "1s", "--where", "ignore(sleepEachRow(2)) = 0")
	if err == nil || !strings.Contains(err.Error(), o.Database+".flows") {
		t.Errorf("a slow question: %v", err)
	}
}

func TestQueryErrorsSayWhatToDo(t *testing.T) {
	o := server(t)
	wrong := o
	wrong.Password = "not the password"
	none := o
	none.Database = "not_there"
	dead := o
	dead.Addr = []string{"127.0.0.1:1"}
	for _, c := range []struct {
		o     clickhouse.Options
		wants []string
	}{
		{wrong, []string{o.Addr[0], "check user"}},
		{none, []string{o.Addr[0], "not_there", "weir schema --apply"}},
		{dead, []string{"127.0.0.1:1", "refused", "weir-clickhouse serve"}},
	} {
		_, _, err := ask(c.o, "top")
		for _, want := range c.wants {
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), c.o.Password) {
				t.Errorf("%v does not say %q, or says the password", err, want)
			}
		}
	}
}

// A user who may only read gets the same answers.
func TestQueryAsReader(t *testing.T) {
	o := server(t)
	known(t, o)
	want := mustAsk(t, o, "top")
	s := localtest.Start(t)
	o.User, o.Password = s.Reader, s.ReaderPassword
	if got := mustAsk(t, o, "top"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

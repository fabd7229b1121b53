package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestAuditEndToEnd has weir run meter packets, and weir audit say that all is there;
// then somebody meddles with the tables, and it says what is wrong.
func TestAuditEndToEnd(t *testing.T) {
	flags, o, _ := database(t, "audit_end_to_end")
	b := &books{t: t, o: o}
	senders, names := cables(t, 2)
	asked := flags[: len(flags)-2 : len(flags)-2] // without --interval
	last := uint64(0)                             // the last interval that there is
	audit := func(args ...string) (verdicts []string, lines []map[string]any, code int) {
		t.Helper()
		until := time.Unix(int64(last)+1, 0).UTC().Format(time.RFC3339)
		r := weir(t, nil, append(append(asked, "audit", "--output", "json", "--until", until, "--since", "1h"), args...)...)
		if r.code != exitOK && r.code != exitFailure || !strings.Contains(r.stderr, "packets seen") {
			t.Fatalf("%d: %s%s", r.code, r.stdout, r.stderr)
		}
		lines = objects(t, r.stdout)
		for _, l := range lines {
			verdicts = append(verdicts, fmt.Sprint(l["iface"], " ", l["verdict"]))
		}
		return verdicts, lines, r.code
	}
	// run runs the agent over some intervals, with packets in each.
	total := uint64(0)
	run := func() {
		t.Helper()
		p := startAgent(t, append(flags, "--interface", "/^c/", "--host", "h1")...)
		p.captures(names...)
		for range 3 {
			at := count(t, o, "SELECT toUInt64(max(ts)) FROM "+o.Database+".ledger")
			for _, s := range senders {
				send(t, s, 200)
			}
			total += 200
			until(t, "the packets are in a later interval", func() bool {
				return rows(t, o, "c0") == total && rows(t, o, "c1") == total && count(t, o, "SELECT toUInt64(max(ts)) FROM "+o.Database+".ledger") > at
			})
		}
		if s := p.stop(); s.packets != 1200 || s.drops != 0 {
			t.Fatalf("%+v", s)
		}
		last = count(t, o, "SELECT toUInt64(max(ts)) FROM "+o.Database+".ledger")
	}
	run()
	got, lines, code := audit()
	if code != exitOK || fmt.Sprint(got) != "[c0 complete c1 complete]" {
		t.Fatalf("%d, %q", code, got)
	}
	for _, l := range lines {
		if l["packets"] != 600.0 || l["metered"] != 600.0 || l["row_packets"] != 600.0 || l["nic_packets"] != 600.0 || l["records"] != l["rows"] || l["intervals"].(float64) < 3 {
			t.Errorf("%v", l)
		}
	}

	// full returns an interval in which an interface has rows.
	full := func(iface string) string {
		t.Helper()
		return fmt.Sprint(count(t, o, fmt.Sprintf("SELECT toUInt64(min(ts)) FROM %s.flows WHERE iface = '%s'", o.Database, iface)))
	}
	// finds waits until audit, which does not judge what is new, says so.
	finds := func(want string, args ...string) {
		t.Helper()
		var got []string
		var code int
		defer func() {
			if t.Failed() {
				t.Logf("%d, %q", code, got)
			}
		}()
		until(t, want, func() bool {
			got, _, code = audit(args...)
			return strings.Contains(strings.Join(got, "\n"), want)
		})
		if code != exitFailure {
			t.Errorf("%q, and exit status %d", got, code)
		}
	}
	at := full("c0")
	b.exec(fmt.Sprintf("ALTER TABLE flows DELETE WHERE iface = 'c0' AND ts = %s AND least(src_port, dst_port) IN (1007, 1008)", at))
	finds("c0 records missing: 2")
	if got, _, code := audit("--interface", "c1"); code != exitOK || fmt.Sprint(got) != "[c1 complete]" {
		t.Errorf("the other interface: %d, %q", code, got)
	}
	at = full("c1")
	b.exec(fmt.Sprintf("INSERT INTO flows SELECT * FROM flows WHERE iface = 'c1' AND ts = %s AND least(src_port, dst_port) < 1005", at))
	finds("c1 duplicates: 5")
	b.exec(fmt.Sprintf("ALTER TABLE ledger DELETE WHERE iface = 'c1' AND ts = %s", at))
	finds("c1 no ledger: ")

	b.exec("TRUNCATE TABLE flows")
	total = 0
	run()
	finds("gap: agent not running", "--interface", "c0")
	if boots := count(t, o, "SELECT uniqExact(boot_id) FROM "+o.Database+".ledger WHERE length(boot_id) = 36"); boots != 1 {
		t.Errorf("%d names of this boot", boots)
	}
	if runs := count(t, o, "SELECT uniqExact(run) FROM "+o.Database+".ledger WHERE abs(toUnixTimestamp(run) - toUnixTimestamp(ts)) < 3600"); runs != 2 {
		t.Errorf("%d runs", runs)
	}
}

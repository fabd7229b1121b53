package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/exporter/clickhouse"
	"weir/exporter/clickhouse/local/localtest"
)

func TestAuditVerdicts(t *testing.T) {
	b := newBooks(t)
	end := map[string]string{"interval_ms": "4000"}
	nic := func(in string) map[string]string { return map[string]string{"nic_packets_in": in} }
	again := func(ms int64, boot string) map[string]string {
		return map[string]string{"run": b.run(ms), "boot_id": "'" + boot + "'"}
	}
	number := func(n string) map[string]string { return map[string]string{"spool": "77", "sequence": n} }
	for _, c := range []struct {
		host  string
		write func(host string)
		want  []string // and then, whatever it is: the host has written nothing since
	}{
		{"complete", func(h string) { b.both(h, nil, 0, 1, 2) }, []string{"3 complete"}},
		{"idle", func(h string) {
			b.ledger(h, 0, map[string]string{"records": "0", "packets": "0", "metered": "0", "not_ip": "map()", "nic_packets_in": "0", "nic_packets_out": "0"})
		}, []string{"1 complete"}},
		{"overflow", func(h string) { b.both(h, map[string]string{"overflow": "11"}, 0, 1) }, []string{"2 overflow: 22 packets without detail"}},
		{"dropped", func(h string) {
			b.both(h, nil, 0)
			b.both(h, map[string]string{"drops": "11", "nic_packets_in": "31"}, 1, 2)
			b.both(h, nil, 3)
		}, []string{"1 complete", "2 dropped: 22 packets (25%)", "1 complete"}},
		{"missing", func(h string) { b.both(h, nil, 0, 2); b.ledger(h, 1, nil); b.flows(h, 1, 1) }, []string{"1 complete", "1 records missing: 2", "1 complete"}},
		{"lost", func(h string) {
			b.ledger(h, 0, map[string]string{"lost": "2", "lost_reason": "'age'"})
			b.flows(h, 0, 1)
			b.ledger(h, 1, map[string]string{"lost": "2", "lost_reason": "'full'"}) // and then all had arrived
			b.flows(h, 1, 3)
			b.ledger(h, 2, map[string]string{"lost": "1", "lost_reason": "'refused'"})
			b.flows(h, 2, 1)
		}, []string{"1 records lost: 2 (age)", "1 complete", "1 records missing: 1; records lost: 1 (refused)"}},
		{"duplicates", func(h string) { b.both(h, nil, 0); b.flows(h, 0, 3); b.both(h, nil, 1) }, []string{"1 duplicates: 3", "1 complete"}},
		{"twice", func(h string) { b.both(h, nil, 0, 0, 1); b.ledger(h, 1, nil) }, []string{"1 duplicates: 3; ledger rows doubled: 1", "1 ledger rows doubled: 1"}},
		{"differ", func(h string) {
			b.ledger(h, 0, nil)
			b.flows(h, 0, 2)
			b.exec(fmt.Sprintf("INSERT INTO flows (ts, host, iface, packets) VALUES (%s, '%s', 'eth0', 1)", b.ts(0), h))
		}, []string{"1 records differ: 9 packets"}},
		{"open", func(h string) { b.both(h, map[string]string{"packets": "40", "nic_packets_in": "27"}, 0) }, []string{"1 sums open: 7 packets"}},
		{"no ledger", func(h string) { b.both(h, nil, 0, 3); b.flows(h, 1, 3); b.flows(h, 2, 3) }, []string{"1 complete", "2 no ledger: 6 records", "1 complete"}},
		{"unseen", func(h string) { b.both(h, nic("20"), 0); b.both(h, nic("40"), 1, 2); b.both(h, nic("20"), 3) },
			[]string{"1 complete", "2 unseen: the NIC counted 40 more (37.74%)", "1 complete"}},
		// A ring hands packets over late.
		{"late", func(h string) {
			b.both(h, nic("30"), 0)
			b.both(h, nic("10"), 1)
			b.both(h, nic("5"), 2)
			b.both(h, nic("35"), 3)
		}, []string{"4 complete"}},
		// Traffic begins and is as late at the end of each interval, until it ends.
		{"later", func(h string) {
			b.both(h, nil, 0)
			b.both(h, nic("21"), 1) // one packet of 33 is on its way, and then of 8000
			for n := range 4 {
				b.both(h, map[string]string{"packets": "8000", "metered": "30", "not_ip": "map('arp', 7970)", "nic_packets_in": []string{"8030", "7990", "8000", "7956"}[n]}, n+2)
			}
		}, []string{"6 complete"}},
		{"nobody knows", func(h string) { b.both(h, map[string]string{"nic_packets_in": "0", "nic_packets_out": "0"}, 0, 1) }, []string{"2 complete"}},
		{"super-packets", func(h string) { b.both(h, nic("1"), 0, 1) }, []string{"2 complete"}},
		// A sink was slow.
		{"long", func(h string) { b.both(h, map[string]string{"interval_ms": "30000"}, 0); b.both(h, nil, 3) }, []string{"2 complete"}},
		// An agent began anew within an interval, at once.
		{"restart", func(h string) { b.both(h, end, 0); b.both(h, again(4800, "first boot"), 0, 1) }, []string{"2 complete"}},
		{"stopped", func(h string) { b.both(h, end, 0); b.both(h, again(6500, "first boot"), 0, 1) }, []string{"0 gap: agent not running, 2.50s", "2 complete"}},
		// It crashed, and with it went what it had counted.
		{"crash", func(h string) { b.both(h, nil, 0); b.both(h, again(16_000, "first boot"), 1) }, []string{"1 complete", "0 gap: agent not running, 6.00s", "1 complete"}},
		{"reboot", func(h string) { b.both(h, nil, 0); b.both(h, again(92_000, "second boot"), 9) }, []string{"1 complete", "0 gap: host rebooted, 1m22s", "1 complete"}},
		{"interface", func(h string) { b.both(h, nil, 0, 3) }, []string{"1 complete", "0 gap: interface not captured, 20.00s", "1 complete"}},
		{"interface after a restart", func(h string) { b.both(h, nil, 0); b.both(h, again(20_000, "second boot"), 60) },
			[]string{"1 complete", "0 gap: interface not captured, 9m50s", "1 complete"}},
		// A clock was set back: intervals come again, and their rows are nobody's duplicates.
		{"clock", func(h string) {
			for n := range 3 {
				b.both(h, nil, n)
				b.both(h, map[string]string{"batch": fmt.Sprint(500 + n), "octets": "3100"}, n)
			}
		}, []string{"3 complete"}},
		{"flushes", func(h string) {
			b.both(h, number("15"), 0)
			b.both(h, number("16"), 1)
			b.both(h, number("20"), 5)
			b.both(h, number("22"), 6)
		},
			[]string{"2 complete", "0 gap: batches missing, 30.00s", "2 complete", "0 batches missing: sequence 17-19", "0 batches missing: sequence 21"}},
		{"spools", func(h string) {
			b.both(h, number("3"), 0)
			b.both(h, map[string]string{"spool": "78", "sequence": "900"}, 1)
			b.both(h, map[string]string{"spool": "0", "sequence": "0"}, 2)
			b.both(h, number("4"), 3)
		}, []string{"4 complete"}},
		// Captures that were replayed, with pauses between them.
		{"replay", func(h string) {
			b.both(h, map[string]string{"run": replayed, "boot_id": "''", "nic_packets_in": "0", "nic_packets_out": "0"}, 0, 7, 100)
		}, []string{"3 complete"}},
		{"all at once", func(h string) { b.ledger(h, 0, map[string]string{"drops": "1", "overflow": "2"}); b.flows(h, 0, 2) },
			[]string{"1 records missing: 1; dropped: 1 packets (2.94%); overflow: 2 packets without detail"}},
	} {
		t.Run(c.host, func(t *testing.T) {
			b.t = t
			c.write(c.host)
			got, err := b.verdicts(c.host)
			n := len(got)
			if c.host != "replay" {
				if n--; !strings.Contains(got[n], "gap: nothing since") {
					t.Fatalf("nothing is said of the silence since then: %q", got)
				}
			}
			if !slices.Equal(got[:n], c.want) {
				t.Errorf("got  %q\nwant %q", got[:n], c.want)
			}
			if (c.host == "replay") != (err == nil) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestAuditExit holds what is missing, and what is not, by the exit status.
func TestAuditExit(t *testing.T) {
	b := newBooks(t)
	replay := map[string]string{"run": replayed}
	b.both("fine", replay, 0, 1)
	b.both("full", map[string]string{"run": replayed, "overflow": "9"}, 0)
	b.both("dropped", map[string]string{"run": replayed, "drops": "1"}, 0)
	for host, want := range map[string]error{"fine": nil, "full": nil, "dropped": errMissing} {
		if _, err := b.verdicts(host); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, tolerance := range []string{"0.5", "40%"} {
		b.both("slack"+tolerance, map[string]string{"run": replayed, "nic_packets_in": "40"}, 0)
		if got, err := b.verdicts("slack"+tolerance, "--nic-tolerance", tolerance); err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	// What is too new is not judged.
	b.at = time.Now().Truncate(10 * time.Second)
	b.ledger("new", 0, nil)
	b.flows("new", -1, 2)
	b.write()
	out, _, err := execute(newAuditCommand(func() (clickhouse.Options, error) { return b.o, nil }), "--host", "new", "-o", "csv", "--all")
	if err != nil || strings.Count(out, "on its way") != 2 {
		t.Errorf("%v: %s", err, out)
	}
}

// TestAuditAgedOut holds that rows which a table has forgotten are not missing.
func TestAuditAgedOut(t *testing.T) {
	b := newBooks(t)
	b.ledger("h", 0, map[string]string{"run": replayed})
	b.exec("INSERT INTO flows (ts, host) VALUES (1589800000, 'other')") // on the next day
	if got, err := b.verdicts("h"); err != nil || len(got) != 1 || got[0] != "1 aged out" {
		t.Errorf("the day is gone: %q, %v", got, err)
	}
	b.flows("other", -1, 1) // the day is there
	if got, err := b.verdicts("h"); err == nil || len(got) != 1 || got[0] != "1 records missing: 3" {
		t.Errorf("the rows are gone: %q, %v", got, err)
	}
	b.exec("ALTER TABLE flows MODIFY TTL ts + INTERVAL 90 DAY SETTINGS materialize_ttl_after_modify = 0")
	if got, err := b.verdicts("h"); err != nil || len(got) != 1 || got[0] != "1 aged out" {
		t.Errorf("the table has a TTL: %q, %v", got, err)
	}
}

func TestAuditOutput(t *testing.T) {
	t.Setenv("LC_ALL", "C.UTF-8")
	b := newBooks(t)
	b.both("web1", map[string]string{"run": replayed}, 0, 1)
	b.both("web1", map[string]string{"run": replayed, "drops": "11", "nic_packets_in": "0", "nic_packets_out": "0"}, 2)
	b.both("ev\x1bil", map[string]string{"run": replayed, "iface": "'eth0'"}, 0)
	out, errOut, err := b.audit("--host", "web1")
	if !errors.Is(err, errMissing) || errOut != "" {
		t.Errorf("%v, %s", err, errOut)
	}
	want := `host  interface  from                 to        intervals  seen  metered  not IP  errors  dropped  overflow  records  exported  NIC  verdict
web1  eth0       2020-05-17 12:00:00  12:00:20          2    66       60       4       0        0         0        6         6   66  complete
web1  eth0       2020-05-17 12:00:20  12:00:30          1    33       30       2       0       11         0        3         3    -  dropped: 11 packets (25%)
1 host, 1 interface, 3 intervals: 99 packets seen, 90% accounted for; 1 line tells of something missing or doubled
`
	if out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	if out, _, _ := b.audit("--host", "web1", "--all"); strings.Count(out, "\n") != 5 {
		t.Errorf("--all: %s", out)
	}
	out, errOut, err = b.audit("--host", "web1", "-o", "csv", "--limit", "1")
	if !errors.Is(err, errMissing) || !strings.Contains(errOut, "1 lines more") || !strings.Contains(errOut, "3 intervals") {
		t.Errorf("--limit: %v, %s", err, errOut)
	}
	if want := "host,iface,from,to,intervals,packets,metered,not_ip,excluded,decode_errors,drops,overflow,records,lost,rows,row_packets,nic_packets,nic_drops_in,nic_drops_out,unseen,missing,verdict\n" +
		"web1,eth0,2020-05-17T12:00:00.000000000Z,2020-05-17T12:00:20.000000000Z,2,66,60,4,2,0,0,0,6,0,6,60,66,0,0,0,0,complete\n"; out != want {
		t.Errorf("CSV: %s", out)
	}
	out, _, err = b.audit()
	if !errors.Is(err, errMissing) || strings.Contains(out, "\x1b") || !strings.Contains(out, `ev\x1bil`) || !strings.Contains(out, "2 hosts, 2 interfaces, 4 intervals") {
		t.Errorf("all hosts: %v\n%s", err, out)
	}
	if out, _, err := b.audit("--interface", "eth0", "--host", "web1", "--until", "2020-05-17 12:00:20"); err != nil || !strings.Contains(out, "2 intervals") {
		t.Errorf("--until: %v\n%s", err, out)
	}
}

// TestAuditAsksInParts holds that many rows, which are asked for a few hosts at a time,
// have the same answer.
func TestAuditAsksInParts(t *testing.T) {
	b := newBooks(t)
	for _, host := range []string{"a", "b b", `c'd\t{x`, "e"} {
		b.both(host, nil, 0, 1, 3)
	}
	if got, _ := b.verdicts(`c'd\t{x`); len(got) == 0 || got[0] != "2 complete" {
		t.Errorf("%q", got)
	}
	b.flows("B", 0, 1) // only flows knows them
	b.flows("b c", 0, 1)
	b.flows("z", 0, 1)
	whole, _, err := b.audit("--all")
	if !errors.Is(err, errMissing) || !strings.Contains(whole, "7 hosts, 7 interfaces, 15 intervals") {
		t.Fatalf("%v\n%s", err, whole)
	}
	defer func(n uint64) { rowsAtOnce = n }(rowsAtOnce)
	for _, rowsAtOnce = range []uint64{1, 6} {
		if out, _, err := b.audit("--all"); !errors.Is(err, errMissing) || out != whole {
			t.Errorf("%d at a time: %v\n%s\nwant\n%s", rowsAtOnce, err, out, whole)
		}
	}
}

// TestAuditOfNothing holds that nobody takes silence for a good answer.
func TestAuditOfNothing(t *testing.T) {
	b := newBooks(t)
	if _, _, err := b.audit(); err == nil || !strings.Contains(err.Error(), "ledger is empty") {
		t.Errorf("an empty ledger: %v", err)
	}
	b.both("web1", nil, 0)
	for _, c := range []struct{ args, want string }{
		{"--host web2", "no intervals of host web2 from 2020-05-17 00:00:00 to 23:59:59 UTC; hosts there are web1"},
		{"--host web1 --interface wlan0", "leave --interface out"},
		{"--since 2021-01-01 --until 2021-01-02", "ledger holds 2020-05-17 12:00:00 to 12:00:00 UTC"},
		{"--nic-tolerance x", "no part of a whole"},
		{"--nic-tolerance NaN", "no part of a whole"},
		{"--limit 0", "--limit"},
		{"--output xml", "--output"},
	} {
		if _, _, err := b.audit(strings.Fields(c.args)...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.args, err)
		}
	}
	ask := func(args ...string) error {
		_, _, err := execute(newAuditCommand(func() (clickhouse.Options, error) { return b.o, nil }), args...)
		return err
	}
	if err := ask("--until", "now"); err == nil || !strings.Contains(err.Error(), "--since") {
		t.Errorf("--until alone: %v", err)
	}
	b.write()
	b.exec("ALTER TABLE ledger DROP COLUMN lost")
	if err := ask(); err == nil || !strings.Contains(err.Error(), "weir schema --apply") {
		t.Errorf("an old ledger: %v", err)
	}
}

// TestAuditOfNonsense holds that no number of a server's breaks the program.
func TestAuditOfNonsense(t *testing.T) {
	b := newBooks(t)
	const most = "18446744073709551615"
	huge := map[string]string{"run": replayed}
	for _, name := range []string{"interval_ms", "records", "packets", "metered", "overflow", "drops", "lost", "spool", "sequence", "nic_packets_in", "nic_drops_in"} {
		huge[name] = most
	}
	b.ledger("h", 0, huge)
	b.ledger("h", 0, map[string]string{"run": "fromUnixTimestamp64Milli(toInt64(-1000000000000))", "nic_packets_out": most, "not_ip": "map('excluded', " + most + ", 'arp', 5)"})
	b.flows("h", 0, 1)
	b.ledger("h", 1, map[string]string{"sequence": "0", "spool": most, "lost": "5000"})
	for _, output := range []string{"table", "json", "csv"} {
		if out, _, err := b.audit("-o", output); !errors.Is(err, errMissing) || !strings.Contains(out, "records") {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

// TestAuditReadsOnly has a user ask who may do nothing but read.
func TestAuditReadsOnly(t *testing.T) {
	b := newBooks(t)
	b.both("web1", map[string]string{"run": replayed}, 0)
	s := localtest.Start(t)
	b.o.User, b.o.Password = s.Reader, s.ReaderPassword
	if out, _, err := b.audit(); err != nil || !strings.Contains(out, "complete") {
		t.Errorf("%v\n%s", err, out)
	}
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/exporter/clickhouse"
	"weir/exporter/clickhouse/local/localtest"
)

// books are a ledger and flows that a test writes itself: what an agent has written, and
// what nobody should have.
type books struct {
	t  *testing.T
	o  clickhouse.Options
	at time.Time // the first interval

	names         []string // columns of ledger
	ledgers, sums []string // rows that are not written yet, as SELECT has them: of ledger, of flows
}

func newBooks(t *testing.T) *books { return &books{t: t, o: server(t), at: noon} }

// exec runs statements that the program cannot.
func (b *books) exec(sql ...string) {
	b.t.Helper()
	s := localtest.Start(b.t)
	result := make(chan error)
	go func() { // that of the test may be in another network namespace
		var errs []error
		for _, q := range sql {
			u := "http://" + s.HTTPAddr + "/?" + url.Values{"database": {b.o.Database}, "user": {s.User}, "password": {s.Password}, "mutations_sync": {"1"}}.Encode()
			resp, err := http.Post(u, "text/plain", strings.NewReader(q))
			if err != nil {
				errs = append(errs, err)
				continue
			}
			said, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				err = fmt.Errorf("%s: %s", q, bytes.TrimSpace(said))
			}
			errs = append(errs, err)
		}
		result <- errors.Join(errs...)
	}()
	if err := <-result; err != nil {
		b.t.Fatal(err)
	}
}

func quoted(s string) string { return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'" }

func (b *books) ts(n int) string { return fmt.Sprint(b.at.Unix() + int64(10*n)) }

// replayed is the run of rows that no agent has written.
const replayed = "toDateTime64(0, 3)"

// run is when an agent began, so many milliseconds after the first interval.
func (b *books) run(ms int64) string {
	return fmt.Sprintf("fromUnixTimestamp64Milli(toInt64(%d))", b.at.UnixMilli()+ms)
}

// ledger writes the row of interval n: 33 packets, 30 of them in three records.
func (b *books) ledger(host string, n int, change map[string]string) {
	b.t.Helper()
	row := map[string]string{"ts": b.ts(n), "host": quoted(host), "iface": "'eth0'", "interval_ms": "10000", "batch": fmt.Sprint(100 + n), "records": "3",
		"packets": "33", "metered": "30", "octets": "3000", "overflow": "0", "drops": "0", "lost": "0", "lost_reason": "'none'", "spool": "0", "sequence": "0",
		"nic_drops_in": "0", "not_ip": "map('arp', 2, 'excluded', 1)", "run": b.run(-5000), "boot_id": "'first boot'",
		"nic_packets_in": "20", "nic_packets_out": "13"}
	maps.Copy(row, change)
	row["not_ip"] = "CAST(" + row["not_ip"] + ", 'Map(String, UInt64)')"
	b.names = slices.Sorted(maps.Keys(row))
	var values []string
	for _, name := range b.names {
		values = append(values, row[name]+" AS "+name)
	}
	b.ledgers = append(b.ledgers, strings.Join(values, ", "))
}

// flows writes rows of interval n with 10 packets each.
func (b *books) flows(host string, n, rows int) {
	b.t.Helper()
	b.sums = append(b.sums, fmt.Sprintf("%s, %s, 'eth0', %d, number, 4, 6 FROM numbers(%d)", b.ts(n), quoted(host), 100+n, rows))
}

// write writes all of it.
func (b *books) write() {
	b.t.Helper()
	ledgers, sums := b.ledgers, b.sums
	b.ledgers, b.sums = nil, nil
	if len(ledgers) > 0 {
		b.exec("INSERT INTO ledger (" + strings.Join(b.names, ", ") + ") SELECT " + strings.Join(ledgers, " UNION ALL SELECT "))
	}
	if len(sums) > 0 {
		b.exec("INSERT INTO flows (ts, host, iface, batch, src_port, packets, reverse_packets) SELECT " + strings.Join(sums, " UNION ALL SELECT "))
	}
}

// both writes intervals in which all is well.
func (b *books) both(host string, change map[string]string, ns ...int) {
	b.t.Helper()
	for _, n := range ns {
		b.ledger(host, n, change)
		b.flows(host, n, 3)
	}
}

// audit asks about all that the test has written.
func (b *books) audit(args ...string) (stdout, stderr string, err error) {
	b.write()
	return execute(newAuditCommand(func() (clickhouse.Options, error) { return b.o, nil }),
		append([]string{"--since", "2020-05-17", "--until", "2020-05-18"}, args...)...)
}

// verdicts returns what is said of a host, with the number of intervals: "2 complete".
func (b *books) verdicts(host string, args ...string) (all []string, err error) {
	b.t.Helper()
	out, _, err := b.audit(append([]string{"--host", host, "--output", "json"}, args...)...)
	if err != nil && !errors.Is(err, errMissing) {
		b.t.Fatalf("%s: %v", host, err)
	}
	for _, o := range objects(b.t, out) {
		all = append(all, fmt.Sprint(o["intervals"], " ", o["verdict"]))
	}
	return all, err
}

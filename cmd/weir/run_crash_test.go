package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/capture/capturetest"
	"weir/exporter/clickhouse"
	"weir/exporter/clickhouse/local"
	"weir/exporter/clickhouse/local/localtest"
)

// crashes is how often a process is killed in each of the tests below.
const crashes = 50

// outside runs f in the namespace of the test program.
func outside(f func()) {
	done := make(chan struct{})
	go func() { // the thread of the test's own goroutine is inside
		defer close(done)
		f()
	}()
	<-done
}

// crash is a host with traffic, an agent and a server, of which some are killed.
type crash struct {
	t      *testing.T
	server *localtest.Own // outside the test's namespace
	client clickhouse.Options
	flags  []string
	agent  *process
}

func newCrash(t *testing.T) *crash {
	t.Helper()
	c := &crash{t: t, server: localtest.NewOwn(t, local.Options{Memory: "2GiB"})}
	outside(func() { c.server.Start(t) })
	if t.Failed() {
		t.FailNow()
	}
	c.client = clickhouse.Options{Addr: []string{c.server.Addr}, User: c.server.User, Password: c.server.Password, Database: "crash"}
	if err := clickhouse.Apply(t.Context(), c.client, clickhouse.SchemaOptions{}); err != nil {
		t.Fatal(err)
	}
	capturetest.Namespace(t)
	dir := localtest.Folder(t)
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte(c.server.Password), 0o600); err != nil {
		t.Fatal(err)
	}
	c.flags = []string{"--clickhouse", forwardTo(t, c.server.Addr).addr, "--user", c.server.User, "--password-file", password, "--database", "crash",
		"--interval", "1s", "--interface", "c0", "--spool", filepath.Join(dir, "spool", "s")}
	senders, _ := cables(t, 1)
	var stop sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	stop.Go(func() {
		for i := uint64(0); ctx.Err() == nil; i++ {
			if err := senders[0].Send(capturetest.UDP(100, i)); err != nil {
				t.Error(err)
				return
			}
			if i%50 == 49 {
				time.Sleep(5 * time.Millisecond)
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		stop.Wait()
	})
	return c
}

// start starts the agent; batches are small, so that there are many of them.
func (c *crash) start() {
	c.t.Helper()
	c.agent = startAgentWith(c.t, []string{"WEIR_CLICKHOUSE_BATCH_ROWS=1000"}, c.flags...)
	c.agent.captures("c0")
}

// kill kills the agent.
func (c *crash) kill() {
	c.t.Helper()
	if err := c.agent.cmd.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	<-c.agent.ended
}

// killServer kills the server, and starts it again; outside.
func (c *crash) killServer() {
	c.server.Kill(c.t)
	c.server.Start(c.t)
}

// settle has all that waits sent, ends the agent, and checks that every record is there
// once: by the ledger, whose numbers have no gap, in flows, in the roll-ups, and by weir
// audit, which knows of nothing but the times in which no agent was there, if alive is
// false.
func (c *crash) settle(alive bool) {
	t := c.t
	t.Helper()
	until(t, "the spool is empty", func() bool {
		s := c.agent.status()
		return s.Forward != nil && s.Forward.Error == "" && s.Forward.Records == 0 && s.Forward.Acknowledged > 0
	})
	c.agent.stop()
	one := func(what, sql string) uint64 {
		return count(t, c.client, fmt.Sprintf("SELECT toUInt64(%s) FROM %s", what, sql))
	}
	records := one("sum(records)", "crash.ledger")
	flushes := one("uniqExact(sequence)", "crash.ledger")
	t.Logf("%d records of %d flushes", records, flushes)
	if flushes < 10 || records < 1000 {
		t.Errorf("only %d records of %d flushes", records, flushes)
	}
	for what, sql := range map[string]string{
		"ledger rows that are there twice":                "(SELECT count() AS n FROM crash.ledger GROUP BY spool, sequence, iface HAVING n > 1)",
		"flushes that are missing":                        "(SELECT max(sequence) - uniqExact(sequence) AS missing FROM crash.ledger GROUP BY spool HAVING missing > 0)",
		"spools, but one":                                 "(SELECT spool FROM crash.ledger GROUP BY spool LIMIT 100 OFFSET 1)",
		"records that were given up":                      "crash.ledger WHERE lost > 0",
		"intervals of which flows has more or less":       "(SELECT batch, ts, count() AS n FROM crash.flows GROUP BY batch, ts) AS f FULL JOIN (SELECT batch, ts, sum(records) AS n FROM crash.ledger GROUP BY batch, ts) AS l USING (batch, ts) WHERE f.n != l.n",
		"intervals of which flows has other packets":      "(SELECT batch, ts, sum(packets + reverse_packets) AS n FROM crash.flows GROUP BY batch, ts) AS f FULL JOIN (SELECT batch, ts, sum(metered) AS n FROM crash.ledger GROUP BY batch, ts) AS l USING (batch, ts) WHERE f.n != l.n",
		"minutes of which the roll-up has something else": "(SELECT toStartOfMinute(ts) AS ts, count() AS r, sum(packets) AS p, sum(bytes) AS b FROM crash.flows GROUP BY 1) AS f FULL JOIN (SELECT ts, sum(records) AS r, sum(packets) AS p, sum(bytes) AS b FROM crash.flows_1m GROUP BY ts) AS m USING ts WHERE f.r != m.r OR f.p != m.p OR f.b != m.b",
		"hours of which the roll-up has something else":   "(SELECT toStartOfHour(ts) AS ts, count() AS r, sum(packets) AS p, sum(bytes) AS b FROM crash.flows GROUP BY 1) AS f FULL JOIN (SELECT ts, sum(records) AS r, sum(packets) AS p, sum(bytes) AS b FROM crash.flows_1h GROUP BY ts) AS m USING ts WHERE f.r != m.r OR f.p != m.p OR f.b != m.b",
	} {
		if n := one("count()", sql); n != 0 {
			t.Errorf("%d %s", n, what)
		}
	}
	r := weir(t, nil, append([]string{"audit", "--since", "1h"}, c.flags[:8]...)...)
	if alive != (r.code == exitOK) || r.code > exitFailure || !strings.Contains(r.stdout, "complete") {
		t.Errorf("audit ends with %d: %s%s", r.code, r.stdout, r.stderr)
	}
	lines, _, _ := strings.Cut(r.stdout, "\n1 host, ") // what follows are sums
	for _, word := range []string{"missing", "duplicates", "doubled", "differ", "open", "lost", "no ledger", "rebooted"} {
		if strings.Contains(lines, word) {
			t.Errorf("audit says:\n%s", r.stdout)
			break
		}
	}
}

// someTime waits for a random time in which much may happen.
func someTime(most time.Duration) { time.Sleep(time.Duration(rand.Int64N(int64(most)))) }

// TestCrashAgent kills the agent at random moments, under traffic.
func TestCrashAgent(t *testing.T) {
	t.Parallel()
	c := newCrash(t)
	for range crashes {
		c.start()
		someTime(1500 * time.Millisecond)
		c.kill()
	}
	c.start()
	c.settle(false)
}

// TestCrashServer kills ClickHouse at random moments, while the agent sends.
func TestCrashServer(t *testing.T) {
	t.Parallel()
	c := newCrash(t)
	c.start()
	for range crashes {
		someTime(time.Second)
		outside(func() { c.killServer() })
	}
	c.settle(true)
}

// TestCrashBoth kills both, each at its own random moments.
func TestCrashBoth(t *testing.T) {
	t.Parallel()
	c := newCrash(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; i < crashes && !t.Failed(); i++ {
			someTime(time.Second)
			c.killServer()
		}
	}()
	for range crashes {
		c.start()
		someTime(1500 * time.Millisecond)
		c.kill()
	}
	<-done
	c.start()
	c.settle(false)
}

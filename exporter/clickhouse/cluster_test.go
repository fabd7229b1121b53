//go:build linux && amd64

package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/flows"
)

// hostBatches are n intervals of each of two hosts whose rows go to different shards, 100 records each.
func hostBatches(n int) (out []*flows.Batch, total int) {
	for i := range n {
		for j, host := range []string{"h1", "h3", "h4"} { // by cityHash64: shards 0, 1, 1
			start := day.Add(time.Duration(i) * 10 * time.Second)
			b := batchOf(start, records(100, start, uint64(i*10+j)))
			b.Host, b.Ledger = host, &flows.Ledger{Records: 100}
			out, total = append(out, b), total+100
		}
	}
	return out, total
}

// Two servers, tables Distributed over them: what is inserted by either counts once, on the
// shards and in their roll-ups, also if a shard was away in between; and it can be asked for at
// either.
func TestCluster(t *testing.T) {
	const db = "spread"
	agent := user{name: "agent"}
	for _, table := range []string{"flows", "flows_local", "ledger", "ledger_local"} {
		agent.grants = append(agent.grants, "GRANT INSERT ON "+db+"."+table)
	}
	servers := newServers(t, 2, agent, user{name: "half", grants: []string{"GRANT INSERT ON spread.flows", "GRANT INSERT ON spread.ledger"}})
	so := SchemaOptions{Cluster: "two", Unreplicated: true, TTL: map[string]time.Duration{"ledger": 24 * time.Hour * 365 * 20}}
	var admins []admin
	for _, s := range servers {
		s.Start(t)
	}
	for _, s := range servers {
		for range 2 {
			if err := Apply(t.Context(), s.admin(db), so); err != nil {
				t.Fatal(err)
			}
		}
		if err := Check(t.Context(), s.admin(db)); err != nil {
			t.Fatal(err)
		}
		admins = append(admins, dial(t, s.admin(db)))
	}
	defer func() {
		for _, a := range admins {
			a.close()
		}
	}()
	batches, total := hostBatches(30)
	sink := SinkOptions{Token: "spread", MaxRows: 2500}
	send(t, servers[0].as("agent", "secret", db), sink, batches...)
	send(t, servers[0].as("agent", "secret", db), sink, batches...)
	send(t, servers[1].as("agent", "secret", db), sink, batches...) // by another way in
	local := func(a admin, table string) string { return a.table(table + localSuffix) }
	shares := func() (shares []string) {
		for _, a := range admins {
			a.agree(t, total)
			n := a.one(t, "count()", local(a, flowsTable))
			for _, roll := range []string{minuteTable, hourTable} {
				if got := a.one(t, "sum(records)", local(a, roll)); got != n {
					t.Errorf("a shard of %s has %s, of flows %s", roll, got, n)
				}
			}
			if hosts := a.one(t, "arraySort(groupUniqArray(host))", local(a, flowsTable)); n == "0" || strings.Contains(hosts, "h1") == strings.Contains(hosts, "h3") {
				t.Errorf("a shard has %s rows of hosts %s", n, hosts)
			}
			shares = append(shares, n)
		}
		return shares
	}
	first := shares()
	if got := admins[1].one(t, "count()", admins[1].table(ledgerTable)); got != "90" {
		t.Errorf("%s ledgers, want 90", got)
	}

	// One shard is away at the first try.
	more, n := hostBatches(50)
	more = more[len(batches):]
	total += n - total
	if err := admins[1].close(); err != nil {
		t.Fatal(err)
	}
	servers[1].Stop(t)
	s := newSink(t, servers[0].as("agent", "secret", db), SinkOptions{Token: "away", MaxRows: 2500, Patience: time.Nanosecond})
	var err error
	for _, b := range more {
		if err = s.Write(context.Background(), b); err != nil {
			break
		}
	}
	if err = errors.Join(err, s.Close(context.Background())); err == nil {
		t.Fatal("rows of a shard that is away were taken")
	}
	servers[1].Start(t)
	admins[1] = dial(t, servers[1].admin(db))
	for range 2 {
		send(t, servers[0].as("agent", "secret", db), SinkOptions{Token: "away", MaxRows: 2500}, more...)
		if second := shares(); slices.Equal(first, second) {
			t.Errorf("the shards have what they had: %v", second)
		}
	}

	// Questions as weir query asks them.
	for _, a := range admins {
		r, err := NewReader(t.Context(), a.Options, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		var rows, packets uint64
		err = r.Query(t.Context(), "SELECT host, count() AS n, min(first), max(last), sum(bytes) FROM "+r.Table()+" WHERE service = 'https' GROUP BY host WITH TOTALS ORDER BY n DESC",
			nil, 10, func(row Rows) error {
				var host string
				var n uint64
				var first, last time.Time
				rows++
				return row.Scan(&host, &n, &first, &last, &packets)
			}, nil)
		if err != nil || rows != 3 {
			t.Errorf("%d rows, %v", rows, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if got := a.one(t, "sum(records)", a.table(conversationsView)+" WHERE ts >= '2026-01-02 00:00:00'"); got != fmt.Sprint(total) {
			t.Errorf("conversations have %s records, want %d", got, total)
		}
	}

	// The form is found out, and not mixed.
	for name, so := range map[string]SchemaOptions{"cluster two (name it": {}, "want tables spread over cluster other": {Cluster: "other"}} {
		if err := Apply(t.Context(), servers[0].admin(db), so); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%+v: %v", so, err)
		}
	}
	if _, err := NewSink(t.Context(), servers[0].as("half", "secret", db), SinkOptions{}); err == nil || !strings.Contains(err.Error(), "GRANT INSERT ON `spread`.`flows_local` TO half") {
		t.Errorf("half: %v", err)
	}
	var missing *SchemaError
	admins[0].run(t, "DROP TABLE "+local(admins[0], hourTable)+" SYNC")
	if err := Check(t.Context(), servers[0].admin(db)); !errors.As(err, &missing) || !slices.Equal(missing.Missing, []string{"flows_1h_local"}) {
		t.Errorf("a shard lacks a table: %v", err)
	}
}

// The server understands each statement for a replicated cluster, and means by it what
// we do.
func TestReplicatedStatements(t *testing.T) {
	o := options(t)
	a := dial(t, o)
	defer a.close()
	statements := printed("weir", SchemaOptions{Cluster: "main", TTL: map[string]time.Duration{"flows": time.Hour}})
	all := ""
	for _, statement := range statements {
		ctx, cancel := a.deadline(t.Context())
		var text string
		if err := a.conn.QueryRow(withParameters(ctx, map[string]string{"q": escapeParameter(statement)}), "SELECT formatQuerySingleLine({q:String})").Scan(&text); err != nil {
			t.Errorf("%v: %s", err, statement)
		}
		cancel()
		if !strings.HasPrefix(text, "INSERT") && !strings.Contains(text, " ON CLUSTER main") {
			t.Errorf("for one server only: %s", text)
		}
		all += text + "\n"
	}
	for pattern, want := range map[string]int{
		`CREATE TABLE IF NOT EXISTS weir\.\w+_local ON CLUSTER main`:                                                                 4,
		`ENGINE = Replicated(Summing)?MergeTree\('/clickhouse/tables/\{shard\}/weir/\w+_local', '\{replica\}'`:                       4,
		`ENGINE = ReplicatedSummingMergeTree\('[^']+', '\{replica\}', \(packets, bytes, reverse_packets, reverse_bytes, records\)\)`: 2,
		`ENGINE = ReplicatedMergeTree\('/clickhouse/tables/weir/weir_schema', '\{shard\}-\{replica\}'\)`:                             1,
		`ENGINE = Distributed\('?main'?, '?weir'?, '?\w+_local'?, cityHash64\(host\)\)`:                                              4,
		`CREATE MATERIALIZED VIEW IF NOT EXISTS weir\.\w+_mv ON CLUSTER main TO weir\.\w+_local`:                                     2,
		`FROM weir\.flows_local AS f`: 2,
		`SETTINGS replicated_deduplication_window = \d+, replicated_deduplication_window_seconds = \d+`: 4,
		`ALTER TABLE weir\.flows_local ON CLUSTER main \(MODIFY TTL ts \+ toIntervalSecond\(3600\)`:     1,
		`non_replicated`: 0,
	} {
		if got := len(regexp.MustCompile(pattern).FindAllString(all, -1)); got != want {
			t.Errorf("%d matches of %s, want %d", got, pattern, want)
		}
	}
}

// escapeParameter writes a value as the server reads it: escaped as in TSV.
func escapeParameter(s string) string {
	return strings.NewReplacer("\\", "\\\\", "\n", "\\n", "\t", "\\t", "'", "\\'").Replace(s)
}

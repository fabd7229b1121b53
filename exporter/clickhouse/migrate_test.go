package clickhouse

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// version1 makes a database as version 1 of the schema did, with rows in it, and
// returns how many.
func version1(t *testing.T, o Options, a admin) int {
	t.Helper()
	text, err := os.ReadFile("testdata/schema_v1.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range strings.Split(strings.ReplaceAll(comment.ReplaceAllString(string(text), ""), "DATABASE`", o.Database+"`"), ";\n") {
		if strings.TrimSpace(statement) != "" {
			a.run(t, statement)
		}
	}
	a.run(t, insertVersion1(a))
	a.run(t, "INSERT INTO "+a.table(ledgerTable)+" (ts, host, iface, records, packets, not_ip) VALUES ('2026-01-02 23:30:00', 'h1', 'eth0', 500, 7, map('arp', 3))")
	return 500
}

// insertVersion1 is the insert of a batch under a token.
func insertVersion1(a admin) string {
	return "INSERT INTO " + a.table(flowsTable) + " (ts, host, iface, direction, proto, src_ip, dst_ip, src_port, dst_port, packets, bytes, initiator)\n" +
		"SETTINGS insert_deduplication_token = 'v1', deduplicate_blocks_in_dependent_materialized_views = 1, optimize_on_insert = 0\n" +
		"SELECT toDateTime('2026-01-02 23:30:00', 'UTC') + number * 10, 'h1', 'eth0', 'out', 6, '192.0.2.1', '198.51.100.7', 40000 + number, 443, 1 + number, 100 * number, 'syn' FROM numbers(500)"
}

func TestMigrationLosesNothing(t *testing.T) {
	o := options(t)
	a := dial(t, o)
	defer a.close()
	rows := version1(t, o, a)
	const sum = "groupBitXor(cityHash64(ts, host, iface, src_ip, dst_ip, src_port, dst_port, packets, bytes))"
	before := a.one(t, sum, a.table(flowsTable))
	var different *SchemaError
	if err := Check(t.Context(), o); !errors.As(err, &different) {
		t.Fatalf("version 1 passes for %d: %v", Version, err)
	}
	for range 2 {
		if err := Apply(t.Context(), o, SchemaOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := Check(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	if got := a.one(t, "groupArray(version)", "(SELECT version FROM "+a.table(versionTable)+" ORDER BY version)"); got != "[1,2]" {
		t.Errorf("versions %s", got)
	}
	if after := a.one(t, sum, a.table(flowsTable)); after != before {
		t.Error("the rows are not what they were")
	}
	for from, want := range map[string]string{
		"(SELECT count() AS n FROM " + a.table(flowsTable) + " WHERE service = 'https' AND length(community_id) = 30)": "500",
		"(SELECT sum(records) AS n FROM " + a.table(minuteTable) + ")":                                                 "500",
		"(SELECT sum(records) AS n FROM " + a.table(hourTable) + ")":                                                   "0", // its view sees what comes
		"(SELECT not_ip['arp'] + lost AS n FROM " + a.table(ledgerTable) + ")":                                         "3",
		"(SELECT sum(records) AS n FROM " + a.table(conversationsView) + ")":                                           "500",
	} {
		if got := a.one(t, "n", from); got != want {
			t.Errorf("%s: %s, want %s", from, got, want)
		}
	}
	// A batch that was under way during the migration is sent again.
	a.run(t, insertVersion1(a))
	if got := a.one(t, "count()", a.table(flowsTable)) + " " + a.one(t, "sum(records)", a.table(minuteTable)); got != "500 500" {
		t.Errorf("sent again: %s records", got)
	}
	for i := range 2 {
		for _, statement := range (layout{db: o.Database}).backfill(day.AddDate(0, 0, i).Format(time.DateOnly)) {
			a.run(t, statement)
		}
	}
	a.agree(t, rows)
	later := batchOf(day.AddDate(0, 0, 3), records(1000, day.AddDate(0, 0, 3), 1))
	send(t, o, SinkOptions{Token: "later"}, later)
	send(t, o, SinkOptions{Token: "later"}, later)
	a.agree(t, rows+1000)
}

// A migration that broke off anywhere is completed by the next.
func TestMigrationBreaksOff(t *testing.T) {
	o := options(t)
	a := dial(t, o)
	defer a.close()
	l := layout{db: o.Database}
	done := len(l.statements(1, 1)) + len(l.statements(1, 2))
	for broken := 1; broken <= done; broken += 5 {
		a.run(t, "DROP DATABASE IF EXISTS "+quote(o.Database)+" SYNC")
		rows := version1(t, o, a)
		for _, statement := range append(l.statements(1, 1), l.statements(1, 2)...)[:broken] {
			a.run(t, statement)
		}
		if err := Apply(t.Context(), o, SchemaOptions{}); err != nil {
			t.Fatalf("after %d of %d statements: %v", broken, done, err)
		}
		if got := a.one(t, "(count(), any(service))", a.table(flowsTable)); got != "(500,'https')" || rows != 500 {
			t.Errorf("after %d of %d statements: %s", broken, done, got)
		}
	}
}

// All there is has a comment. Views of version 1 have none and work with the rights of who
// inserts, for to alter a view makes it count twice what is sent again.
func TestEverythingIsDescribed(t *testing.T) {
	for _, old := range []bool{false, true} {
		o := options(t)
		a := dial(t, o)
		views, lacking := "2", "[]"
		if old {
			version1(t, o, a)
			views, lacking = "1", "['flows_1m_mv']"
		}
		if err := Apply(t.Context(), o, SchemaOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := a.one(t, "groupArray(name)", "system.tables WHERE comment = '' AND database = '"+o.Database+"'"); got != lacking {
			t.Errorf("without a comment: %s", got)
		}
		if got := a.one(t, "groupUniqArray(table)", "system.columns WHERE comment = '' AND database = '"+o.Database+"'"); got != lacking {
			t.Errorf("without a comment: columns of %s", got)
		}
		if got := a.one(t, "count()", "system.tables WHERE create_table_query LIKE '%SQL SECURITY DEFINER%' AND database = '"+o.Database+"'"); got != views {
			t.Errorf("%s views read with their maker's rights, want %s", got, views)
		}
		a.run(t, "DROP DATABASE "+quote(o.Database)+" SYNC")
		if err := a.close(); err != nil {
			t.Error(err)
		}
	}
}

func TestTTL(t *testing.T) {
	o := options(t)
	a := dial(t, o)
	defer a.close()
	ttl := func() string {
		return a.one(t, "arraySort(groupArray((name, extract(create_table_query, 'TTL ts . toIntervalSecond.([0-9]+)'))))",
			"system.tables WHERE name IN ('flows', 'flows_1m', 'flows_1h', 'ledger') AND database = '"+o.Database+"'")
	}
	const hour = time.Hour
	for _, step := range []struct {
		ttl  map[string]time.Duration
		want string
	}{
		{nil, "[('flows',''),('flows_1h',''),('flows_1m',''),('ledger','')]"},
		{map[string]time.Duration{"flows": hour, "flows_1h": 3 * hour}, "[('flows','3600'),('flows_1h','10800'),('flows_1m',''),('ledger','')]"},
		{nil, "[('flows','3600'),('flows_1h','10800'),('flows_1m',''),('ledger','')]"},
		{map[string]time.Duration{"flows": 2 * hour, "flows_1h": 0, "ledger": hour, "flows_1m": 0}, "[('flows','7200'),('flows_1h',''),('flows_1m',''),('ledger','3600')]"},
		{map[string]time.Duration{"flows": 2 * hour}, "[('flows','7200'),('flows_1h',''),('flows_1m',''),('ledger','3600')]"},
	} {
		if err := Apply(t.Context(), o, SchemaOptions{TTL: step.ttl}); err != nil {
			t.Fatal(err)
		}
		if got := ttl(); got != step.want {
			t.Errorf("%v: %s, want %s", step.ttl, got, step.want)
		}
	}
	for _, wrong := range []SchemaOptions{{TTL: map[string]time.Duration{"x": hour}}, {TTL: map[string]time.Duration{"flows": 1}}, {TTL: map[string]time.Duration{"flows": -hour}}, {TTL: map[string]time.Duration{"flows": 100 * year}},
		{Cluster: "a'b"}, {Cluster: "1"}, {Unreplicated: true}} {
		if err := Apply(t.Context(), o, wrong); err == nil {
			t.Errorf("%+v was taken", wrong)
		}
	}
}

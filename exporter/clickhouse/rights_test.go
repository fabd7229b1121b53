//go:build linux && amd64

package clickhouse

import (
	"errors"
	"strings"
	"testing"

	"weir/flows"
)

// An agent needs to insert into flows and ledger, and no other right: not to read, and
// nothing on the tables that views fill. Where a right is lacking, the error has the
// statement that gives it.
func TestInsertIsTheOnlyRight(t *testing.T) {
	s := newServers(t, 1,
		user{name: "agent", grants: []string{"GRANT INSERT ON rights.flows", "GRANT INSERT ON rights.ledger"}},
		user{name: "half", grants: []string{"GRANT INSERT ON rights.flows"}},
		user{name: "columns", grants: []string{"GRANT INSERT(ts, host) ON rights.flows", "GRANT INSERT ON rights.ledger"}},
		user{name: "nobody", grants: []string{"GRANT SHOW DATABASES ON rights.*"}},
		user{name: "maker", grants: []string{"GRANT SELECT, INSERT, CREATE TABLE, CREATE VIEW, SHOW TABLES ON rights.*", "GRANT TABLE ENGINE ON *"}})[0]
	s.Start(t)
	if err := Apply(t.Context(), s.admin("rights"), SchemaOptions{}); err != nil {
		t.Fatal(err)
	}
	batch := batchOf(day, records(1000, day, 1))
	batch.Ledger = &flows.Ledger{Records: 1000}
	for range 2 {
		send(t, s.as("agent", "secret", "rights"), SinkOptions{Token: "once"}, batch)
	}
	a := dial(t, s.admin("rights"))
	defer a.close()
	a.agree(t, 1000)
	if got := a.one(t, "count()", a.table(ledgerTable)); got != "1" {
		t.Errorf("%s ledgers", got)
	}
	if err := Check(t.Context(), s.as("agent", "secret", "rights")); err != nil {
		t.Errorf("check: %v", err)
	}
	agent := dial(t, s.as("agent", "secret", "rights"))
	defer agent.close()
	for _, sql := range []string{"SELECT count() FROM " + a.table(flowsTable), "INSERT INTO " + a.table(hourTable) + " (packets) VALUES (1)", "DROP TABLE " + a.table(flowsTable)} {
		if err := agent.exec(t.Context(), sql, "", sql); err == nil {
			t.Errorf("may do: %s", sql)
		}
	}
	for name, want := range map[string][]string{
		"half":    {"GRANT INSERT ON `rights`.`ledger` TO half"},
		"columns": {"GRANT INSERT ON `rights`.`flows` TO columns"},
		"nobody":  {"GRANT INSERT ON `rights`.`flows` TO nobody", "GRANT INSERT ON `rights`.`ledger` TO nobody"},
	} {
		_, err := NewSink(t.Context(), s.as(name, "secret", "rights"), SinkOptions{})
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, w := range want {
			if !strings.Contains(e.Hint, w) {
				t.Errorf("%s: %v\nwant %s", name, err, w)
			}
		}
		if got := strings.Count(e.Hint, "GRANT "); got != len(want) {
			t.Errorf("%s: %d statements in %v", name, got, err)
		}
	}
	// Who applies a schema that is up to date needs no right to alter, and hears of one to create.
	if err := Apply(t.Context(), s.as("maker", "secret", "rights"), SchemaOptions{}); err != nil {
		t.Errorf("maker: %v", err)
	}
	a.run(t, "DROP TABLE "+a.table(ledgerTable)+" SYNC")
	if err := Apply(t.Context(), s.as("half", "secret", "rights"), SchemaOptions{}); err == nil || !strings.Contains(err.Error(), "GRANT SELECT ON rights.weir_schema TO half") {
		t.Errorf("half: %v", err)
	}
}

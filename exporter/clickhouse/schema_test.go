package clickhouse

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestApplyIsIdempotentAndCheckAgrees(t *testing.T) {
	o := options(t)
	var missing *SchemaError
	if err := Check(t.Context(), o); !errors.As(err, &missing) || len(missing.Missing) != len(layout{}.tables()) || !strings.Contains(err.Error(), "weir schema --apply") {
		t.Fatalf("before: %v", err)
	}
	for range 3 {
		if err := Apply(t.Context(), o, SchemaOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := Check(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	a := dial(t, o)
	defer a.close()
	if got := a.one(t, "(count(), max(version))", a.table(versionTable)); got != "(2,2)" {
		t.Errorf("versions: %s", got)
	}
	// What was dropped is made again.
	a.run(t, "DROP VIEW "+a.table(minuteView)+" SYNC")
	a.run(t, "DROP TABLE "+a.table(ledgerTable)+" SYNC")
	if err := Check(t.Context(), o); !errors.As(err, &missing) || len(missing.Missing) != 2 {
		t.Errorf("two are missing: %v", err)
	}
	if err := Apply(t.Context(), o, SchemaOptions{}); err != nil {
		t.Fatal(err)
	}
}

var comment = regexp.MustCompile(`(?m)^--.*\n`)

// printed returns the statements of what is printed, one by one.
func printed(db string, so SchemaOptions) (out []string) {
	for _, statement := range strings.Split(comment.ReplaceAllString(Print(db, so), ""), ";\n") {
		if strings.TrimSpace(statement) != "" {
			out = append(out, statement)
		}
	}
	return out
}

// What is printed makes the same tables as what is applied.
func TestPrintedStatementsWork(t *testing.T) {
	o := options(t)
	a := dial(t, o)
	defer a.close()
	for _, statement := range printed(o.Database, SchemaOptions{TTL: map[string]time.Duration{"flows": time.Hour, "flows_1m": time.Hour}}) {
		a.run(t, statement)
	}
	if err := Check(t.Context(), o); err != nil {
		t.Error(err)
	}
	if got := a.one(t, "countIf(create_table_query LIKE '%TTL ts + toIntervalSecond(3600)%')", "system.tables WHERE database = '"+o.Database+"'"); got != "2" {
		t.Errorf("%s tables have the TTL, want 2", got)
	}
	if err := Apply(t.Context(), o, SchemaOptions{}); err != nil {
		t.Error(err)
	}
	if got := a.one(t, "count()", a.table(versionTable)); got != "1" {
		t.Errorf("%s versions", got)
	}
	if strings.Contains(Print("", SchemaOptions{}), "TTL") {
		t.Error("there is a TTL that nobody asked for")
	}
}

func TestOtherColumnsAreRefused(t *testing.T) {
	o := options(t)
	a := dial(t, o)
	defer a.close()
	a.run(t, "CREATE DATABASE "+quote(o.Database))
	a.run(t, "CREATE TABLE "+a.table("flows")+" (ts DateTime, `evil\x1b` String, bytes UInt32, first DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY ts")
	for _, f := range []func() error{
		func() error { return Apply(t.Context(), o, SchemaOptions{}) },
		func() error { return Check(t.Context(), o) },
		func() error { _, err := NewSink(t.Context(), o, SinkOptions{}); return err },
	} {
		err := f()
		var e *SchemaError
		if !errors.As(err, &e) {
			t.Fatalf("not refused: %v", err)
		}
		for _, want := range []string{
			"flows, column ts: have DateTime, want DateTime('UTC')",
			"flows, column bytes: have UInt32, want UInt64",
			"flows, column src_ip: have nothing, want IPv6",
			"flows, column first: have DateTime64(3, 'UTC'), want DateTime64(3, 'UTC') ALIAS",
			"setting non_replicated_deduplication_window: have 0, want 100000",
			o.Addr[0], o.Database,
		} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in\n%v", want, err)
			}
		}
	}
	if got := a.one(t, "count()", "system.tables WHERE database = '"+o.Database+"'"); got != "1" {
		t.Errorf("there are %s tables after a refusal, want the one that was there", got)
	}
}

func TestMoreColumnsAreFine(t *testing.T) {
	o := applied(t)
	a := dial(t, o)
	defer a.close()
	a.run(t, "ALTER TABLE "+a.table("flows")+" ADD COLUMN site String DEFAULT 'here', ADD COLUMN c String ALIAS toString(src_ip)")
	if err := Apply(t.Context(), o, SchemaOptions{}); err != nil {
		t.Fatal(err)
	}
	send(t, o, SinkOptions{}, batchOf(day, records(3, day, 1)))
	if got := a.one(t, "(count(), any(site))", a.table("flows")); got != "(3,'here')" {
		t.Errorf("got %s", got)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	o := applied(t)
	a := dial(t, o)
	defer a.close()
	a.run(t, "INSERT INTO "+a.table(versionTable)+" VALUES (99, now())")
	if err := Apply(t.Context(), o, SchemaOptions{}); err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("got %v", err)
	}
}

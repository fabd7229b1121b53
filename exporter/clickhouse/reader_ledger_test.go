package clickhouse

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"
)

// TestReaderParameters holds that a value arrives as it is, whatever is in it.
func TestReaderParameters(t *testing.T) {
	r := newReader(t, options(t), Limits{})
	for _, want := range []string{"", "web1", `a'b"c`, `c:\temp\new`, `\`, `\'`, "tab\tnew\nline\rreturn", "{x:String}", `\N`, "é\x00\xff"} {
		var got string
		if err := r.Query(t.Context(), "SELECT {x:String}", map[string]string{"x": want}, 1, func(rows Rows) error { return rows.Scan(&got) }, nil); err != nil || got != want {
			t.Errorf("%q became %q, %v", want, got, err)
		}
	}
}

func TestKept(t *testing.T) {
	o := options(t)
	for _, ttl := range []time.Duration{0, 90 * 24 * time.Hour} {
		if err := Apply(context.Background(), o, SchemaOptions{TTL: map[string]time.Duration{flowsTable: ttl}}); err != nil {
			t.Fatal(err)
		}
		r := newReader(t, o, Limits{})
		if d, err := r.Kept(t.Context()); err != nil || d != ttl {
			t.Errorf("%v, %v; want %v", d, err, ttl)
		}
		a := dial(t, o)
		a.run(t, "ALTER TABLE "+r.Table()+" MODIFY TTL ts + INTERVAL 2 WEEK")
		if d, err := r.Kept(t.Context()); err != nil || d != 14*24*time.Hour {
			t.Errorf("%v, %v; want two weeks", d, err)
		}
		a.run(t, "DROP DATABASE "+quote(o.Database)+" SYNC")
		if err := a.close(); err != nil {
			t.Fatal(err)
		}
	}
	for engine, want := range map[string]time.Duration{
		"MergeTree PARTITION BY toDate(ts) ORDER BY ts TTL ts + toIntervalMonth(2) SETTINGS x = 1": 56 * 24 * time.Hour,
		"MergeTree ORDER BY ts TTL other + toIntervalDay(1)":                                       0,
		"MergeTree ORDER BY ts TTL ts + toIntervalYear(999999999)":                                 0, // beyond what can be
		"MergeTree ORDER BY ts TTL ts + toIntervalDay(99999999999999999999)":                       0,
		"": 0,
	} {
		if d := parseTTL(engine); d != want {
			t.Errorf("%s: %v, want %v", engine, d, want)
		}
	}
}

func TestOutdated(t *testing.T) {
	o := applied(t)
	r := newReader(t, o, Limits{})
	err := r.Query(t.Context(), "SELECT no_such_column FROM "+r.LedgerTable(), nil, 1, ignore, nil)
	if !Outdated(err) || Outdated(nil) || Outdated(errors.New("other")) {
		t.Errorf("%v", err)
	}
	if err := r.Query(t.Context(), "SELECT", nil, math.MaxInt32, ignore, nil); err == nil || Outdated(err) {
		t.Errorf("%v", err)
	}
}

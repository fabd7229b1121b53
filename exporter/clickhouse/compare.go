package clickhouse

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"weir/exporter"
)

// SchemaError says how the tables on the server differ from those that this
// program writes.
type SchemaError struct {
	Server, Database string
	Missing          []string     // tables and views
	Differences      []Difference // of those that exist
}

// Difference is one thing about a table that is not as it should be.
type Difference struct {
	Table, What, Have, Want string
}

// Error returns a table of the differences.
func (e *SchemaError) Error() string {
	var sb strings.Builder
	fmt.Fprintf(&sb, "ClickHouse %s: database %s is not as this program writes it:", e.Server, exporter.Escape(e.Database, false))
	for _, m := range e.Missing {
		fmt.Fprintf(&sb, "\n  %s: missing", m)
	}
	for _, d := range e.Differences {
		fmt.Fprintf(&sb, "\n  %s, %s: have %s, want %s", d.Table, d.What, d.Have, d.Want)
	}
	if len(e.Differences) == 0 {
		sb.WriteString("\ncreate what is missing with `weir schema --apply`")
	} else {
		sb.WriteString("\nname another database, or rename the tables that differ (RENAME TABLE ... TO ...) and run `weir schema --apply`")
	}
	return sb.String()
}

// maxServerColumns bounds what is read of the server's description of a table.
const maxServerColumns = 1000

// have is a table as the server describes it.
type have struct {
	engine  string
	create  string
	columns map[string]columnDef
}

// compare looks for all that is missing or other than it should be. Columns that
// the server has beyond ours are its owner's business: inserts name theirs.
// What newer versions of the schema than version have brought may be missing, and with
// missingIsFine whole tables may.
func (s *server) compare(ctx context.Context, version int, missingIsFine bool) error {
	on, err := s.describe(ctx)
	if err != nil {
		return err
	}
	e := &SchemaError{Server: s.conn.order()[0].addr, Database: s.Database}
	for _, want := range tables(s.Database) {
		got, ok := on[want.name]
		if !ok {
			e.Missing = append(e.Missing, want.name)
			continue
		}
		e.Differences = append(e.Differences, differences(&want, got, version)...)
	}
	if len(e.Differences) > 0 || len(e.Missing) > 0 && !missingIsFine {
		return e
	}
	return nil
}

var windowSetting = regexp.MustCompile(`non_replicated_deduplication_window = (\d+)`)

func differences(want *tableDef, got have, version int) []Difference {
	var ds []Difference
	add := func(what, have, want_ string) {
		ds = append(ds, Difference{want.name, what, exporter.Escape(have, false), want_})
	}
	if want.query != "" {
		if got.engine != "MaterializedView" {
			add("engine", got.engine, "MaterializedView")
		}
		return ds
	}
	for _, c := range want.columns {
		g, ok := got.columns[c.name]
		switch {
		case !ok && c.since > version: // is going to be added
		case !ok:
			add("column "+c.name, "nothing", c.describe())
		case g.typ != c.typ || (g.alias != "") != (c.alias != ""):
			add("column "+c.name, g.describe(), c.describe())
		}
	}
	// Repeated inserts are recognised by a MergeTree with a window, by Replicated
	// tables always; Null and Distributed tables pass them on.
	if want.window > 0 && strings.HasSuffix(got.engine, "MergeTree") && !strings.HasPrefix(got.engine, "Replicated") {
		m := windowSetting.FindStringSubmatch(got.create)
		if m == nil || m[1] == "0" {
			add("setting non_replicated_deduplication_window", "0", fmt.Sprint(want.window))
		}
	}
	return ds
}

func (c columnDef) describe() string {
	if c.alias != "" {
		return c.typ + " ALIAS"
	}
	return c.typ
}

// describe reads what the server has of our tables.
func (s *server) describe(ctx context.Context) (map[string]have, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	on := map[string]have{}
	for _, t := range tables(s.Database) {
		h := have{columns: map[string]columnDef{}}
		ctx := withParameters(ctx, map[string]string{"db": s.Database, "t": t.name})
		rows, err := s.conn.Query(ctx, "SELECT engine, create_table_query FROM system.tables WHERE database = {db:String} AND name = {t:String} LIMIT 1")
		if err != nil {
			return nil, s.explain("describe", t.name, err)
		}
		found := rows.Next()
		if found {
			err = rows.Scan(&h.engine, &h.create)
		}
		if err = firstError(err, rows.Close(), rows.Err()); err != nil {
			return nil, s.explain("describe", t.name, err)
		}
		if !found {
			continue
		}
		rows, err = s.conn.Query(ctx, fmt.Sprintf("SELECT name, type, if(default_kind = 'ALIAS', default_expression, '') FROM system.columns "+
			"WHERE database = {db:String} AND table = {t:String} ORDER BY position LIMIT %d", maxServerColumns))
		if err != nil {
			return nil, s.explain("describe", t.name, err)
		}
		for rows.Next() {
			var c columnDef
			if err = rows.Scan(&c.name, &c.typ, &c.alias); err != nil {
				break
			}
			h.columns[c.name] = c
		}
		if err = firstError(err, rows.Close(), rows.Err()); err != nil {
			return nil, s.explain("describe", t.name, err)
		}
		on[t.name] = h
	}
	return on, nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

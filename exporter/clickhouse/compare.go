package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"

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

// layoutOf tells from the tables that are there whether they are spread over a cluster. Tables
// Distributed that pass rows on to others than ours are their owner's business.
func layoutOf(db string, on map[string]have) layout {
	l := layout{db: db}
	h := on[flowsTable]
	if m := distributed.FindStringSubmatch(h.create); h.engine == "Distributed" && m != nil && m[2] == flowsTable+localSuffix {
		l.cluster = m[1]
		l.unreplicated = !strings.HasPrefix(on[flowsTable+localSuffix].engine, "Replicated")
	}
	return l
}

var distributed = regexp.MustCompile(`ENGINE = Distributed\('?([^',]+)'?, '?[^',]+'?, '?([^',]+)'?`)

// compare looks for all that is missing or other than it should be. Columns that
// the server has beyond ours are its owner's business: inserts name theirs.
// l is where the tables should be; nil for where they are.
// What newer versions of the schema than version have brought may be missing, and with
// missingIsFine whole tables may.
func (s *server) compare(ctx context.Context, l *layout, version int, missingIsFine bool) error {
	on, err := s.describe(ctx)
	if err != nil {
		return err
	}
	e := &SchemaError{Server: s.conn.order()[0].addr, Database: s.Database}
	found := layoutOf(s.Database, on)
	if l == nil {
		l = &found
	} else if l.cluster != found.cluster && on[flowsTable].engine != "" {
		want := "tables on one server"
		if l.cluster != "" {
			want = "tables spread over cluster " + l.cluster
		}
		have := on[flowsTable].engine
		if found.cluster != "" {
			have += " over cluster " + found.cluster + " (name it: clickhouse.cluster, --cluster)"
		}
		e.Differences = append(e.Differences, Difference{flowsTable, "engine", exporter.Escape(have, false), want})
		return e
	}
	for _, want := range l.tables() {
		got, ok := on[want.name]
		if !ok {
			e.Missing = append(e.Missing, want.name)
			continue
		}
		e.Differences = append(e.Differences, differences(&want, got, version)...)
	}
	if len(e.Missing) > 0 && !missingIsFine {
		if e.Missing, err = s.seen(ctx, *l, e.Missing); err != nil {
			return err
		}
	}
	if len(e.Differences) > 0 || len(e.Missing) > 0 && !missingIsFine {
		return e
	}
	return nil
}

// seen returns those of the missing tables that the user would see if they were there.
// Who may only insert sees the tables for that, and no others.
func (s *server) seen(ctx context.Context, l layout, missing []string) ([]string, error) {
	all, err := s.granted(ctx, "SHOW TABLES", "*")
	if all || err != nil {
		return missing, err
	}
	return slices.DeleteFunc(missing, func(name string) bool { return !slices.Contains(l.insertTables(), name) }), nil
}

// insertTables are those that a sink needs to insert into. What comes in by a table that is
// spread over a cluster is inserted into the shards' tables by the same user.
func (l layout) insertTables() (names []string) {
	for _, name := range []string{flowsTable, ledgerTable} {
		names = append(names, name)
		if l.cluster != "" {
			names = append(names, l.local(name))
		}
	}
	return names
}

// granted reports whether the user has a right on a table, "*" for all of the database. Old servers
// do not know: then the right may be there, but for the sight of all tables, which is no loss.
func (s *server) granted(ctx context.Context, right, table string) (bool, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	if table != "*" {
		table = quote(table)
	}
	var yes uint8
	err := s.conn.QueryRow(ctx, fmt.Sprintf("CHECK GRANT %s ON %s.%s", right, quote(s.Database), table)).Scan(&yes)
	var exception *clickhouse.Exception
	if errors.As(err, &exception) && exception.Code == codeSyntax {
		return table != "*", nil
	}
	return yes == 1, s.explain("look at the rights of user "+s.User, "", err)
}

// mayInsert returns nil if the user has the rights that a sink takes, an error with the
// statements that give them if not.
func (s *server) mayInsert(ctx context.Context) error {
	on, err := s.describe(ctx)
	if err != nil {
		return err
	}
	var lacking []string
	for _, table := range layoutOf(s.Database, on).insertTables() {
		yes, err := s.granted(ctx, "INSERT", table)
		if err != nil {
			return err
		}
		if !yes {
			lacking = append(lacking, s.grantStatement("INSERT", s.table(table)))
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	return &Error{Server: s.Server(), Op: "insert into", Table: exporter.Escape(s.Database, false),
		Message: fmt.Sprintf("user %q may not", s.User), Hint: "an administrator gives the right with: " + strings.Join(lacking, "; ")}
}

var windowSetting = regexp.MustCompile(`non_replicated_deduplication_window = (\d+)`)

func differences(want *tableDef, got have, version int) []Difference {
	var ds []Difference
	add := func(what, have, want_ string) {
		ds = append(ds, Difference{want.name, what, exporter.Escape(have, false), want_})
	}
	if want.query != "" {
		engine := "View"
		if want.to != "" {
			engine = "MaterializedView"
		}
		if got.engine != engine {
			add("engine", got.engine, engine)
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
	if want.spread && strings.HasSuffix(got.engine, "MergeTree") && !strings.HasPrefix(got.engine, "Replicated") {
		m := windowSetting.FindStringSubmatch(got.create)
		if m == nil || m[1] == "0" {
			add("setting non_replicated_deduplication_window", "0", fmt.Sprint(window))
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

// describe reads what the server has of our tables, wherever they are.
func (s *server) describe(ctx context.Context) (map[string]have, error) {
	on := map[string]have{}
	// In a cluster there are these and more.
	for _, t := range (layout{db: s.Database, cluster: "any"}).tables() {
		h, ok, err := s.describeTable(ctx, t.name)
		if err != nil {
			return nil, s.explain("describe", t.name, err)
		}
		if ok {
			on[t.name] = h
		}
	}
	return on, nil
}

func (s *server) describeTable(ctx context.Context, name string) (h have, found bool, err error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	ctx = withParameters(ctx, map[string]string{"db": s.Database, "t": name})
	rows, err := s.conn.Query(ctx, "SELECT engine, create_table_query FROM system.tables WHERE database = {db:String} AND name = {t:String} LIMIT 1")
	if err != nil {
		return h, false, err
	}
	if found = rows.Next(); found {
		err = rows.Scan(&h.engine, &h.create)
	}
	if err = firstError(err, rows.Close(), rows.Err()); err != nil || !found {
		return h, found, err
	}
	rows, err = s.conn.Query(ctx, fmt.Sprintf("SELECT name, type, if(default_kind = 'ALIAS', default_expression, '') FROM system.columns "+
		"WHERE database = {db:String} AND table = {t:String} ORDER BY position LIMIT %d", maxServerColumns))
	if err != nil {
		return h, found, err
	}
	h.columns = map[string]columnDef{}
	for rows.Next() {
		var c columnDef
		if err = rows.Scan(&c.name, &c.typ, &c.alias); err != nil {
			break
		}
		h.columns[c.name] = c
	}
	return h, found, firstError(err, rows.Close(), rows.Err())
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

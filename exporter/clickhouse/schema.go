package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// SchemaOptions are what a user may choose about the tables.
type SchemaOptions struct {
	// TTL is how long rows of flows and flows_1m are kept, counted from the time of
	// capture, so that an old capture file is gone at the next merge. 0 keeps them
	// for ever. It takes effect on tables that are made, not on those that exist.
	TTL time.Duration
}

// Version is the version of the schema that this program writes.
const Version = 2

// migrations[i] brings the tables from version i to i+1. Every statement may be
// run again, since all of them are at each Apply.
var migrations = []func(db string, o SchemaOptions) []string{
	func(db string, o SchemaOptions) []string {
		var out []string
		for _, t := range tables(db) {
			out = append(out, t.create(db, o.TTL))
		}
		return out
	},
	func(db string, _ SchemaOptions) []string { return added(db, 2) },
}

// added returns the statements that add the columns which version v has brought.
func added(db string, v int) (out []string) {
	for _, t := range tables(db) {
		after := ""
		for _, c := range t.columns {
			if c.since == v {
				out = append(out, fmt.Sprintf("ALTER TABLE %s.%s ADD COLUMN IF NOT EXISTS %s%s", quote(db), quote(t.name), c.definition(), after))
			}
			after = " AFTER " + c.name
		}
	}
	return out
}

// Print returns the statements that make the tables of database, "" for the default.
func Print(database string, o SchemaOptions) string {
	if database == "" {
		database = defaultDatabase
	}
	var sb strings.Builder
	fmt.Fprintf(&sb, "-- Schema version %d.\nCREATE DATABASE IF NOT EXISTS %s;\n", Version, quote(database))
	for _, m := range migrations {
		for _, statement := range m(database, o) {
			sb.WriteString("\n" + statement + ";\n")
		}
	}
	fmt.Fprintf(&sb, "\n%s;\n", recordVersion(database, Version))
	return sb.String()
}

// recordVersion notes a version once, whoever else does so at the same time.
func recordVersion(db string, v int) string {
	name := quote(db) + "." + quote(versionTable)
	return fmt.Sprintf("INSERT INTO %s (version, applied)\nSELECT toUInt32(%d), now('UTC') WHERE %d NOT IN (SELECT version FROM %s)", name, v, v, name)
}

// Apply makes what is missing on the server: the database, the tables, the view.
// It may be called any number of times. Where a table of that name has other
// columns it changes nothing and returns a [*SchemaError].
func Apply(ctx context.Context, o Options, so SchemaOptions) error {
	s, err := connect(ctx, o)
	if err != nil {
		return err
	}
	return errors.Join(s.apply(ctx, so), s.close())
}

func (s *server) apply(ctx context.Context, so SchemaOptions) error {
	exists, err := s.databaseExists(ctx)
	if err != nil {
		return err
	}
	if !exists {
		// Not asked for where it exists: it takes a right that a careful
		// administrator does not give.
		if err := s.exec(ctx, "create database", "", "CREATE DATABASE IF NOT EXISTS "+quote(s.Database)); err != nil {
			return err
		}
	}
	have, err := s.applied(ctx)
	if err != nil {
		return err
	}
	if have > Version {
		return fmt.Errorf("ClickHouse %s: database %s has schema version %d and this program knows versions up to %d: use a newer program",
			s.Server(), s.Database, have, Version)
	}
	if err := s.compare(ctx, have, true); err != nil {
		return err
	}
	// All of them, the applied ones too: a table that was dropped is made again.
	for i, m := range migrations {
		for _, statement := range m(s.Database, so) {
			if err := s.exec(ctx, fmt.Sprintf("apply schema version %d to database %s", i+1, s.Database), "", statement); err != nil {
				return err
			}
		}
	}
	for v := have + 1; v <= Version; v++ {
		if err := s.exec(ctx, "insert into", versionTable, recordVersion(s.Database, v)); err != nil {
			return err
		}
	}
	return s.compare(ctx, Version, false)
}

// Check returns nil if the server has the tables as this program writes them, a
// [*SchemaError] if it has not.
func Check(ctx context.Context, o Options) error {
	s, err := connect(ctx, o)
	if err != nil {
		return err
	}
	return errors.Join(s.check(ctx), s.close())
}

func (s *server) check(ctx context.Context) error { return s.compare(ctx, Version, false) }

func (s *server) databaseExists(ctx context.Context) (bool, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	var n uint64
	err := s.conn.QueryRow(withParameters(ctx, map[string]string{"db": s.Database}), "SELECT count() FROM system.databases WHERE name = {db:String}").Scan(&n)
	return n > 0, s.explain("look for database", "", err)
}

// applied returns the newest version that was applied, 0 if none was.
func (s *server) applied(ctx context.Context) (int, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	var v uint32
	err := s.conn.QueryRow(ctx, "SELECT max(version) FROM "+s.table(versionTable)).Scan(&v)
	var exception *clickhouse.Exception
	if errors.As(err, &exception) && exception.Code == codeUnknownTable {
		return 0, nil
	}
	return int(v), s.explain("read", versionTable, err)
}

// withParameters passes values beside a statement, so that none is ever part of one.
func withParameters(ctx context.Context, p map[string]string) context.Context {
	return clickhouse.Context(ctx, clickhouse.WithParameters(p))
}

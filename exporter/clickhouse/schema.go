package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// SchemaOptions are what a user may choose about the tables.
type SchemaOptions struct {
	// TTL is how long rows are kept, by table (see [AgingTables]), counted from the time of capture, so
	// that an old capture file is gone at the next merge. 0 keeps them for ever. Tables
	// that are not named are left as they are; new ones then keep rows for ever.
	TTL map[string]time.Duration
	// Cluster is the name of a cluster that the tables are spread over: replicated
	// tables on its servers, and Distributed ones with the plain names. It must be
	// in the servers' remote_servers, they need a Keeper and the macros shard and
	// replica. Empty means one server.
	Cluster string
	// Unreplicated is for a cluster without Keeper: plain tables, and statements for one
	// server, to be run against each.
	Unreplicated bool
}

// maxTTL keeps the time at which a row goes within DateTime, which ends in 2106: what lies
// beyond wraps around, and the row is gone at once.
const (
	year   = 365 * 24 * time.Hour
	maxTTL = 50 * year
)

// AgingTables are the tables of SchemaOptions.TTL, in alphabetical order: those that grow.
func AgingTables() []string { return layout{}.aging() }

// Validate says what is wrong with o.
func (o SchemaOptions) Validate() error {
	for _, name := range slices.Sorted(maps.Keys(o.TTL)) {
		if !slices.Contains(AgingTables(), name) {
			return fmt.Errorf("TTL of table %q: there are %s", name, strings.Join(AgingTables(), ", "))
		}
		if d := o.TTL[name]; d < 0 || d > 0 && d < time.Second || d > maxTTL {
			return fmt.Errorf("TTL of table %s: %v is not between a second and %d years (0: for ever)", name, d, maxTTL/year)
		}
	}
	if o.Cluster != "" && !clusterName.MatchString(o.Cluster) {
		return fmt.Errorf("ClickHouse cluster %q: want letters, digits, _, - and ., at most 100, a letter or _ first", o.Cluster)
	}
	if o.Unreplicated && o.Cluster == "" {
		return errors.New("unreplicated tables are for a cluster: name it")
	}
	return nil
}

// Version is the version of the schema that this program writes.
const Version = 2

// statements returns what brings the tables from version have to version v, if all between
// were applied. What creates something is always there, so that what was dropped is made again;
// what alters tables only if they are older, for it takes rights that whoever
// creates need not have. Each may be run again, so that a migration that broke off can be repeated.
//
// None alters a view that rows go through. The server makes what it remembers of a block in a
// view's target out of the token and the view, and once that was altered, it does
// so in another way, until its next start (26.7): a batch that is sent again over either counts twice in
// the roll-up.
func (l layout) statements(have, v int) (out []string) {
	if have < v {
		out = l.added(v)
	}
	for _, t := range l.tables() {
		if max(t.since, 1) == v {
			out = append(out, l.create(&t))
		}
	}
	return out
}

// modifyTTL returns the statement that sets how long rows of a table are kept, or keeps them for ever.
func (l layout) modifyTTL(name string, ttl time.Duration) string {
	name = l.full(l.local(name)) + l.on()
	if ttl == 0 {
		return "ALTER TABLE " + name + " REMOVE TTL"
	}
	return "ALTER TABLE " + name + " MODIFY " + ttlClause(ttl)
}

func ttlClause(ttl time.Duration) string {
	return fmt.Sprintf("TTL ts + toIntervalSecond(%d)", int64(ttl/time.Second))
}

// Print returns the statements that make the tables of database, "" for the default, or bring
// older ones to this version.
func Print(database string, o SchemaOptions) string {
	if database == "" {
		database = defaultDatabase
	}
	l := newLayout(database, o)
	var sb strings.Builder
	fmt.Fprintf(&sb, "-- Schema version %d.\n", Version)
	if o.Unreplicated {
		fmt.Fprintf(&sb, "-- Run it on each server of cluster %s.\n", o.Cluster)
	}
	fmt.Fprintf(&sb, "%s;\n", l.createDatabase())
	for v := 1; v <= Version; v++ {
		for _, statement := range l.statements(0, v) {
			sb.WriteString("\n" + statement + ";\n")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.TTL)) {
		if ttl := o.TTL[name]; ttl > 0 { // new tables have none
			sb.WriteString("\n" + l.modifyTTL(name, ttl) + ";\n")
		}
	}
	fmt.Fprintf(&sb, "\n%s;\n", l.recordVersion(Version))
	sb.WriteString("\n-- Optional, for databases of version 1: fill " + hourTable + " for a day that is over and was there\n" +
		"-- before, such as 2026-01-02. It may be repeated.\n")
	if l.cluster != "" {
		sb.WriteString("-- The second statement is for each shard.\n")
	}
	for _, statement := range l.backfill("2026-01-02") {
		sb.WriteString("-- " + strings.ReplaceAll(statement, "\n", "\n-- ") + ";\n")
	}
	return sb.String()
}

func (l layout) createDatabase() string {
	return "CREATE DATABASE IF NOT EXISTS " + quote(l.db) + l.on()
}

// recordVersion notes a version once, whoever else does so at the same time.
func (l layout) recordVersion(v int) string {
	name := l.full(versionTable)
	return fmt.Sprintf("INSERT INTO %s (version, applied)\nSELECT toUInt32(%d), now('UTC') WHERE %d NOT IN (SELECT version FROM %s)", name, v, v, name)
}

// Apply makes what is missing on the server: the database, the tables, the views. It
// brings tables of an older version to this one, which loses no row, and sets the TTLs that are asked for.
// It may be called any number of times. Where a table of that name has other
// columns it changes nothing and returns a [*SchemaError].
func Apply(ctx context.Context, o Options, so SchemaOptions) error {
	if err := so.Validate(); err != nil {
		return err
	}
	s, err := connect(ctx, o)
	if err != nil {
		return err
	}
	return errors.Join(s.apply(ctx, so), s.close())
}

func (s *server) apply(ctx context.Context, so SchemaOptions) error {
	l := newLayout(s.Database, so)
	exists, err := s.databaseExists(ctx)
	if err != nil {
		return err
	}
	if !exists {
		// Not asked for where it exists: it takes a right that a careful
		// administrator does not give.
		if err := s.exec(ctx, "create database", "", l.createDatabase()); err != nil {
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
	if err := s.compare(ctx, &l, have, true); err != nil {
		return err
	}
	for v := 1; v <= Version; v++ {
		for _, statement := range l.statements(have, v) {
			if err := s.exec(ctx, fmt.Sprintf("apply schema version %d to database %s", v, s.Database), "", statement); err != nil {
				return err
			}
		}
	}
	if err := s.applyTTL(ctx, l, so.TTL); err != nil {
		return err
	}
	for v := have + 1; v <= Version; v++ {
		if err := s.exec(ctx, "insert into", versionTable, l.recordVersion(v)); err != nil {
			return err
		}
	}
	return s.compare(ctx, &l, Version, false)
}

// applyTTL sets the TTLs that are not as they should be: to set one has the server look
// through all parts for what is too old.
func (s *server) applyTTL(ctx context.Context, l layout, ttls map[string]time.Duration) error {
	if len(ttls) == 0 {
		return nil
	}
	on, err := s.describe(ctx)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(ttls)) {
		ttl, create := ttls[name], on[l.local(name)].create
		if ttl > 0 && strings.Contains(create, ttlClause(ttl)) || ttl == 0 && !strings.Contains(create, " TTL ") {
			continue
		}
		if err := s.exec(ctx, "set the TTL of", name, l.modifyTTL(name, ttl)); err != nil {
			return err
		}
	}
	return nil
}

// Check returns nil if the server has the tables as this program writes them, a
// [*SchemaError] if it has not. Of a user who may not see all tables of the database, it looks
// at those that rows are inserted into.
func Check(ctx context.Context, o Options) error {
	s, err := connect(ctx, o)
	if err != nil {
		return err
	}
	return errors.Join(s.check(ctx), s.close())
}

func (s *server) check(ctx context.Context) error { return s.compare(ctx, nil, Version, false) }

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

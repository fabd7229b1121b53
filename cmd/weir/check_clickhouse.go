package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"weir/exporter/clickhouse"
)

// checkTimeout bounds all that is asked of ClickHouse.
const checkTimeout = 20 * time.Second

// output looks at where the flows go.
func (c *check) output(ctx context.Context) {
	const what = "ClickHouse"
	if c.live.output != "clickhouse" {
		c.ok("output", "%s", c.live.output)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	o, err := c.cfg.clickhouse()
	if err != nil {
		advice := "correct clickhouse.addr (--clickhouse HOST:PORT), or start a local server: weir-clickhouse serve"
		switch path := new(fs.PathError); {
		case errors.As(err, &path) && len(c.cfg.addr()) > 0:
			advice = "name a file that this user can read: " + c.cfg.fileKey(path.Path)
		case strings.HasPrefix(err.Error(), "clickhouse."):
			key, _, _ := strings.Cut(err.Error(), " ")
			advice = "correct " + strings.TrimSuffix(key, ":") + " and what belongs to it: config.example.yaml says what it may be"
		}
		c.add(stateError, what, advice, "%v", err)
		return
	}
	c.secrecy(o)
	o.DialTimeout = min(o.DialTimeout, 3*time.Second)
	c.replicas(ctx, o)
	r, err := clickhouse.NewReader(ctx, o, clickhouse.Limits{Time: 5 * time.Second})
	if err != nil {
		c.failed(what, err)
		return
	}
	defer r.Close()
	if c.server(ctx, what, o, r) {
		rights, err := rightsOf(ctx, r)
		c.schema(ctx, o, rights)
		for _, name := range []string{"flows", "ledger"} {
			what, on := "ClickHouse "+name, "INSERT ON "+backquoted(o.Database)+"."+name
			switch {
			case err != nil:
				c.failed(what, err)
			case rights.has(o.Database, name, "INSERT"):
				c.ok(what, "rows may be inserted")
			case rights.roles():
				c.add(stateWarning, what, "ask the server: CHECK GRANT "+on, "whether rows may be inserted is not known: it is up to the user's roles")
			default:
				c.add(stateError, what, fmt.Sprintf("GRANT %s TO %s; or name another user: clickhouse.user (--user)", on, cmp.Or(o.User, "default")), "rows may not be inserted")
			}
		}
	}
}

// secrecy looks at who can read what only the server should.
func (c *check) secrecy(o clickhouse.Options) {
	const what = "ClickHouse TLS"
	if servers := bare(o); len(servers) > 0 {
		c.add(stateWarning, what, "set clickhouse.tls (--tls), and the server's port for it in clickhouse.addr, as a rule 9440",
			"records and the password go to %s in the clear", strings.Join(servers, ","))
	} else if o.TLS != nil {
		c.ok(what, "connections are secured")
	}
	for _, key := range []string{"clickhouse.key_file", "clickhouse.password_file"} {
		path := c.cfg.v.GetString(key)
		if path == "" {
			continue
		}
		if st, err := os.Stat(path); err == nil && st.Mode().Perm()&0o007 != 0 {
			c.add(stateWarning, key, "run: chmod o= "+path, "%s can be opened by every user of this host: its mode is %#o", path, st.Mode().Perm())
		}
	}
}

// replicas looks at each of several servers. While one of them is well weir run works.
func (c *check) replicas(ctx context.Context, o clickhouse.Options) {
	if len(o.Addr) < 2 {
		return
	}
	for _, addr := range o.Addr {
		one, what := o, "ClickHouse "+addr
		one.Addr = []string{addr}
		if r, err := clickhouse.NewReader(ctx, one, clickhouse.Limits{Time: 5 * time.Second}); err != nil {
			c.failure(stateWarning, what, err)
		} else {
			r.Close()
			c.ok(what, "answers")
		}
	}
}

// failed adds a statement that failed.
func (c *check) failed(what string, err error) { c.failure(stateError, what, err) }

func (c *check) failure(state, what string, err error) {
	advice, e := "see whether weir query works, and what the server logs", new(clickhouse.Error)
	if errors.As(err, &e) {
		bare := *e
		bare.Hint = ""
		err = &bare
		const codeAuthentication = 516 // ErrorCodes.cpp
		switch {
		case e.Code == codeAuthentication:
			advice = "correct clickhouse.user (--user) or clickhouse.password_file (--password-file)"
		case e.Code == 0:
			advice = strings.TrimPrefix(e.Hint+"; or correct clickhouse.addr (--clickhouse HOST:PORT)", "; or ")
		case e.Hint != "":
			advice = e.Hint
		}
	}
	c.add(state, what, advice, "%v", err)
}

// server looks at what answers there, and whether the user may write at all.
func (c *check) server(ctx context.Context, what string, o clickhouse.Options, r *clickhouse.Reader) bool {
	// The Reader sends this limit unless the user's profile says readonly = 1, under which
	// nothing can be set; it never raises readonly above 1.
	const limit = 4321
	var version string
	var clock int64
	var readonly, rows uint64
	began := time.Now()
	err := r.Query(ctx, "SELECT version(), toInt64(toUnixTimestamp64Milli(now64(3))), toUInt64(getSetting('readonly')), toUInt64(getSetting('max_result_rows'))",
		nil, limit, func(row clickhouse.Rows) error { return row.Scan(&version, &clock, &readonly, &rows) }, nil)
	if err != nil {
		c.failed(what, err)
		return false
	}
	c.ok(what, "version %s answers as %s", version, o)
	c.serverClock(time.UnixMilli(clock).Sub(began.Add(time.Since(began) / 2))) // it looked about half-way
	if readonly > 1 || rows != limit {
		c.add(stateError, "ClickHouse rights", "name a user that may write: clickhouse.user (--user)", "the user's profile says readonly")
	}
	return true
}

// serverClock takes how much the server's clock is ahead of this host's.
func (c *check) serverClock(ahead time.Duration) {
	if ahead.Abs() > 5*time.Second {
		c.add(stateWarning, "ClickHouse clock", "set both clocks, such as with: timedatectl set-ntp true", "differs from this host's by %v", ahead.Round(time.Second))
	}
}

// schema looks at the tables.
func (c *check) schema(ctx context.Context, o clickhouse.Options, rights grants) {
	const what = "ClickHouse tables"
	err := clickhouse.Check(ctx, o)
	e := new(clickhouse.SchemaError)
	switch {
	case err == nil:
		c.ok(what, "database %s has schema version %d", o.Database, clickhouse.Version)
		return
	case !errors.As(err, &e):
		c.failed(what, err)
		return
	case len(e.Differences) > 0:
		var texts []string
		for _, d := range e.Differences {
			texts = append(texts, fmt.Sprintf("%s, %s: have %s, want %s", d.Table, d.What, d.Have, d.Want))
		}
		c.add(stateError, what, "name another database (clickhouse.database), or rename the tables that differ and run: weir schema --apply", "%s", strings.Join(texts, "; "))
		return
	}
	missing := strings.Join(e.Missing, ", ")
	if len(c.cfg.addr()) > 0 && !c.live.applySchema {
		c.add(stateError, what, "run: weir schema --apply; or set clickhouse.apply_schema", "database %s lacks %s", o.Database, missing)
	} else if create := "CREATE DATABASE, CREATE TABLE, CREATE VIEW"; !rights.roles() && !rights.has(o.Database, "*", strings.Split(create, ", ")...) {
		c.add(stateError, what, fmt.Sprintf("GRANT %s ON %s.* TO %s, or run as another user: weir schema --apply", create, backquoted(o.Database), cmp.Or(o.User, "default")),
			"database %s lacks %s, which the user may not make", o.Database, missing)
	} else {
		c.ok(what, "weir run makes what is missing: %s", missing)
	}
}

// backquoted is for names that Options.Validate has let pass: there are no quotes in them.
func backquoted(database string) string { return "`" + database + "`" }

// grants is the server's answer to SHOW GRANTS. CHECK GRANT is no help: a Reader asks
// under readonly, under which nobody may insert.
type grants []string

func rightsOf(ctx context.Context, r *clickhouse.Reader) (g grants, err error) {
	for _, sql := range []string{"SHOW GRANTS FINAL", "SHOW GRANTS"} { // the first knows what is in roles, but not every server knows it
		g = nil
		err = r.Query(ctx, sql, nil, 10000, func(row clickhouse.Rows) error {
			var line string
			err := row.Scan(&line)
			g = append(g, line)
			return err
		}, nil)
		if err == nil {
			break
		}
	}
	return g, err
}

// grantLine has GRANT or REVOKE, the rights, and on what.
var grantLine = regexp.MustCompile(`^(GRANT|REVOKE) (.+) ON (\S+) (?:TO|FROM) `)

// has reports whether all of the rights are given on a table, or on all tables of the
// database if it is "*". The lines go from the general to the special.
func (g grants) has(database, name string, rights ...string) bool {
	covers := func(pattern, name string) bool {
		pattern = strings.ReplaceAll(pattern, "`", "")
		prefix, all := strings.CutSuffix(pattern, "*")
		return pattern == name || all && strings.HasPrefix(name, prefix)
	}
	for _, right := range rights {
		group, _, _ := strings.Cut(right, " ") // CREATE is all of CREATE TABLE, CREATE VIEW, ...
		has := false
		for _, line := range g {
			m := grantLine.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			on, table, _ := strings.Cut(m[3], ".")
			list := strings.Split(m[2], ", ") // a right on some columns, INSERT(a, b), is none of those
			if covers(on, database) && covers(table, name) && slices.ContainsFunc(list, func(s string) bool { return s == right || s == group || s == "ALL" }) {
				has = m[1] == "GRANT"
			}
		}
		if !has {
			return false
		}
	}
	return true
}

// roles reports whether the user has roles whose rights are not among the lines.
func (g grants) roles() bool {
	return slices.ContainsFunc(g, func(line string) bool { return strings.HasPrefix(line, "GRANT ") && !strings.Contains(line, " ON ") })
}

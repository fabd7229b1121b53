package clickhouse

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// layout says where the tables are: all on one server, or spread over a cluster.
//
// In a cluster the tables that rows lie in are called flows_local and so on, and those
// with the plain names hold nothing: they pass inserts and questions on (engine
// Distributed). Views fill local tables from local tables. Rows are spread by host, so that
// the rows of an agent's insert all go to one shard, as one block under their token; spread
// by anything else, a shard that is down would let the others have their part of an insert.
type layout struct {
	db           string
	cluster      string // "" for one server
	unreplicated bool
}

func newLayout(db string, so SchemaOptions) layout {
	return layout{db: db, cluster: so.Cluster, unreplicated: so.Unreplicated}
}

const localSuffix = "_local"

// clusterName is narrower than what servers take, and what a name in XML may be.
var clusterName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,99}$`)

// local returns the name of the table that the rows of a spread table lie in.
func (l layout) local(name string) string {
	if l.cluster == "" {
		return name
	}
	return name + localSuffix
}

// full returns the name of a table in SQL.
func (l layout) full(name string) string { return quote(l.db) + "." + quote(name) }

func (l layout) replicated() bool { return l.cluster != "" && !l.unreplicated }

// on returns what sends a statement to all servers.
func (l layout) on() string {
	if !l.replicated() {
		return ""
	}
	return " ON CLUSTER " + quote(l.cluster)
}

// tables returns everything that the schema consists of, in the order in which it can be
// created.
func (l layout) tables() []tableDef {
	var out []tableDef
	add := func(ts ...tableDef) {
		for _, t := range ts {
			if l.cluster == "" || !t.spread {
				out = append(out, t)
				continue
			}
			// The rows' table first: what the other one asks of it must be there.
			whole := tableDef{name: t.name, since: t.since, family: "Distributed", doc: t.doc + "; all shards",
				args: []string{literal(l.cluster), literal(l.db), literal(l.local(t.name)), "cityHash64(host)"}}
			for _, c := range t.columns {
				c.codec = ""
				whole.columns = append(whole.columns, c)
			}
			t.name, t.doc = l.local(t.name), t.doc+"; this shard"
			out = append(out, t, whole)
		}
	}
	add(versions(), l.flows())
	add(l.rollup("minute", minuteTable, minuteView, 0)...)
	add(l.rollup("hour", hourTable, hourView, 2)...)
	add(ledger(), l.conversations())
	return out
}

// engine returns the table's engine as CREATE TABLE has it.
func (l layout) engine(t *tableDef) string {
	family, args := t.family, t.args
	if l.replicated() && family != "Distributed" {
		// The versions are the same on all servers, so all are replicas of one table.
		path, replica := "/clickhouse/tables/{shard}/"+l.db+"/"+t.name, "{replica}"
		if !t.spread { // weir_schema, which says the same on all shards
			path, replica = "/clickhouse/tables/"+l.db+"/"+t.name, "{shard}-{replica}"
		}
		family, args = "Replicated"+family, append([]string{literal(path), literal(replica)}, args...)
	}
	if len(args) > 0 {
		family += "(" + strings.Join(args, ", ") + ")"
	}
	return family
}

// create returns the statement that creates t.
func (l layout) create(t *tableDef) string {
	var sb strings.Builder
	kind := "TABLE"
	switch {
	case t.to != "":
		kind = "MATERIALIZED VIEW"
	case t.query != "":
		kind = "VIEW"
	}
	fmt.Fprintf(&sb, "CREATE %s IF NOT EXISTS %s%s", kind, l.full(t.name), l.on())
	if t.to != "" {
		sb.WriteString(" TO " + l.full(t.to))
	}
	sb.WriteString("\n(\n")
	for i, c := range t.columns {
		if t.query != "" {
			c.codec = ""
		}
		if i > 0 {
			sb.WriteString(",\n")
		}
		sb.WriteString("    " + c.definition())
	}
	for _, ix := range t.indexes {
		sb.WriteString(",\n    " + ix)
	}
	sb.WriteString("\n)")
	if t.to != "" {
		sb.WriteString("\n" + viewSecurity)
	}
	if t.query != "" {
		sb.WriteString("\nAS " + t.query)
	} else {
		sb.WriteString("\nENGINE = " + l.engine(t))
		if t.keys != "" {
			sb.WriteString("\n" + t.keys)
		}
		if t.spread {
			sb.WriteString("\nSETTINGS " + l.windows())
		}
	}
	sb.WriteString("\nCOMMENT " + literal(t.doc))
	return sb.String()
}

// viewSecurity lets a view read and write with the rights of whoever made it, so that
// agents need none but to insert into flows.
const viewSecurity = "DEFINER = CURRENT_USER SQL SECURITY DEFINER"

func (l layout) windows() string {
	if l.replicated() {
		return fmt.Sprintf("replicated_deduplication_window = %d, replicated_deduplication_window_seconds = %d", replicatedWindow, windowSeconds)
	}
	return fmt.Sprintf("non_replicated_deduplication_window = %d", window)
}

// added returns the statements that add the columns which version v has brought to
// tables that are older.
func (l layout) added(v int) (out []string) {
	for _, t := range l.tables() {
		after := ""
		for _, c := range t.columns {
			if t.query == "" && t.since < v && c.since == v {
				out = append(out, fmt.Sprintf("ALTER TABLE %s%s ADD COLUMN IF NOT EXISTS %s%s", l.full(t.name), l.on(), c.definition(), after))
			}
			after = " AFTER " + c.name
		}
	}
	return out
}

// Tables that may have a TTL: those that grow.
func (l layout) aging() []string {
	var names []string
	for _, t := range (layout{db: l.db}).tables() {
		if t.ages {
			names = append(names, t.name)
		}
	}
	slices.Sort(names)
	return names
}

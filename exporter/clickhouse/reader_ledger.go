package clickhouse

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// LedgerTable returns the name of ledger as SQL has it.
func (r *Reader) LedgerTable() string { return r.table(ledgerTable) }

// LedgerName returns the name of ledger as people have it.
func (r *Reader) LedgerName() string { return r.Database + "." + ledgerTable }

// ttlUnits are the shortest lengths of what the server may call a TTL's unit.
var ttlUnits = map[string]time.Duration{
	"Second": time.Second, "Minute": time.Minute, "Hour": time.Hour, "Day": 24 * time.Hour, "Week": 7 * 24 * time.Hour,
	"Month": 28 * 24 * time.Hour, "Quarter": 89 * 24 * time.Hour, "Year": 365 * 24 * time.Hour,
}

// servedTTL is a TTL as the server writes it down, whatever was asked for.
var servedTTL = regexp.MustCompile(`\bTTL ts \+ toInterval(Second|Minute|Hour|Day|Week|Month|Quarter|Year)\((\d{1,9})\)`)

// Kept returns how long flows keeps its rows, 0 if it has no TTL, or one that this
// program does not understand.
func (r *Reader) Kept(ctx context.Context) (d time.Duration, err error) {
	// In a cluster the rows are in the other one.
	sql := "SELECT engine_full FROM system.tables WHERE database = {db:String} AND name IN ({name:String}, {local:String}) ORDER BY name DESC LIMIT 1"
	err = r.Query(ctx, sql, map[string]string{"db": r.Database, "name": flowsTable, "local": flowsTable + localSuffix}, 1, func(rows Rows) error {
		var engine string
		if err := rows.Scan(&engine); err != nil {
			return err
		}
		d = parseTTL(engine)
		return nil
	}, nil)
	return d, err
}

func parseTTL(engine string) time.Duration {
	m := servedTTL.FindStringSubmatch(engine)
	if m == nil {
		return 0
	}
	n, err := strconv.ParseInt(m[2], 10, 64)
	unit := ttlUnits[m[1]]
	if err != nil || time.Duration(n)*unit/unit != time.Duration(n) {
		return 0
	}
	return time.Duration(n) * unit
}

// Outdated reports whether a question failed because the tables lack columns that this
// program knows: they are of an older version.
func Outdated(err error) bool {
	var exception *clickhouse.Exception
	return errors.As(err, &exception) && (exception.Code == codeUnknownIdentifier || exception.Code == codeNoSuchColumn)
}

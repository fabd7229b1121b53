package clickhouse

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Limits bound one question; the server enforces them.
type Limits struct {
	Time   time.Duration // 0 means 30 s
	Memory uint64        // octets; 0 means 4 GiB
}

const (
	defaultReadTime   = 30 * time.Second
	defaultReadMemory = 4 << 30
)

// Reader asks the server. Whatever the user's rights are, nothing that a Reader
// sends can change or make anything, nor reach files or other servers: every
// statement runs under readonly = 1.
type Reader struct {
	*server
	limits   Limits
	readonly uint64 // of the user's profile
}

// NewReader connects to the server.
func NewReader(ctx context.Context, o Options, l Limits) (*Reader, error) {
	if l.Time <= 0 {
		l.Time = defaultReadTime
	}
	if l.Memory == 0 {
		l.Memory = defaultReadMemory
	}
	// The server ends a statement that takes too long and says so; the client
	// leaves it time to.
	o.Timeout = l.Time + 5*time.Second
	s, err := connect(ctx, o)
	if err != nil {
		return nil, err
	}
	r := &Reader{server: s, limits: l}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	if err := s.conn.QueryRow(ctx, "SELECT toUInt64(getSetting('readonly'))").Scan(&r.readonly); err != nil {
		s.close()
		return nil, s.explain("look at the rights of user "+s.User, "", err)
	}
	return r, nil
}

// settings returns what is sent with a statement. A user whose profile says
// readonly = 1 may set nothing and one with 2 may not set readonly; the server
// holds both to reading anyhow, the first under the limits of its profile.
func (r *Reader) settings(rows uint64) clickhouse.Settings {
	if r.readonly == 1 {
		return nil
	}
	s := clickhouse.Settings{
		"max_execution_time":   max(int64(r.limits.Time/time.Second), 1),
		"max_memory_usage":     r.limits.Memory,
		"max_result_rows":      rows,
		"result_overflow_mode": "throw",
	}
	if r.readonly == 0 {
		s["readonly"] = 1
	}
	return s
}

// Table returns the name of flows as SQL has it.
func (r *Reader) Table() string { return r.table(flowsTable) }

// Name returns the name of flows as people have it.
func (r *Reader) Name() string { return r.Database + "." + flowsTable }

// Rows are the answer to a question. Scan fills the destinations with the next
// row's values.
type Rows interface {
	Scan(dest ...any) error
	Totals(dest ...any) error
}

// parameterEscaper writes a value as the server reads one: as in a line of TabSeparated
// (ReplaceQueryParameterVisitor in its sources). The driver sees to the quotes around it.
var parameterEscaper = strings.NewReplacer(`\`, `\\`, "\t", `\t`, "\n", `\n`)

// Query asks for at most rows rows of flows, with values for the parameters that the
// statement names as {name:Type}, and calls each for every row. Then, if end is
// not nil, it calls end, which may ask for the totals.
func (r *Reader) Query(ctx context.Context, sql string, parameters map[string]string, rows uint64, each, end func(Rows) error) (err error) {
	ctx, cancel := r.deadline(ctx)
	defer cancel()
	escaped := make(map[string]string, len(parameters))
	for name, value := range parameters {
		escaped[name] = parameterEscaper.Replace(value)
	}
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(r.settings(rows)), clickhouse.WithParameters(escaped))
	answer, err := r.conn.Query(ctx, sql)
	if err != nil {
		return r.explain("query", flowsTable, err)
	}
	for answer.Next() {
		if err := each(answer); err != nil {
			answer.Close()
			return fmt.Errorf("read the answer of ClickHouse %s: %w", r.Server(), err)
		}
	}
	if err := firstError(answer.Err(), answer.Close()); err != nil {
		return r.explain("query", flowsTable, err)
	}
	if end != nil {
		return end(answer)
	}
	return nil
}

// Close disconnects.
func (r *Reader) Close() error { return r.close() }

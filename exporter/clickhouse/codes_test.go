package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"weir/exporter/clickhouse/local/localtest"
)

// The server knows the codes by the names that we know them by.
func TestCodesHaveTheServersNames(t *testing.T) {
	a := dial(t, options(t))
	defer a.close()
	names := map[int32]string{
		codeNoSuchColumn: "NO_SUCH_COLUMN_IN_TABLE", codeReadAfterEOF: "ATTEMPT_TO_READ_AFTER_EOF", codeCannotReadAll: "CANNOT_READ_ALL_DATA",
		codeArguments: "NUMBER_OF_ARGUMENTS_DOESNT_MATCH", codeArgumentType: "ILLEGAL_TYPE_OF_ARGUMENT", codeUnknownFunction: "UNKNOWN_FUNCTION",
		codeUnknownIdentifier: "UNKNOWN_IDENTIFIER", codeTypeMismatch: "TYPE_MISMATCH", codeUnknownTable: "UNKNOWN_TABLE", codeSyntax: "SYNTAX_ERROR",
		codeCannotWrite: "CANNOT_WRITE_TO_FILE_DESCRIPTOR", codeUnknownDatabase: "UNKNOWN_DATABASE", codeTooManyRows: "TOO_MANY_ROWS",
		codeTimeout: "TIMEOUT_EXCEEDED", codeTooSlow: "TOO_SLOW", codeReadOnly: "READONLY", codeCannotAllocate: "CANNOT_ALLOCATE_MEMORY",
		codeTooManyQueries: "TOO_MANY_SIMULTANEOUS_QUERIES", codeNoFreeConnection: "NO_FREE_CONNECTION", codeSocketTimeout: "SOCKET_TIMEOUT",
		codeNetwork: "NETWORK_ERROR", codeNoZooKeeper: "NO_ZOOKEEPER", codeAborted: "ABORTED", codeMemory: "MEMORY_LIMIT_EXCEEDED",
		codeTableReadOnly: "TABLE_IS_READ_ONLY", codeNoSpace: "NOT_ENOUGH_SPACE", codeTooManyParts: "TOO_MANY_PARTS", codeTooFewReplicas: "TOO_FEW_LIVE_REPLICAS",
		codeUnsatisfiedQuorum: "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE", codeTooManyBytes: "TOO_MANY_BYTES", codeUnknownStatus: "UNKNOWN_STATUS_OF_INSERT",
		codeNoCommonType: "NO_COMMON_TYPE", codeCancelled: "QUERY_WAS_CANCELLED", codeTooManyResult: "TOO_MANY_ROWS_OR_BYTES",
		codeSettingConstraint: "SETTING_CONSTRAINT_VIOLATION", codeAccessDenied: "ACCESS_DENIED", codeAuthentication: "AUTHENTICATION_FAILED",
		codeTableRestarts: "TABLE_IS_BEING_RESTARTED", codeServerOverloaded: "SERVER_OVERLOADED", codeTooManyTCP: "TCP_CONNECTION_LIMIT_REACHED",
		codeKeeper: "KEEPER_EXCEPTION",
	}
	for code, name := range refusals {
		if other := names[code]; other != "" {
			t.Errorf("%d, %s, is a state and not of the rows", code, other)
		}
		if err := error(&clickhouse.Exception{Code: code}); retryable(err) || !Refused(fmt.Errorf("insert: %w", err)) {
			t.Errorf("%d, %s: retryable %v, refused %v", code, name, retryable(err), Refused(err))
		}
		names[code] = name
	}
	for code, name := range names {
		if got := a.one(t, fmt.Sprintf("errorCodeToName(toInt32(%d))", code), "system.one"); got != name {
			t.Errorf("%d is %s, want %s", code, got, name)
		}
	}
}

// What a real server answers to an insert, and whose fault that is.
func TestClassesOfErrors(t *testing.T) {
	view := func(expr string) string {
		return "CREATE MATERIALIZED VIEW {db}.v ENGINE = Memory AS SELECT " + expr + " AS x FROM {db}.flows"
	}
	for _, c := range []struct {
		name    string
		before  []string // statements; {db} is the database
		inserts int      // 0 means 1
		code    int32
		refused bool
		again   bool   // retryable
		hint    string // is in the message
	}{
		{name: "constraint", before: []string{"ALTER TABLE {db}.flows ADD CONSTRAINT few CHECK packets < 5"}, code: 469, refused: true, hint: "VIOLATED_CONSTRAINT"},
		{name: "view throws", before: []string{view("throwIf(packets > 5, 'too many')")}, code: 395, refused: true, hint: "views on it"},
		{name: "view parses", before: []string{view("toUInt8(concat(host, iface))")}, code: 6, refused: true},
		{name: "view divides", before: []string{view("intDiv(packets, toUInt8(0 * packets))")}, code: 153, refused: true},
		{name: "view has no target", before: []string{
			"CREATE TABLE {db}.target (x UInt64) ENGINE = Memory", "CREATE MATERIALIZED VIEW {db}.v TO {db}.target AS SELECT packets AS x FROM {db}.flows", "DROP TABLE {db}.target SYNC",
		}, code: codeUnknownTable},
		{name: "no table", before: []string{"DROP TABLE {db}.flows SYNC"}, code: codeUnknownTable, hint: "weir schema --apply"},
		{name: "no database", before: []string{"DROP DATABASE {db} SYNC"}, code: codeUnknownDatabase, hint: "weir schema --apply"},
		{name: "no column", before: []string{"ALTER TABLE {db}.flows DROP COLUMN reverse_tcp_flags"}, code: codeNoSuchColumn, hint: "weir schema --check"},
		{name: "parts", before: []string{"SYSTEM STOP MERGES {db}.flows", "ALTER TABLE {db}.flows MODIFY SETTING parts_to_delay_insert = 1, parts_to_throw_insert = 1"},
			inserts: 3, code: codeTooManyParts, again: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := applied(t)
			a := dial(t, o)
			defer a.close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			sink := newSink(t, o, SinkOptions{MaxRows: 100, Report: func(error) { cancel() }}) // what would be tried again is not
			for _, sql := range c.before {
				a.run(t, strings.ReplaceAll(sql, "{db}", o.Database))
			}
			var err error
			for i := 0; i < max(c.inserts, 1) && err == nil; i++ {
				start := day.Add(time.Duration(i) * 10 * time.Second)
				err = errors.Join(sink.Write(ctx, batchOf(start, records(100, start, uint64(i)))), sink.Flush(ctx))
			}
			var e *Error
			if !errors.As(err, &e) || e.Code != c.code || Refused(err) != c.refused || retryable(err) != c.again ||
				!strings.Contains(err.Error(), strings.ReplaceAll(c.hint, "{db}", o.Database)) {
				t.Errorf("refused %v, retryable %v: %v", Refused(err), retryable(err), err)
			}
			sink.Close(t.Context()) // tells the same again
		})
	}
}

// As above, of what the user's rights and limits forbid.
func TestClassesOfForbidden(t *testing.T) {
	o := applied(t)
	reader, wrong := o, o
	local := localtest.Start(t)
	reader.User, reader.Password = local.Reader, local.ReaderPassword
	wrong.Password = "wrong-pass"
	insert := "INSERT INTO " + quote(o.Database) + ".flows (ts, packets) SELECT now(), number FROM numbers(1000000)"
	for name, c := range map[string]struct {
		as       Options
		settings clickhouse.Settings
		code     int32
		again    bool
		hint     string
	}{
		"password": {as: wrong, code: codeAuthentication, hint: "check user"},
		"rights":   {as: reader, code: codeAccessDenied, hint: "GRANT INSERT ON " + o.Database + ".flows TO " + local.Reader + "; or name another user"},
		"readonly": {as: o, settings: clickhouse.Settings{"readonly": 1}, code: codeReadOnly, hint: "may not do this"},
		"memory":   {as: o, settings: clickhouse.Settings{"max_memory_usage": 1_000_000}, code: codeMemory, again: true, hint: "max_memory_usage"},
		"time": {as: o, settings: clickhouse.Settings{"max_execution_time": 0.001, "timeout_overflow_mode": "throw", "max_block_size": 1000},
			code: codeTimeout, again: true},
	} {
		s, err := connect(t.Context(), c.as)
		if err == nil {
			err = s.exec(clickhouse.Context(t.Context(), clickhouse.WithSettings(c.settings)), "insert into", "flows", insert)
			s.close()
		}
		var e *Error
		if !errors.As(err, &e) || e.Code != c.code || Refused(err) || retryable(err) != c.again || !strings.Contains(err.Error(), c.hint) {
			t.Errorf("%s: refused %v, retryable %v: %v", name, Refused(err), retryable(err), err)
		}
	}
}

func TestRefusedIsTheServersWord(t *testing.T) {
	o := options(t)
	o.Password = "wrong-pass"
	for name, err := range map[string]error{
		"nil": nil, "password": Check(t.Context(), o), "network": Check(t.Context(), Options{Addr: []string{"127.0.0.1:1"}}), "our own": errors.New("469"),
	} {
		if Refused(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGrantHint(t *testing.T) {
	for message, want := range map[string]string{
		"u: Not enough privileges. To execute this query, it's necessary to have the grant INSERT(a, `b c`) ON weir.flows": "GRANT INSERT ON weir.flows TO u",
		"u: Not enough privileges. To execute this query, it's necessary to have grant CREATE DATABASE ON weir.*":          "GRANT CREATE DATABASE ON weir.* TO u",
		"it's necessary to have the grant SELECT(x), INSERT(y) ON `net-1`.flows. (ACCESS_DENIED)":                          "GRANT SELECT, INSERT ON `net-1`.flows TO u",
		"it's necessary to have the grant SELECT ON *.*":                                                                   "GRANT SELECT ON *.* TO u",
		"Not enough privileges": "",
		"necessary to have the grant INSERT\n; DROP TABLE x ON a.b":                    "",
		"necessary to have the grant INSERT ON a.b; DROP":                              "GRANT INSERT ON a.b TO u",
		"necessary to have the grant " + strings.Repeat("A", 1<<20) + " ON weir.flows": "",
	} {
		s := &server{Options: Options{User: "u"}}
		if got := s.grant(message); got != want {
			t.Errorf("%.80q: %q, want %q", message, got, want)
		}
	}
	s := &server{Options: Options{User: "o'neil-x"}}
	if got := s.grant("necessary to have the grant INSERT ON a.b"); got != "GRANT INSERT ON a.b TO `o'neil-x`" {
		t.Error(got)
	}
}

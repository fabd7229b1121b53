package clickhouse

import (
	"errors"
	"strings"
	"testing"
	"time"

	"weir/exporter/clickhouse/local/localtest"
)

func newReader(t *testing.T, o Options, l Limits) *Reader {
	t.Helper()
	r, err := NewReader(t.Context(), o, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func ignore(Rows) error { return nil }

// Under a user who may do everything, a Reader may still only read.
func TestReaderOnlyReads(t *testing.T) {
	o := applied(t)
	r := newReader(t, o, Limits{})
	var readonly string
	if err := r.Query(t.Context(), "SELECT toString(getSetting('readonly'))", nil, 1, func(rows Rows) error { return rows.Scan(&readonly) }, nil); err != nil || readonly != "1" {
		t.Fatalf("readonly = %s, %v", readonly, err)
	}
	for _, sql := range []string{
		"INSERT INTO " + r.Table() + " (host) SELECT 'x'", "DROP TABLE " + r.Table(), "CREATE TABLE " + r.table("x") + " (x UInt8) ENGINE = Memory",
		"CREATE TEMPORARY TABLE x (x UInt8)", "SET readonly = 0", "TRUNCATE TABLE " + r.Table(), "SELECT 1 SETTINGS max_execution_time = 0", "SELECT 1 SETTINGS readonly = 0",
		"SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'x UInt8')", "SELECT * FROM file('/etc/passwd', 'LineAsString')",
		"SELECT * FROM remote('127.0.0.1', system.one)", "SELECT 1; DROP TABLE " + r.Table(), "SYSTEM DROP DNS CACHE",
	} {
		var e *Error
		if err := r.Query(t.Context(), sql, nil, 1, ignore, nil); !errors.As(err, &e) || e.Code == 0 {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

func TestReaderUnderReadOnlyUsers(t *testing.T) {
	o := applied(t)
	send(t, o, SinkOptions{}, batchOf(day, records(3, day, 1)))
	s := localtest.Start(t)
	o.User, o.Password = s.Reader, s.ReaderPassword
	var n uint64
	if err := newReader(t, o, Limits{}).Query(t.Context(), "SELECT count() FROM "+quote(o.Database)+".flows", nil, 1, func(r Rows) error { return r.Scan(&n) }, nil); err != nil || n != 3 {
		t.Errorf("%d rows, %v", n, err)
	}
}

func TestReaderLimits(t *testing.T) {
	o := applied(t)
	for _, c := range []struct {
		name   string
		limits Limits
		sql    string
		code   int32
	}{
		{"time", Limits{Time: time.Second}, "SELECT count() FROM numbers(1e12) WHERE NOT ignore(cityHash64(number))", codeTimeout},
		{"memory", Limits{Memory: 10 << 20}, "SELECT number FROM numbers(1e8) ORDER BY cityHash64(number)", codeMemory},
		{"rows", Limits{}, "SELECT number FROM numbers(1000)", codeTooManyResult},
	} {
		err := newReader(t, o, c.limits).Query(t.Context(), c.sql, nil, 10, ignore, nil)
		var e *Error
		if !errors.As(err, &e) || e.Code != c.code && !(c.name == "time" && e.Code == codeTooSlow) || e.Hint == "" {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestExpression(t *testing.T) {
	for _, s := range []string{"a = 1", "(a)", "x['k'] = 'it''s'", `s = 'a\'); --'`, "a - -1 < 3", "`odd )` > 1", "\"selected\" = selected", "n = 'ü'", "m = {'a': 1}"} {
		if got, err := Expression(s); err != nil || got != "("+s+")" {
			t.Errorf("%s: %s, %v", s, got, err)
		}
	}
	for _, s := range []string{"", " ", "1)", "(1", "1) OR (1", "[1)", "a;", "'", `'\`, "a -- b", "a /* b", "a // b", "# x", "$a$x$a$", "x'41'", "b'1'", "a'b'",
		"(SELECT 1)", "exists(select 1)", "a = ‘b’", "a\x00", "a \\G", strings.Repeat("a", maxExpression+1), "ü"} {
		if got, err := Expression(s); err == nil {
			t.Errorf("%q was taken as %s", s, got)
		}
	}
}

// What is taken as one expression the server's parser sees as one, too: it
// formats a query around it with nothing before or behind.
func TestExpressionAgreesWithTheServer(t *testing.T) {
	o := applied(t)
	r := newReader(t, o, Limits{})
	for _, s := range []string{"1", "'a' = 'b''c'", `'\'' = '\\'`, "1 AS x", "1, 2", "(1, 2) = (1, 2)", "x -> 1", "`a\\`b` = 1", "1 OR 1", "`a``b` = 1", `"a""b" = 1`, "1 UNION ALL 1", "1 LIMIT 1", "* ", "not", "1 = 1 ? 2 : 3", "CASE WHEN 1 THEN 2 END", "interval 1 day"} {
		expr, err := Expression(s)
		if err != nil {
			continue
		}
		var ast []string
		err = r.Query(t.Context(), "EXPLAIN AST SELECT 'before' WHERE 7 AND "+expr+" GROUP BY 'behind'", nil, 1000, func(rows Rows) error {
			var line string
			if err := rows.Scan(&line); err != nil {
				return err
			}
			ast = append(ast, line)
			return nil
		}, nil)
		if err != nil {
			continue // the server refuses it, which is fine
		}
		text := strings.Join(ast, "\n")
		if strings.Count(text, "SelectQuery ") != 1 || !strings.Contains(text, "Literal 'behind'") || !strings.Contains(text, "Function and") || strings.Contains(text, "Set") {
			t.Errorf("%s:\n%s", expr, text)
		}
	}
}

func FuzzExpression(f *testing.F) {
	for _, s := range []string{"a = 'b'", "f(x)[1]", "`a`", "x'", "--", "((("} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		expr, err := Expression(s)
		if err != nil {
			return
		}
		// Wrapping it again finds the same brackets: nothing in it is left open.
		if _, err := Expression(expr); err != nil && len(expr) <= maxExpression {
			t.Fatalf("%q is an expression and %q is not: %v", s, expr, err)
		}
		if _, err := Expression(s + " )"); err == nil {
			t.Fatalf("%q took a bracket from outside", s)
		}
	})
}

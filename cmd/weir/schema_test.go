package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"weir/exporter/clickhouse"
	"weir/exporter/clickhouse/local/localtest"
)

func TestSchemaCommand(t *testing.T) {
	s := localtest.Start(t)
	o := clickhouse.Options{Addr: []string{s.Addr}, User: s.User, Password: s.Password, Database: "schema_command"}
	run := func(args ...string) (string, string, error) {
		return execute(newSchemaCommand(func() (clickhouse.Options, error) { return o, nil }, func() string { return o.Database }, func() string { return "" }), args...)
	}
	out, _, err := run()
	if err != nil || !strings.Contains(out, "CREATE TABLE IF NOT EXISTS `schema_command`.`flows`") || strings.Contains(out, "TTL") {
		t.Errorf("print: %v\n%s", err, out)
	}
	if same, _, err := run("--print"); err != nil || same != out {
		t.Errorf("--print is not the default: %v", err)
	}
	if ttl, _, err := run("--ttl", "90d"); err != nil || strings.Count(ttl, "TTL ts + toIntervalSecond(7776000)") != 3 {
		t.Errorf("--ttl: %v\n%s", err, ttl)
	}
	if ttl, _, err := run("--ttl", "1d,ledger=2y,flows=0"); err != nil || strings.Count(ttl, "TTL ts + toIntervalSecond(86400)") != 2 ||
		!strings.Contains(ttl, "`ledger` MODIFY TTL ts + toIntervalSecond(63072000)") || strings.Contains(ttl, "`flows` MODIFY TTL") {
		t.Errorf("--ttl for each table: %v\n%s", err, ttl)
	}
	var missing *clickhouse.SchemaError
	if _, _, err := run("--check"); !errors.As(err, &missing) {
		t.Errorf("--check before: %v", err)
	}
	for range 2 {
		if _, errOut, err := run("--apply"); err != nil || !strings.Contains(errOut, fmt.Sprintf("schema version %d", clickhouse.Version)) || strings.Contains(errOut, o.Password) {
			t.Errorf("--apply: %v, %s", err, errOut)
		}
	}
	if _, _, err := run("--check"); err != nil {
		t.Errorf("--check after: %v", err)
	}
	for _, args := range [][]string{{"--apply", "--check"}, {"--ttl", "5s"}, {"--ttl", "nosuch=5d"}, {"--ttl", "ledger=1y,90d"}, {"--ttl", "x"}, {"--unreplicated"}, {"extra"}} {
		if _, _, err := run(args...); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}

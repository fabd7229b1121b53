package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/viper"
)

// TestExampleConfig holds config.example.yaml against the defaults: every key is
// there, with the value that it has if nobody sets it.
func TestExampleConfig(t *testing.T) {
	v := viper.New()
	v.SetConfigFile("../../config.example.yaml")
	if err := v.ReadInConfig(); err != nil {
		t.Fatal(err)
	}
	for _, k := range v.AllKeys() {
		if _, ok := defaults[k]; !ok {
			t.Errorf("the example has %s, which is no key", k)
		}
	}
	for k, d := range defaults {
		if !slices.Contains(v.AllKeys(), k) {
			t.Errorf("the example lacks %s", k)
			continue
		}
		got, want := v.GetString(k), fmt.Sprint(d)
		switch d := d.(type) {
		case time.Duration:
			got, want = v.GetDuration(k).String(), d.String()
		case []any:
			got, want = fmt.Sprint(v.Get(k)), fmt.Sprint(d)
		case []string:
			got, want = fmt.Sprint(v.GetStringSlice(k)), fmt.Sprint(d)
		}
		if got != want {
			t.Errorf("the example says %s: %s, the default is %s", k, got, want)
		}
	}
}

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	web := captures + "/web.pcap"
	t.Run("misspelt key", func(t *testing.T) {
		r := weir(t, nil, "replay", "--config", file("misspelt", "clickhouse:\n  adr: [localhost:9000]\n"), web)
		if r.code != exitUsage || !strings.Contains(r.stderr, "clickhouse.adr") {
			t.Errorf("exit %d: %s", r.code, r.stderr)
		}
	})
	t.Run("no YAML", func(t *testing.T) {
		r := weir(t, nil, "replay", "--config", file("broken", "clickhouse: [\n"), web)
		if r.code != exitUsage || !strings.Contains(r.stderr, "broken") {
			t.Errorf("exit %d: %s", r.code, r.stderr)
		}
	})
	long := captures + "/long.pcap"
	records := func(env []string, args ...string) int {
		r := weirEnv(t, env, nil, append(append([]string{"replay", "--output", "csv"}, args...), long)...)
		if r.code != exitOK {
			t.Fatal(r.stderr)
		}
		return strings.Count(r.stdout, "\n") - 1
	}
	t.Run("weight", func(t *testing.T) {
		whole := records(nil, "--interval", "0")
		cut := records(nil)
		if cut <= whole {
			t.Fatalf("%d records by default, %d with one interval", cut, whole)
		}
		config := file("whole", "flows:\n  interval: 0s\n")
		if n := records(nil, "--config", config); n != whole {
			t.Errorf("configured: %d records, want %d", n, whole)
		}
		if n := records([]string{"WEIR_FLOWS_INTERVAL=10s"}, "--config", config); n != cut {
			t.Errorf("the environment weighs more than the file: %d records, want %d", n, cut)
		}
		if n := records([]string{"WEIR_FLOWS_INTERVAL=0"}, "--interval", "10s"); n != cut {
			t.Errorf("flags weigh more than the environment: %d records, want %d", n, cut)
		}
	})
	t.Run("secret", func(t *testing.T) {
		const secret = "correct horse"
		for _, r := range []result{
			weirEnv(t, []string{"WEIR_CLICKHOUSE_PASSWORD=" + secret}, nil, "query", "top", "--clickhouse", "127.0.0.1:1"),
			weir(t, nil, "query", "top", "--clickhouse", "127.0.0.1:1", "--password-file", file("secret", secret+"\n")),
		} {
			if r.code != exitFailure || strings.Contains(r.stdout+r.stderr, secret) {
				t.Errorf("exit %d: %s", r.code, r.stderr)
			}
		}
	})
}

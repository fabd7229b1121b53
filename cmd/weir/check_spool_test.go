package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"weir/exporter/spool"
)

// TestCheckSpool looks at folders of all kinds for records that wait.
func TestCheckSpool(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	letters := filepath.Join(dir, "letters")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(letters, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(letters, "letter"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	used := filepath.Join(dir, "used")
	s, err := spool.Open(spool.Options{Folder: used})
	if err != nil {
		t.Fatal(err)
	}
	var f spool.Flush
	if err := f.Add(&spool.Block{Table: "flows"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Put(t.Context(), &f); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	aside := filepath.Join(dir, "damaged")
	if err := os.CopyFS(aside, os.DirFS(used)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(aside, "00000000000000000002.flush"), filepath.Join(aside, "aside", "00000000000000000002.corrupt")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ env, state, says string }{
		{"WEIR_SPOOL_FOLDER=" + filepath.Join(dir, "new", "spool"), stateOK, "up to 1.1 GB"},
		{"WEIR_SPOOL_FOLDER=" + used, stateOK, "2 flushes wait, the oldest for "},
		{"WEIR_SPOOL_FOLDER=" + aside, stateWarning, "1 files are set aside"},
		{"WEIR_SPOOL_FOLDER=" + file, stateWarning, "not a directory"},
		{"WEIR_SPOOL_FOLDER=" + letters, stateWarning, `holds "letter"`},
		{"WEIR_SPOOL_FOLDER=/proc/spool", stateWarning, "/proc"},
		{"WEIR_SPOOL_ENABLED=false", stateWarning, "it is off"},
		{"WEIR_SPOOL_MAX_SIZE=900TiB", stateWarning, "has room for"},
		{"WEIR_SPOOL_FULL=oldes", stateError, "not one of oldest, newest, wait"},
		{"WEIR_SPOOL_MEMORY=1kB", stateError, "less than 1MiB"},
		{"WEIR_CLICKHOUSE_BATCH_ROWS=1000000", stateError, "not within 1000 and 262144"},
	} {
		r := weirEnv(t, []string{c.env, "WEIR_USER=root"}, nil, "check", "-o", "json")
		found := false
		for line := range strings.Lines(r.stdout) {
			var got struct{ State, What, Detail, Advice string }
			if err := json.Unmarshal([]byte(line), &got); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(got.Detail, c.says) && (got.What == "spool" || got.What == "configuration") {
				found = got.State == c.state && (got.State == stateOK || got.Advice != "")
			}
		}
		if !found {
			t.Errorf("%s: no %s with %q in\n%s%s", c.env, c.state, c.says, r.stdout, r.stderr)
		}
	}
}

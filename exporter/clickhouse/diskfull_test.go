//go:build linux && amd64

package clickhouse

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"weir/exporter/clickhouse/local"
	"weir/exporter/clickhouse/local/localtest"
)

// checkFull checks what a sink says when the server's disk is full.
func checkFull(t *testing.T, sink *Sink, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != codeNoSpace && e.Code != codeCannotWrite || e.Server == "" || !strings.HasPrefix(e.Table, sink.Database+".flows") ||
		e.Hint != hintNoSpace || !strings.HasSuffix(err.Error(), fmt.Sprintf("; the server has acknowledged %d records", sink.stored.Load())) {
		t.Errorf("the disk is full: %v", err)
	}
}

// The server's own limit on free space, which it answers with the code of a full disk.
func TestFreeSpaceLimit(t *testing.T) {
	o := applied(t)
	a := dial(t, o)
	defer a.close()
	a.run(t, "ALTER TABLE "+a.table(flowsTable)+" MODIFY SETTING min_free_disk_bytes_to_perform_insert = 1000000000000000000")
	sink := newSink(t, o, SinkOptions{Report: func(err error) { t.Errorf("it was tried again: %v", err) }})
	write(t, t.Context(), sink, 0)
	checkFull(t, sink, sink.Close(t.Context()))
	if got := a.one(t, "count()", a.table(flowsTable)); got != "0" {
		t.Errorf("%s rows", got)
	}
}

// A disk that is full for good: a small tmpfs, mounted for the server alone. Only
// root may mount, so others have the test above.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		return
	}
	for _, tool := range []string{"unshare", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: install util-linux", err)
		}
	}
	// The logs stay on the machine's disk, beside the store.
	script := filepath.Join(t.TempDir(), "weir-clickhouse")
	if err := os.WriteFile(script, []byte(`#!/bin/sh
for arg; do
	[ "$last" = --data ] && data=$arg
	last=$arg
done
if [ -z "$WEIR_TEST_MOUNTED" ]; then
	WEIR_TEST_MOUNTED=1 exec unshare --mount "$0" "$@"
fi
user=$(id -u weir 2>/dev/null || id -u nobody) # as weir-clickhouse chooses
mkdir -p "$data/store" && mount -t tmpfs -o size=48m,mode=0700,uid="$user" tmpfs "$data/store" || exit 1
exec `+localtest.Binary(t)+` "$@"
`), 0o700); err != nil {
		t.Fatal(err)
	}
	m := newMortal(t, local.Options{Binary: script})
	sink := newSink(t, m.client(), SinkOptions{Report: func(err error) { t.Errorf("it was tried again: %v", err) }})
	var err error
	for i := 0; err == nil && i < 200; i++ {
		err = sink.Write(t.Context(), batchOf(day, records(20_000, day, uint64(i))))
	}
	if err == nil {
		err = sink.Close(t.Context())
	}
	checkFull(t, sink, err)
}

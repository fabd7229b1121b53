//go:build linux && amd64

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// logs are the engine's: server.log, which the engine bounds to two files of 10 MB,
// and console.log, what it wrote on its standard error since the last start.
type logs struct {
	dir    string
	before int64 // size of server.log when this server started
}

func openLogs(dir string) (*logs, error) {
	l := &logs{dir: dir}
	if st, err := os.Stat(filepath.Join(dir, "server.log")); err == nil {
		l.before = st.Size()
	}
	console, err := os.OpenFile(filepath.Join(dir, "console.log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	defer console.Close()
	return l, keepStandardFiles(console)
}

// explain makes an error of the engine's early return, with the last error that it
// logged.
func (l *logs) explain(err error) error {
	last := l.lastError()
	switch {
	case err != nil && last != "":
		err = fmt.Errorf("%w: %s", err, last)
	case last != "":
		err = errors.New(last)
	case err == nil:
		err = errors.New("no reason given")
	}
	return fmt.Errorf("the ClickHouse server ended by itself: %w (logs in %s)", err, l.dir)
}

// maxQuote bounds how much of the end of a log is searched.
const maxQuote = 256 << 10

func (l *logs) lastError() string {
	if line := lastLine(filepath.Join(l.dir, "server.log"), l.before, "<Error>", "<Fatal>"); line != "" {
		return line
	}
	return lastLine(filepath.Join(l.dir, "console.log"), 0, "Exception:")
}

// lastLine returns the last line after offset from that holds one of marks, without
// the stack trace that may follow in the same line.
func lastLine(path string, from int64, marks ...string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return ""
	}
	if st.Size() < from {
		from = 0 // a new file since
	}
	from = max(from, st.Size()-maxQuote)
	b, err := io.ReadAll(io.NewSectionReader(f, from, maxQuote))
	if err != nil {
		return ""
	}
	found := ""
	for line := range bytes.Lines(b) {
		for _, mark := range marks {
			if i := bytes.Index(line, []byte(mark)); i >= 0 {
				found = string(line)
			}
		}
	}
	found, _, _ = strings.Cut(found, ", Stack trace")
	return strings.TrimSpace(found)
}

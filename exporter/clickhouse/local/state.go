package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Files in a server's data folder. The store and the logs belong to the user
// that the server runs as, everything else to the one who started it.
const (
	PasswordFile       = "password"        // of user weir, mode 0600
	ReaderPasswordFile = "password-reader" // of user weir_reader, mode 0600
	LockFile           = "lock"            // locked while a server runs; holds its State
)

// State says how to reach a running server. weir-clickhouse prints it as one line
// of JSON on standard output once the server answers, and keeps it in LockFile.
type State struct {
	Addr               string `json:"addr"` // host:port of the native protocol
	HTTP               string `json:"http"` // host:port of the HTTP interface
	User               string `json:"user"`
	PasswordFile       string `json:"password_file"`
	Reader             string `json:"reader"` // a user that may only read
	ReaderPasswordFile string `json:"reader_password_file"`
	Data               string `json:"data"`
	PID                int    `json:"pid"`
	Version            string `json:"version"`         // of ClickHouse
	Error              string `json:"error,omitempty"` // set alone: the server did not start
}

// maxState bounds what is read of a State: two paths and some numbers.
const maxState = 64 << 10

// DefaultDataDir is where a server keeps its data unless told otherwise:
// /var/lib/weir/clickhouse for root, else weir/clickhouse in $XDG_DATA_HOME,
// which is ~/.local/share where it is not set.
func DefaultDataDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/weir/clickhouse", nil
	}
	// The XDG Base Directory specification wants relative values ignored.
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "weir", "clickhouse"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the data folder: %w: set HOME or XDG_DATA_HOME, or name a folder", err)
	}
	return filepath.Join(home, ".local", "share", "weir", "clickhouse"), nil
}

// Running returns the server that some process runs on dataDir ("" means
// DefaultDataDir), or nil if none does. Its Stop does nothing: it belongs to the
// one who started it. A server that is still starting counts as none.
func Running(dataDir string) (*Server, error) {
	if dataDir == "" {
		var err error
		if dataDir, err = DefaultDataDir(); err != nil {
			return nil, err
		}
	}
	f, err := os.Open(filepath.Join(dataDir, LockFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for a running server: %w", err)
	}
	defer f.Close()
	locked, err := isLocked(f)
	if err != nil || !locked {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxState))
	if err != nil {
		return nil, fmt.Errorf("look for a running server: %w", err)
	}
	if len(b) == 0 {
		return nil, nil // it has the lock, but is not ready yet
	}
	return newServer(b)
}

// newServer makes a Server from a State in JSON and reads its passwords.
func newServer(state []byte) (*Server, error) {
	var st State
	if err := json.Unmarshal(state, &st); err != nil {
		return nil, fmt.Errorf("read the state of the ClickHouse server: %w", err)
	}
	if st.Error != "" {
		return nil, errors.New(st.Error)
	}
	s := &Server{
		Addr: st.Addr, HTTPAddr: st.HTTP, User: st.User, Reader: st.Reader,
		DataDir: st.Data, PID: st.PID, Version: st.Version,
	}
	var err error
	if s.Password, err = readPassword(st.PasswordFile); err != nil {
		return nil, err
	}
	s.ReaderPassword, err = readPassword(st.ReaderPasswordFile)
	return s, err
}

func readPassword(path string) (string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrPermission) {
		return "", fmt.Errorf("read the server's password: %w: only the user who started the server may", err)
	}
	if err != nil {
		return "", fmt.Errorf("read the server's password: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

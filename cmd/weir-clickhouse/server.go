//go:build linux && amd64

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"weir/exporter/clickhouse/local"
)

// serveQueries makes clickhouse-local a server: its ports open, the second query
// waits for the end of a pipe, and when that comes, its ports close and it returns.
const serveQueries = "SYSTEM START LISTEN QUERIES ALL; " +
	"SELECT count() FROM file('/dev/fd/%d', LineAsString) FORMAT Null; " +
	"SYSTEM STOP LISTEN QUERIES ALL"

// stopLimit is how long the engine may take to stop before the process ends
// without it. A kill loses no acknowledged row, so nothing is gained by waiting on.
const stopLimit = 30 * time.Second

// server is this process once it has dropped its privileges.
type server struct {
	cfg       *engineConfig
	tcp       reservation
	http      reservation
	stopPipe  *os.File    // its end stops the engine
	stopping  atomic.Bool // the end was asked for
	announced bool        // the line of JSON was printed; valid once announce has returned
}

// serveEngine runs the server until a signal or the parent's end.
func serveEngine(cfg *engineConfig) error {
	s := &server{cfg: cfg}
	err := s.serve()
	return wrapServe(err, cfg.ErrorsAsJSON && !s.announced)
}

func (s *server) serve() error {
	cfg := s.cfg
	sigs := make(chan os.Signal, 2)
	signal.Notify(sigs, syscall.SIGINT, syscall.SIGTERM)
	unix.Umask(0o077)
	store := filepath.Join(cfg.Data, storeDir)
	if err := reach(store); err != nil {
		return fmt.Errorf("user %s cannot use the data folder: %w: choose another with --data, or let that user pass (chmod o+x)", cfg.Account, err)
	}
	// Tables of the system database outlive the database, which is in memory, and
	// would be in its way.
	if err := os.RemoveAll(filepath.Join(store, "data", "system")); err != nil {
		return fmt.Errorf("clear the system tables: %w", err)
	}
	logs, err := openLogs(filepath.Join(cfg.Data, logsDir))
	if err != nil {
		return err
	}
	if s.tcp, err = reservePort(cfg.Listen, cfg.TCPPort, "--tcp-port"); err != nil {
		return err
	}
	if s.http, err = reservePort(cfg.Listen, cfg.HTTPPort, "--http-port"); err != nil {
		return err
	}
	if err := giveTerminal(); err != nil {
		return err
	}
	lib, err := loadEngine("/proc/self/fd/" + strconv.Itoa(cfg.LibraryFD))
	if err != nil {
		return err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	s.stopPipe = write
	defer read.Close() // not before: the engine knows it by its number only
	go s.stopOn(sigs)
	ctx, cancel := context.WithCancel(context.Background())
	announce := make(chan error, 1)
	go func() {
		err := s.announce(ctx)
		if err != nil && ctx.Err() == nil {
			s.stop()
		}
		announce <- err
	}()
	runErr := lib.run([]string{
		"clickhouse",
		"--interactive", // see giveTerminal
		"--path=" + store,
		"--config-file=" + filepath.Join(cfg.Data, configFile),
		"--log-level=warning", // that in the file is not heeded
		"--listen_host=" + cfg.Listen,
		"--tcp_port=" + strconv.Itoa(s.tcp.port),
		"--http_port=" + strconv.Itoa(s.http.port),
		"--query=" + fmt.Sprintf(serveQueries, read.Fd()),
	})
	asked := s.stopping.Load() // before announce may do so
	cancel()
	if err := <-announce; err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	if asked {
		return nil // runErr is that there can be no prompt, see giveTerminal
	}
	return logs.explain(runErr)
}

// stop asks the engine to end. It may be called more than once.
func (s *server) stop() {
	if !s.stopping.Swap(true) {
		s.stopPipe.Close()
	}
}

func (s *server) stopOn(sigs <-chan os.Signal) {
	parent := make(chan struct{})
	if s.cfg.ParentFD >= 0 {
		go func() {
			waitParent(s.cfg.ParentFD)
			close(parent)
		}()
	}
	select {
	case <-sigs:
	case <-parent:
	}
	s.stop()
	limit := time.After(stopLimit)
	ticks := time.NewTicker(20 * time.Millisecond) // until the engine has closed its ports
	for waiting := true; waiting; {
		disconnectClients(s.tcp.port, s.http.port)
		select {
		case <-ticks.C:
		case <-sigs: // a second one: whoever sends it does not want to wait
			waiting = false
		case <-limit:
			waiting = false
		}
	}
	fmt.Fprintln(os.Stderr, "weir-clickhouse: the server did not stop in time; ending without it")
	os.Exit(1)
}

// announce waits until the server answers and says so. Its error is ctx's if the
// engine returned before.
func (s *server) announce(ctx context.Context) error {
	if err := s.waitReady(ctx); err != nil {
		return err
	}
	s.tcp.release()
	s.http.release()
	st := local.State{
		Addr: s.tcp.addr, HTTP: s.http.addr, User: userName, Reader: readerName,
		PasswordFile:       filepath.Join(s.cfg.Data, local.PasswordFile),
		ReaderPasswordFile: filepath.Join(s.cfg.Data, local.ReaderPasswordFile),
		Data:               s.cfg.Data, PID: os.Getpid(), Version: engineVersion,
	}
	line, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("say how to reach the server: %w", err)
	}
	line = append(line, '\n')
	if _, err := unix.Pwrite(s.cfg.LockFD, line, 0); err != nil {
		return fmt.Errorf("write %s: %w", local.LockFile, err)
	}
	if _, err := os.Stdout.Write(line); err != nil && !errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("say how to reach the server: %w", err)
	}
	s.announced = true
	if s.cfg.ParentFD >= 0 {
		return nil // the parent has the line above and tells its user in its own words
	}
	fmt.Fprintf(os.Stderr, "ClickHouse %s answers at %s and http://%s/, user %s, password in %s; Ctrl-C ends it\n",
		st.Version, st.Addr, st.HTTP, st.User, st.PasswordFile)
	return nil
}

func (s *server) waitReady(ctx context.Context) error {
	// The engine's end waits for connections that are kept alive.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ticks := time.NewTicker(5 * time.Millisecond)
	defer ticks.Stop()
	for !s.answers(ctx, &client) {
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (s *server) answers(ctx context.Context, client *http.Client) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.http.addr+"/ping", nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil { // or the engine logs a broken pipe
		return false
	}
	conn, err := net.Dial("tcp", s.tcp.addr)
	if err != nil {
		return false
	}
	conn.Close()
	return resp.StatusCode == http.StatusOK
}

// reach tells the first folder on the way to path that this process may not enter.
func reach(path string) error {
	_, err := os.ReadDir(path)
	if err == nil || !errors.Is(err, os.ErrPermission) {
		return err
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if unix.Access(dir, unix.X_OK) == nil || dir == filepath.Dir(dir) {
			return err
		}
		err = &os.PathError{Op: "enter", Path: dir, Err: unix.EACCES}
	}
}

// standardFiles are the files that os.Stdin, os.Stdout and os.Stderr name at the
// start. They own the descriptors 0, 1 and 2 for the life of the process: an
// os.File that nothing refers to is closed by the garbage collector, and the next
// file that the engine opens would then be its standard output.
var standardFiles = [3]*os.File{os.Stdin, os.Stdout, os.Stderr}

// keepStandardFiles lets os.Stdout and os.Stderr go on as they are and gives
// descriptors 1 and 2, on which the engine and the C library write, to log.
func keepStandardFiles(log *os.File) error {
	for fd, f := range map[int]**os.File{1: &os.Stdout, 2: &os.Stderr} {
		kept, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return fmt.Errorf("keep descriptor %d: %w", fd, err)
		}
		*f = os.NewFile(uintptr(kept), standardFiles[fd].Name())
		if err := unix.Dup2(int(log.Fd()), fd); err != nil {
			return fmt.Errorf("redirect descriptor %d: %w", fd, err)
		}
	}
	return debug.SetCrashOutput(os.Stderr, debug.CrashOptions{})
}

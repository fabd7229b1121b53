//go:build linux && amd64

package local_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"weir/exporter/clickhouse/local"
	"weir/exporter/clickhouse/local/localtest"
)

func TestStartStop(t *testing.T) {
	dir := dataDir(t)
	s := start(t, options(t, dir))
	conn := connect(t, s.Addr, s.User, s.Password)
	var version, zone string
	if err := conn.QueryRow(t.Context(), "SELECT version(), timezone()").Scan(&version, &zone); err != nil {
		t.Fatal(err)
	}
	if version != s.Version {
		t.Errorf("the server says version %s, Start %s", version, s.Version)
	}
	if !strings.HasSuffix(zone, "UTC") {
		t.Errorf("time zone %s", zone)
	}
	execute(t, conn, "CREATE DATABASE d", "CREATE TABLE d.t (n UInt64) ENGINE = MergeTree ORDER BY n", "INSERT INTO d.t SELECT number FROM numbers(1000)")
	conn.Close()
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("a second Stop: %v", err)
	}
	if found, err := local.Running(dir); found != nil || err != nil {
		t.Errorf("Running after Stop: %v, %v", found, err)
	}

	again := start(t, options(t, dir))
	if again.Password != s.Password {
		t.Error("the second start made another password")
	}
	if n := count(t, connect(t, again.Addr, again.User, again.Password), "d.t"); n != 1000 {
		t.Errorf("%d rows after a restart", n)
	}
}

// TestQuiet: how a server is reached is for the one who started it to say.
func TestQuiet(t *testing.T) {
	var stderr bytes.Buffer
	o := options(t, dataDir(t))
	localtest.Start(t) // which fetches the engine if it must, and that is told
	o.Stderr = &stderr
	s := start(t, o)
	stop(t, s)
	if stderr.Len() > 0 {
		t.Errorf("the server said %q", &stderr)
	}
}

func TestRunning(t *testing.T) {
	s := localtest.Start(t)
	found, err := local.Running(s.DataDir)
	if err != nil || found == nil {
		t.Fatalf("%v, %v", found, err)
	}
	if found.Addr != s.Addr || found.HTTPAddr != s.HTTPAddr || found.Password != s.Password || found.PID != s.PID {
		t.Errorf("found %+v, started %+v", found, s)
	}
	if err := found.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := connect(t, s.Addr, s.User, s.Password).Ping(t.Context()); err != nil {
		t.Errorf("Stop of a server that was found stopped it: %v", err)
	}
	if found, err := local.Running(filepath.Join(t.TempDir(), "none")); found != nil || err != nil {
		t.Errorf("no folder: %v, %v", found, err)
	}
}

func TestProfile(t *testing.T) {
	s := localtest.Start(t)
	var value string
	err := connect(t, s.Addr, s.User, s.Password).QueryRow(t.Context(),
		"SELECT value FROM system.settings WHERE name = 'async_insert'").Scan(&value)
	if err != nil || value != "0" {
		t.Errorf("async_insert is %q, %v", value, err)
	}
}

func TestPortTaken(t *testing.T) {
	port := takePort(t)
	for flag, o := range map[string]local.Options{"--tcp-port": {TCPPort: port}, "--http-port": {HTTPPort: port}} {
		o.Binary, o.DataDir = localtest.Binary(t), dataDir(t)
		_, err := local.Start(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), strconv.Itoa(port)) || !strings.Contains(err.Error(), flag) {
			t.Errorf("%v", err)
		}
	}
}

func TestPortsChosen(t *testing.T) {
	s := localtest.Start(t)
	if s.Addr == s.HTTPAddr || strings.HasSuffix(s.Addr, ":0") || !strings.HasPrefix(s.Addr, "127.0.0.1:") {
		t.Errorf("%s and %s", s.Addr, s.HTTPAddr)
	}
}

func TestDataInUse(t *testing.T) {
	s := localtest.Start(t)
	_, err := local.Start(t.Context(), options(t, s.DataDir))
	if err == nil || !strings.Contains(err.Error(), "in use") || !strings.Contains(err.Error(), strconv.Itoa(s.PID)) {
		t.Errorf("%v", err)
	}
}

// TestEarlyReturn: the engine returns without an error when another engine has its
// store, so this must be found out and explained.
func TestEarlyReturn(t *testing.T) {
	dir := dataDir(t)
	o := options(t, dir)
	stop(t, start(t, o)) // makes the store
	f, err := os.Create(filepath.Join(dir, "store", "status"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Chmod(0o666); err != nil { // the server may be another user
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil { // as another engine does
		t.Fatal(err)
	}
	_, err = local.Start(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "ended by itself") || !strings.Contains(err.Error(), "Cannot lock file") {
		t.Errorf("%v", err)
	}
}

func TestNoBinary(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := local.Start(t.Context(), local.Options{DataDir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "go build") {
		t.Errorf("%v does not say what to do", err)
	}
	broken := filepath.Join(t.TempDir(), local.BinaryName)
	if err := os.WriteFile(broken, []byte("#!/bin/sh\nexit 0\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := local.Start(t.Context(), local.Options{Binary: broken}); err == nil || !strings.Contains(err.Error(), "did not say how to reach it") {
		t.Errorf("%v", err)
	}
}

// TestStartCancelled: a start that takes too long leaves no process.
func TestStartCancelled(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	slow := filepath.Join(dir, local.BinaryName)
	if err := os.WriteFile(slow, []byte("#!/bin/sh\necho $$ > "+fifo+"\nexec sleep 1000\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := local.Start(ctx, local.Options{Binary: slow})
		result <- err
	}()
	line, err := os.ReadFile(fifo) // returns once the program runs
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(line)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there: %v", pid, err)
	}
}

func TestSignalsEndIt(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		s := start(t, options(t, dataDir(t)))
		signal(t, s, sig)
		if err := s.Stop(t.Context()); err != nil { // Stop reports how it ended
			t.Errorf("%v: %v", sig, err)
		}
	}
}

// TestStopWithClients: clients that stay connected, idle or with a query, neither
// hold the server up until it gives in nor make its end an error.
func TestStopWithClients(t *testing.T) {
	s := start(t, options(t, dataDir(t)))
	execute(t, connect(t, s.Addr, s.User, s.Password), "SELECT 1") // stays open in the client's pool
	resp, err := http.Get("http://" + s.HTTPAddr + "/ping")        // kept alive
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	rows, err := connect(t, s.Addr, s.User, s.Password).Query(t.Context(),
		"SELECT sleepEachRow(1), number FROM numbers(1000) SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 10000000")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if !rows.Next() { // it runs
		t.Fatal(rows.Err())
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestCrashIsAnError(t *testing.T) {
	s := start(t, options(t, dataDir(t)))
	signal(t, s, syscall.SIGSEGV)
	if err := s.Stop(t.Context()); err == nil {
		t.Error("a server that crashed ended well")
	}
}

// TestKillLosesNothing: what was acknowledged is there after kill -9.
func TestKillLosesNothing(t *testing.T) {
	dir := dataDir(t)
	s := start(t, options(t, dir))
	conn := connect(t, s.Addr, s.User, s.Password)
	execute(t, conn, "CREATE DATABASE d", "CREATE TABLE d.t (n UInt64) ENGINE = MergeTree ORDER BY n")
	const batches, rows = 5, 100_000
	for range batches {
		batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO d.t")
		if err != nil {
			t.Fatal(err)
		}
		column := make([]uint64, rows)
		if err := batch.Column(0).Append(column); err != nil {
			t.Fatal(err)
		}
		if err := batch.Send(); err != nil {
			t.Fatal(err)
		}
	}
	signal(t, s, syscall.SIGKILL)
	again := start(t, options(t, dir))
	if n := count(t, connect(t, again.Addr, again.User, again.Password), "d.t"); n != batches*rows {
		t.Errorf("%d rows after kill -9, %d were acknowledged", n, batches*rows)
	}
}

// TestParentDeath: a server does not outlive the process that started it.
func TestParentDeath(t *testing.T) {
	dir := dataDir(t)
	cmd := parentCommand(t, options(t, dir))
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	server, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(server)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the parent was not killed")
	}
	for { // a pidfd is readable once its process has ended
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(server), Events: unix.POLLIN}}, -1)
		if n == 1 {
			break
		}
		if err != nil && err != unix.EINTR {
			t.Fatal(err)
		}
	}
	if found, err := local.Running(dir); found != nil || err != nil {
		t.Errorf("Running: %v, %v", found, err)
	}
	stop(t, start(t, options(t, dir))) // and its folder is free
}

// TestDownloadFails: what the child finds wrong is what Start says.
func TestDownloadFails(t *testing.T) {
	binary := localtest.Binary(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "npm"), []byte("#!/bin/sh\necho npm error EREFUSED >&2\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	var stderr bytes.Buffer
	_, err := local.Start(t.Context(), local.Options{Binary: binary, DataDir: dataDir(t), CacheDir: t.TempDir(), Stderr: &stderr})
	if err == nil || !strings.Contains(err.Error(), "EREFUSED") || errors.Is(err, exec.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if !strings.Contains(stderr.String(), " MB)\n") {
		t.Errorf("the download was announced by %q", &stderr)
	}
}

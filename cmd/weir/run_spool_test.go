package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"weir/exporter/clickhouse/local/localtest"
	"weir/internal/lack"
)

// TestRunSpool has ClickHouse away when the agent ends: what it has counted is on disk, it
// does not wait for its grace, and the next one sends it.
func TestRunSpool(t *testing.T) {
	flags, o, f := database(t, "run_spool")
	dir := filepath.Join(localtest.Folder(t), "spool")
	flags = append(flags, "--interface", "/^c/", "--spool", dir)
	senders, names := cables(t, 1)
	f.outage(true)
	p := startAgent(t, flags...)
	p.captures(names...)
	send(t, senders[0], 5000)
	until(t, "records wait on disk", func() bool {
		s := p.status()
		return s.Forward != nil && s.Forward.Records >= 500 && s.Forward.Bytes > 0 && s.Forward.Error != "" && s.Forward.Memory == 0 && !s.Behind
	})
	r := weirEnv(t, []string{"WEIR_ADMIN_SOCKET=" + p.socket}, nil, "status")
	if want := "waiting "; !strings.Contains(r.stdout, want) || !strings.Contains(r.stdout, dir) {
		t.Errorf("status: %s%s", r.stdout, r.stderr)
	}
	if s := p.stop(); s.packets < 5000 {
		t.Errorf("%+v", s)
	}
	if !strings.Contains(p.stderr(), "they are sent when the agent runs again") {
		t.Errorf("it says\n%s", p.stderr())
	}
	f.outage(false)
	p = startAgent(t, flags...)
	p.says("records from before wait in the spool")
	until(t, "all is there", func() bool { return rows(t, o, "c0") >= 5000 })
	p.stop()
	if n := rows(t, o, "c0"); n != 5000 {
		t.Errorf("%d packets", n)
	}
	if r := weir(t, nil, append([]string{"audit", "--since", "1h"}, flags[:8]...)...); strings.Contains(r.stdout, "missing:") || strings.Contains(r.stdout, "duplicates") {
		t.Errorf("audit: %s%s", r.stdout, r.stderr)
	}
}

// TestRunSpoolDisk has the spool on a disk that is full while ClickHouse is away, and its
// folder removed after that: the agent says so, goes on capturing, and nothing is lost of
// what fits into memory.
func TestRunSpoolDisk(t *testing.T) {
	lack.Root(t)
	flags, o, f := database(t, "run_spool_disk")
	disk := localtest.Folder(t)
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=64k,mode=0711"); err != nil {
		lack.Of(t, "it needs the right to mount: "+err.Error())
	}
	unmount := func() { syscall.Unmount(disk, syscall.MNT_DETACH) }
	t.Cleanup(unmount)
	dir := filepath.Join(disk, "spool")
	senders, names := cables(t, 1)
	f.outage(true)
	const listen = "127.0.0.1:9799"
	p := startAgent(t, append(flags, "--interface", "/^c/", "--spool", dir, "--listen", listen)...)
	p.captures(names...)
	sent := 0
	until(t, "64 KiB are full", func() bool {
		send(t, senders[0], 1000)
		sent += 1000
		return p.status().Forward.SpoolError != ""
	})
	p.says("the spool's disk fails")
	s := p.status()
	if !strings.Contains(s.Forward.SpoolError, "no space left") || s.Forward.Memory == 0 || !strings.Contains(s.trouble(), "no space left") {
		t.Errorf("%+v", *s.Forward)
	}
	metrics, err := exec.Command("curl", "-s", "http://"+listen+"/metrics").Output()
	if err != nil {
		t.Error(err)
	}
	for _, line := range []string{"weir_spool_disk_up 0", "weir_clickhouse_up 0", "weir_lost_records_total{reason=\"full\"} 0"} {
		if !strings.Contains(string(metrics), "\n"+line+"\n") {
			t.Errorf("metrics lack %s", line)
		}
	}
	send(t, senders[0], 1000)
	sent += 1000
	until(t, "it goes on capturing", func() bool { return p.status().of("c0").Packets >= uint64(sent) })
	f.outage(false)
	until(t, "all is there", func() bool { return rows(t, o, "c0") >= uint64(sent) })
	if err := os.RemoveAll(dir); err != nil { // somebody cleans up
		t.Fatal(err)
	}
	send(t, senders[0], 1000)
	sent += 1000
	until(t, "that, too", func() bool { return rows(t, o, "c0") >= uint64(sent) })
	until(t, "it is said that the folder cannot be made", func() bool { return strings.Contains(p.status().Forward.SpoolError, "permission denied") })
	owner, err := os.Stat(fmt.Sprintf("/proc/%d", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, int(owner.Sys().(*syscall.Stat_t).Uid), -1); err != nil {
		t.Fatal(err)
	}
	until(t, "the disk is well again", func() bool { s := p.status(); return s.trouble() == "" })
	p.stop()
	if n := rows(t, o, "c0"); n != uint64(sent) {
		t.Errorf("%d packets of %d", n, sent)
	}
}

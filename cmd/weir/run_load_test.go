package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"weir/capture/capturetest"
)

// flowPacket returns a packet of a flow of that number.
func flowPacket(number uint32) []byte {
	p := capturetest.UDP(60, 0)
	binary.BigEndian.PutUint32(p[26:], 10<<24|number>>12)    // source address
	binary.BigEndian.PutUint16(p[34:], uint16(number&0xfff)) // source port
	return p
}

// flood sends a packet of each of the flows, as fast as it goes.
func flood(t *testing.T, s *capturetest.Sender, from, to uint32) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := s.Send(flowPacket(i)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRunManyFlows sends a million flows into one interface, a packet each, without a
// pause, while intervals end every second; and again into a table of 1,000 flows under a
// memory limit of 64 MiB. Every packet is metered or dropped by the kernel, and those
// that lost their detail are counted as such.
func TestRunManyFlows(t *testing.T) {
	const number = 1 << 20
	for _, c := range []struct {
		name  string
		max   int
		limit string
	}{{"a million flows", 4 << 20, ""}, {"a full table", 1000, "64MiB"}} {
		t.Run(c.name, func(t *testing.T) {
			capturetest.Namespace(t)
			senders, _ := cables(t, 1)
			if c.limit != "" {
				t.Setenv("GOMEMLIMIT", c.limit)
			}
			p := startAgent(t, "--output", "none", "--interface", "c0", "--interval", "1s", "--max-flows", strconv.Itoa(c.max), "--buffer", "32MiB")
			p.captures("c0")
			// An interval of its own for the first packets, so that all others are counted
			// across the ends of intervals.
			flood(t, senders[0], 0, number)
			var seen statusReply
			until(t, "all packets are metered", func() bool {
				seen = p.status()
				i := seen.of("c0")
				return i.Octets >= (number-i.Drops)*46
			})
			i := seen.of("c0")
			if c.max < number && i.Overflow == 0 || c.max > number && i.Overflow != 0 {
				t.Errorf("%d packets lost their detail", i.Overflow)
			}
			if seen.Rotation == 0 {
				t.Error("nobody tells how long a rotation takes")
			}
			s := p.stop()
			if s.packets+s.drops != number {
				t.Fatalf("%+v, sent %d", s, number)
			}
			t.Logf("%+v; longest rotation %v", s, time.Duration(seen.Rotation*1e9))
		})
	}
}

// footprint is what a process takes.
type footprint struct{ rss, threads, files int }

func (p *process) footprint() (f footprint) {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		n, _ := strconv.Atoi(strings.Fields(value + " 0")[0]) // of others
		switch name {
		case "RssAnon":
			f.rss = n << 10
		case "Threads":
			f.threads = n
		}
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	f.files = len(files)
	return f
}

// TestRunSoak is a day in half a minute: flows that change with every interval,
// interfaces that come and go, somebody who looks. What the agent takes at the end is
// what it took after the first third.
func TestRunSoak(t *testing.T) {
	capturetest.Namespace(t)
	senders, _ := cables(t, 1)
	p := startAgent(t, "--output", "none", "--interface", "/^c/", "--interval", "1s", "--idle-timeout", "3s", "--active-timeout", "10s", "--max-flows", "65536")
	p.captures("c0")
	seconds := 30
	if testing.Short() {
		seconds = 12
	}
	next := uint32(0)
	sent := uint64(0)
	day := func(seconds int) footprint {
		for range seconds {
			begin := time.Now()
			for range 20 {
				flood(t, senders[0], next, next+500)
				next += 500
				sent += 500
				time.Sleep(5 * time.Millisecond) // net.core.netdev_max_backlog is 1000
			}
			a, _ := capturetest.Cable(t, "s1", "c1")
			s := capturetest.NewSender(t, a)
			until(t, "c1 is captured on", func() bool { s := p.status(); i := s.of("c1"); return i.Name != "" && i.Error == "" })
			flood(t, s, 0, 100)
			sent += 100
			until(t, "c1 has its packets", func() bool { return p.status().of("c1").Packets == 100 })
			capturetest.IP(t, "link del s1")
			exec.Command("curl", "-s", "-o", os.DevNull, "--max-time", "0.2", "--unix-socket", p.socket, "http://weir/top").Run()
			time.Sleep(time.Until(begin.Add(time.Second)))
		}
		return p.footprint()
	}
	before := day(seconds / 3)
	after := day(seconds - seconds/3)
	if after.rss > before.rss+before.rss/4+(8<<20) || after.files > before.files+2 || after.threads > before.threads+4 {
		t.Errorf("after a third %+v, at the end %+v", before, after)
	}
	if s := p.stop(); s.packets+s.drops != sent {
		t.Errorf("%+v, sent %d", s, sent)
	}
	t.Logf("after a third %+v, at the end %+v", before, after)
}

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"weir/capture/afring"
	"weir/capture/link"
	"weir/capture/socket"
	"weir/exporter/table"
	"weir/privileges"
)

func (c *check) interfaces(permitted bool) {
	l := c.live
	links, err := link.All()
	if err != nil {
		c.add(stateError, "interfaces", "let weir open sockets of AF_NETLINK: see seccomp or RestrictAddressFamilies", "%v", err)
		return
	}
	picked := l.selection.Pick(links)
	try := c.memory(picked) && permitted
	come := "or let it come: weir run waits for it"
	if !l.hotplug {
		come = "for weir run would not wait for it: interfaces.hotplug is false"
	}
	for _, p := range l.selection.Include {
		advice := "correct interfaces.include (--interface; weir interfaces lists all), " + come
		fitting, err := link.Selector{Include: []string{p}}.Select(links)
		if err != nil {
			c.add(stateWarning, "interfaces.include", advice, "%v", err)
		} else if len(fitting) == 0 {
			c.add(stateWarning, "interfaces.include", advice, "no interface fits %s now", p)
		}
	}
	for _, i := range links {
		what := "interface " + i.Name
		if slices.ContainsFunc(picked, func(p link.Link) bool { return p.Index == i.Index }) {
			c.captured(what, i, picked, try)
			continue
		}
		why, wanted := l.leftOut(i, picked)
		if wanted {
			_, command, _ := strings.Cut(why, "; ") // which has the name as a shell needs it
			c.add(stateWarning, what, "set it up: "+command, "left out as long as it is down, though interfaces.include picks it")
		} else {
			c.ok(what, "left out: %s", why)
		}
	}
	if len(picked) == 0 {
		c.add(stateError, "interfaces", "set one up (ip link set NAME up), or correct interfaces.include and interfaces.exclude", "nothing would be captured on")
	}
}

// leftOut says why the interface is not picked, and whether it would be if it were up.
func (l *liveConfig) leftOut(i link.Link, picked []link.Link) (why string, wanted bool) {
	fits := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool {
			fitting, err := link.Selector{Include: []string{p}}.Select([]link.Link{i})
			return err == nil && len(fitting) > 0
		})
	}
	include := l.selection.Include
	switch err := i.Capturable(); {
	case fits(l.selection.Exclude):
		return "interfaces.exclude says so", false
	case len(include) > 0 && !fits(include):
		return "interfaces.include does not pick it", false
	case err != nil:
		return err.Error(), len(include) > 0 && errors.Is(err, link.ErrDown)
	case i.Hardware == unix.ARPHRD_LOOPBACK:
		return "loopback, unless interfaces.include picks it", false
	}
	return passes(i, picked) + ", which is captured on", false
}

// passes names the interface among picked that the packets of i pass, too, "" if none.
func passes(i link.Link, picked []link.Link) string {
	for _, p := range picked {
		switch {
		case i.IsVLAN && i.Parent == p.Index:
			return fmt.Sprintf("VLAN %d of %s", i.VLAN, p.Name)
		case i.Master == p.Index:
			return "member of " + p.Name
		}
	}
	return ""
}

// captured looks at an interface that is picked. If try is set it opens a ring there.
func (c *check) captured(what string, i link.Link, picked []link.Link, try bool) {
	how := c.live.ringOf(i)
	text := fmt.Sprintf("%d of %s", how.Rings, how.Buffer)
	if how.Promiscuous {
		text += ", promiscuous"
	}
	if how.Timestamps == "hardware" {
		text += ", stamped by the hardware"
		if err := stampsAll(i.Name); err != nil {
			c.add(stateError, what, "set capture.timestamps to software, or timestamps for this interface in interfaces.special", "hardware timestamps: %v", err)
			return
		}
	}
	if parent := passes(i, picked); parent != "" {
		c.add(stateWarning, what, "name one of them in interfaces.exclude", "%s, which is captured on, too: packets are counted twice", parent)
	}
	if !try {
		c.ok(what, "would be captured on, rings: %s; not tried", text)
		return
	}
	r, err := how.afring()
	if err == nil {
		// Without what would change the interface for everybody.
		r.Promiscuous, r.Timestamps = false, socket.TimestampsSoftware
		var ring *afring.Ring
		if ring, err = afring.Open(i, r); err == nil {
			err = ring.Close()
		}
	}
	switch {
	case err == nil:
		c.ok(what, "can be captured on, rings: %s", text)
	case errors.Is(err, fs.ErrPermission):
		c.add(stateError, what, "run it in the host's user namespace; or "+privileges.Advice([]string{"CAP_NET_RAW"}, executable()), "%v", err)
	case errors.Is(err, unix.ENOMEM):
		c.add(stateError, what, "lower capture.buffer (--buffer) or capture.rings", "%v", err)
	default:
		c.add(stateError, what, "if it cannot be mended, name it in interfaces.exclude", "%v", err)
	}
}

// stampsAll returns nil if the interface's hardware can stamp all that it receives.
func stampsAll(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	info, err := unix.IoctlGetEthtoolTsInfo(fd, name)
	if err != nil {
		return os.NewSyscallError("ioctl ETHTOOL_GET_TS_INFO", err)
	}
	if info.So_timestamping&unix.SOF_TIMESTAMPING_RX_HARDWARE == 0 || info.Rx_filters&(1<<unix.HWTSTAMP_FILTER_ALL) == 0 {
		return errors.New("the driver cannot stamp all packets")
	}
	return nil
}

// flowSize is what a flow takes in a table, in octets: config.example.yaml has the same.
const flowSize = 200

// memory reports whether there is enough of it for the rings. Theirs is the kernel's and
// counts against no cgroup (alloc_pg_vec in net/packet/af_packet.c); a table is the
// program's, and reaches its size only under a flood.
func (c *check) memory(picked []link.Link) bool {
	const what = "memory"
	rings, tables := uint64(0), uint64(0)
	for _, i := range picked {
		r := c.live.ringOf(i)
		buffer, err := parseSize(r.Buffer)
		if err != nil {
			return false // live has said so
		}
		rings += buffer * uint64(r.Rings)
		tables += uint64(c.live.maxFlows) * flowSize * uint64(r.Rings)
	}
	available, limit := availableMemory(), cgroupMemory()
	switch most := min(available, limit); {
	case rings > available:
		c.add(stateError, what, "lower capture.buffer (--buffer) or capture.rings, or capture on fewer interfaces", "the rings take %s, available are %s", limitText(rings), limitText(available))
		return false
	case rings > addressSpace():
		c.add(stateError, what, "lower capture.buffer (--buffer), or raise the limit: ulimit -v unlimited", "the rings take %s, RLIMIT_AS allows %s", limitText(rings), limitText(addressSpace()))
		return false
	case rings > available/2:
		c.add(stateWarning, what, "lower capture.buffer (--buffer) or capture.rings", "the rings take %s of the %s that are available", limitText(rings), limitText(available))
	case uint64(c.live.maxFlows)*flowSize > most:
		c.add(stateWarning, what, "lower flows.max (--max-flows), or give it more memory", "a full table of %d flows takes %s, there are %s",
			c.live.maxFlows, limitText(uint64(c.live.maxFlows)*flowSize), limitText(most))
	}
	c.ok(what, "rings take %s; tables up to %s if each has %d flows (flows.max); there are %s, limit of the cgroup %s",
		limitText(rings), limitText(tables), c.live.maxFlows, limitText(available), limitText(limit))
	return true
}

// limitText shows a limit; the largest number stands for none.
func limitText(n uint64) string {
	if n == math.MaxUint64 {
		return "none"
	}
	return string(table.AppendBytes(nil, n))
}

// availableMemory is what the kernel would give without swapping, the largest number if
// it does not say.
func availableMemory() uint64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return math.MaxUint64
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kib uint64
		if n, _ := fmt.Sscanf(lines.Text(), "MemAvailable: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return math.MaxUint64
}

// cgroupMemory is the least limit of the cgroups that this process is in, of version 2 or
// 1 (cgroups(7)), the largest number if there is none.
func cgroupMemory() uint64 {
	least := uint64(math.MaxUint64)
	text, _ := os.ReadFile("/proc/self/cgroup") // none, no limit
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		root, file := "/sys/fs/cgroup", "memory.max"
		if slices.Contains(strings.Split(parts[1], ","), "memory") {
			root, file = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
		} else if parts[1] != "" {
			continue
		}
		for dir := filepath.Clean(parts[2]); ; dir = filepath.Dir(dir) {
			if text, err := os.ReadFile(filepath.Join(root, dir, file)); err == nil {
				if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil && n < 1<<62 { // or "max"
					least = min(least, n)
				}
			}
			if dir == "/" || dir == "." {
				break
			}
		}
	}
	return least
}

func addressSpace() uint64 {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_AS, &r); err != nil {
		return math.MaxUint64
	}
	return r.Cur // RLIM_INFINITY is the largest number
}

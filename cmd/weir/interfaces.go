package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"weir/capture/link"
	"weir/exporter"
	"weir/exporter/table"
)

func newInterfacesCommand() *cobra.Command {
	var s link.Selector
	var output string
	cmd := &cobra.Command{
		Use:   "interfaces",
		Short: "List the network interfaces, whether they can be captured, and why not",
		Long: `Interfaces lists the network interfaces as a table, as JSON (one object a line) or as
CSV. It needs no rights; standard error says if capturing needs more than there are.

A PATTERN is a name, a regular expression between two slashes, or "all" for the
interfaces that are up. Without --select it lists all, up or not.

The kernel takes the link-layer header off where drivers do not agree on whether
there is one. Flows are the same; a recording holds packets without it.`,
		Example: `  weir interfaces
  weir interfaces --select '/^eth/' --select lo
  weir interfaces --exclude '/^veth/'
  weir interfaces --output json | jq -r 'select(.capture != "no").name'
  ip netns exec blue weir interfaces     those of another namespace`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch output {
			case "table", "json", "csv":
			default:
				return usage("--output: %q is not one of table, json, csv", output)
			}
			if err := s.Validate(); err != nil {
				return usage("%w", err)
			}
			links, err := link.All()
			if err != nil {
				return err
			}
			q := query{output: output, out: cmd.OutOrStdout(), screen: table.ScreenOf(os.Stdout)}
			if !term.IsTerminal(int(os.Stdout.Fd())) {
				q.screen.Width = math.MaxInt // reasons are not cut where there is room
			}
			if err := listInterfaces(&q, links, s); err != nil {
				return err
			}
			sayRights(cmd.ErrOrStderr())
			return nil
		},
	}
	fs := cmd.Flags()
	fs.StringArrayVarP(&s.Include, "select", "i", nil, "only what this `PATTERN` fits; may be repeated")
	fs.StringArrayVarP(&s.Exclude, "exclude", "x", nil, "not what this `PATTERN` fits; may be repeated")
	fs.StringVarP(&output, "output", "o", "table", "table, json (one object a line) or csv")
	names := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		links, _ := link.All() // no list, no help
		var names []string
		for _, l := range links {
			names = append(names, exporter.Escape(l.Name, false))
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	for flag, complete := range map[string]cobra.CompletionFunc{
		"select": names, "exclude": names,
		"output": cobra.FixedCompletions([]string{"table", "json", "csv"}, cobra.ShellCompDirectiveNoFileComp),
	} {
		if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
			panic(err) // the flag is not there: a mistake above
		}
	}
	return cmd
}

var interfaceColumns = []answerColumn{
	{name: "name", title: "name", shown: true},
	{name: "index", title: "index", shown: true},
	{name: "type", title: "type", shown: true},
	{name: "hardware"},
	{name: "kind", title: "kind", shown: true},
	{name: "state", title: "state", shown: true},
	{name: "mtu", title: "mtu", shown: true},
	{name: "addresses", title: "addresses", shown: true},
	{name: "parent", title: "vlan", shown: true},
	{name: "vlan"},
	{name: "master"},
	{name: "capture", title: "capture", shown: true},
	{name: "reason"},
}

// listInterfaces writes those of links that s picks.
func listInterfaces(q *query, links []link.Link, s link.Selector) error {
	names := map[int]string{}
	for _, l := range links {
		names[l.Index] = l.Name
	}
	if len(s.Include) == 0 {
		s.Include = []string{"//"} // fits every name
	}
	picked, err := s.Select(links)
	if err != nil {
		return err
	}
	var rows [][]cell
	for _, l := range picked {
		rows = append(rows, interfaceRows(&l, names, q.output == "table")...)
	}
	return q.write(interfaceColumns, rows)
}

// interfaceRows returns the cells of an interface. In a table each address has a line.
func interfaceRows(l *link.Link, names map[int]string, lines bool) [][]cell {
	same := func(s string) cell { return cell{s, s} }
	number := func(n int) cell { return cell{uint64(n), strconv.Itoa(n)} }
	var addresses []string
	for _, p := range l.Addresses {
		addresses = append(addresses, p.String())
	}
	all := same(strings.Join(addresses, " "))
	if len(addresses) > 0 {
		all.shown = addresses[0]
	}
	vlan := cell{names[l.Parent], ""}
	if l.IsVLAN {
		vlan.shown = strings.TrimSpace(names[l.Parent] + " vlan " + strconv.Itoa(int(l.VLAN)))
	}
	capture, reason := captureCell(l)
	rows := [][]cell{{
		same(l.Name), number(l.Index), same(typeOf(l)), number(int(l.Hardware)), same(l.Kind), same(stateOf(l)),
		number(l.MTU), all, vlan, number(int(l.VLAN)), same(names[l.Master]), capture, {raw: reason},
	}}
	for i := 1; lines && i < len(addresses); i++ {
		row := make([]cell, len(interfaceColumns))
		for j, c := range interfaceColumns {
			row[j].shown = ""
			if c.name == "addresses" {
				row[j].shown = addresses[i]
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// typeOf returns how the packets begin, and where that is not known, what the kernel
// calls the interface's type.
func typeOf(l *link.Link) string {
	t, cooked, err := l.LinkType()
	name := t.String()
	if cooked || err != nil {
		name = l.HardwareName()
	}
	name, _, _ = strings.Cut(name, " ") // the number has a column of its own
	return name
}

func stateOf(l *link.Link) string {
	switch {
	case !l.Up:
		return "down"
	case !l.Running:
		return "up, no carrier"
	}
	return "up"
}

// captureCell returns whether packets can be captured: yes, cooked or no in JSON and
// CSV, with the reason apart.
func captureCell(l *link.Link) (c cell, reason string) {
	if err := l.Capturable(); err != nil {
		return cell{"no", "no: " + err.Error()}, err.Error()
	}
	if _, cooked, _ := l.LinkType(); cooked {
		return cell{"cooked", "yes, headers taken off by the kernel"}, ""
	}
	return cell{"yes", "yes"}, ""
}

// sayRights says if this process may not capture, and what to do.
func sayRights(w io.Writer) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil || mayCapture(string(status)) {
		return // without /proc a capture will tell
	}
	program, err := os.Executable()
	if err != nil {
		program = os.Args[0]
	}
	fmt.Fprintf(w, "weir: capturing needs CAP_NET_RAW, which this process lacks: run it as root, or once\n  sudo setcap cap_net_raw+ep %s\n",
		shellQuoted(program))
}

// mayCapture reports whether a process with this /proc/PID/status (proc_pid_status(5))
// has CAP_NET_RAW.
func mayCapture(status string) bool {
	for line := range strings.Lines(status) {
		if mask, ok := strings.CutPrefix(line, "CapEff:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return err == nil && n&(1<<unix.CAP_NET_RAW) != 0
		}
	}
	return false
}

// shellQuoted returns a path as a shell and a terminal can take it.
func shellQuoted(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+", r)
	}
	if strings.IndexFunc(path, func(r rune) bool { return !plain(r) }) < 0 {
		return path
	}
	return "'" + strings.ReplaceAll(exporter.Escape(path, true), "'", `'\''`) + "'"
}

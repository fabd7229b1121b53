package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"weir/capture/link"
	"weir/exporter/table"
	"weir/privileges"
)

func newInterfacesCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "interfaces [PATTERN...]",
		Short: "List what can be captured, and why not",
		Long: `Lists the network interfaces, and whether their packets can be captured. A PATTERN is a
name, a regular expression between slashes, or "all" for those that are up; without one all are listed.`,
		Example: `  weir interfaces
  weir interfaces '/^(eth|en)/'
  weir interfaces --output json`,
		RunE: func(cmd *cobra.Command, patterns []string) error {
			s := link.Selector{Include: patterns}
			if err := s.Validate(); err != nil {
				return usage("%v", err)
			}
			if output != "table" && output != "json" && output != "csv" {
				return usage("--output: %q is none of table, json, csv", output)
			}
			links, err := link.All()
			if err != nil {
				return err
			}
			all := links
			if len(patterns) > 0 {
				if links, err = s.Select(all); err != nil {
					return err
				}
			}
			q := query{output: output, out: cmd.OutOrStdout(), screen: table.ScreenOf(os.Stdout)}
			if !term.IsTerminal(int(os.Stdout.Fd())) {
				q.screen.Width = math.MaxInt // reasons are not cut where there is room
			}
			if err := q.write(interfaceColumns, interfaceRows(links, all, output == "table")); err != nil {
				return err
			}
			return sayIfNotPermitted(os.Stderr)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, json (one object a line) or csv")
	return cmd
}

var interfaceColumns = []answerColumn{
	{name: "name", title: "name", kind: table.Text, shown: true},
	{name: "index", title: "index", kind: table.Text, shown: true},
	{name: "type", title: "type", kind: table.Text, shown: true},
	{name: "kind", title: "kind", kind: table.Text, shown: true},
	{name: "state", title: "state", kind: table.Text, shown: true},
	{name: "mtu", title: "mtu", kind: table.Text, shown: true},
	{name: "part_of", title: "part of", kind: table.Text, shown: true},
	{name: "addresses", title: "addresses", kind: table.Text, shown: true},
	{name: "capture", title: "capture", kind: table.Text, shown: true},
}

// interfaceRows describes links; all are those that they may refer to. With lines, each
// address after the first has a line of its own: all of them in one would leave no room
// for the reason.
func interfaceRows(links, all []link.Link, lines bool) [][]cell {
	text := func(s string) cell { return cell{s, s} }
	number := func(n int) cell { return cell{uint64(n), strconv.Itoa(n)} }
	var rows [][]cell
	for i := range links {
		l := &links[i]
		var addresses []string
		for _, a := range l.Addresses {
			addresses = append(addresses, a.String())
		}
		first, rest := strings.Join(addresses, " "), []string(nil)
		if lines && len(addresses) > 0 {
			first, rest = addresses[0], addresses[1:]
		}
		rows = append(rows, []cell{
			text(l.Name), number(l.Index), text(typeOf(l)), text(l.Kind), text(state(l)), number(l.MTU),
			text(partOf(l, all)), text(first), text(capturable(l)),
		})
		for _, a := range rest {
			no := text("")
			rows = append(rows, []cell{no, no, no, no, no, no, no, text(a), no})
		}
	}
	return rows
}

// typeOf returns how the interface's packets begin, and where that is not known, what
// the kernel calls its type; both without the number.
func typeOf(l *link.Link) string {
	t, cooked, err := l.LinkType()
	name := t.String()
	if cooked || err != nil {
		name = l.HardwareName()
	}
	name, _, _ = strings.Cut(name, " ")
	return name
}

func state(l *link.Link) string {
	switch {
	case !l.Up:
		return "down"
	case !l.Running:
		return "up, no carrier"
	}
	return "up"
}

// partOf says what the interface's packets also pass: capturing on both would count
// them twice.
func partOf(l *link.Link, all []link.Link) string {
	name := func(index int) string {
		for _, other := range all {
			if other.Index == index {
				return other.Name
			}
		}
		return "interface " + strconv.Itoa(index)
	}
	switch {
	case l.IsVLAN && l.Parent == 0:
		return fmt.Sprintf("vlan %d of another namespace", l.VLAN)
	case l.IsVLAN:
		return fmt.Sprintf("%s vlan %d", name(l.Parent), l.VLAN)
	case l.Master != 0:
		return name(l.Master)
	}
	return ""
}

func capturable(l *link.Link) string {
	if err := l.Capturable(); err != nil {
		return "no: " + err.Error()
	}
	if _, cooked, _ := l.LinkType(); cooked {
		return "yes, headers taken off by the kernel"
	}
	return "yes"
}

// sayIfNotPermitted says what the process lacks to capture.
func sayIfNotPermitted(w io.Writer) error {
	missing := privileges.Missing(privileges.Need{Raw: true})
	if len(missing) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "weir: %v\n", lacking(missing))
	return err
}

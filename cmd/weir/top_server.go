package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"weir/agent"
	"weir/exporter/table"
	"weir/flows"
)

// topReply is one line of what the agent's socket answers to /top, a second's worth.
type topReply struct {
	Time    time.Time `json:"ts"`      // the end of the second
	Seconds float64   `json:"seconds"` // that the counts took to come together
	Rows    []topRow  `json:"rows"`    // in the order that was asked for, the first first
	Others  topCounts `json:"others"`  // of the groups that are not among the rows
	Groups  int       `json:"groups"`  // rows and others
	Total   topCounts `json:"total"`
}

// topRow is one group: the values of the columns it is grouped by, in their order.
type topRow struct {
	Group []string `json:"group"`
	topCounts
}

type topCounts struct {
	Packets uint64 `json:"packets"`
	Octets  uint64 `json:"bytes"`
	Flows   uint64 `json:"flows"` // keys, each direction for itself
}

func (c *topCounts) add(o topCounts) {
	c.Packets += o.Packets
	c.Octets += o.Octets
	c.Flows += o.Flows
}

// topColumn is a column that flows can be grouped by. key appends what tells its
// values apart and puts them in order, text what is shown of one.
type topColumn struct {
	name string
	key  func(dst []byte, iface string, r *flows.Record) []byte
	text func(iface string, r *flows.Record) string
}

func topAddr(of func(*flows.Key) [16]byte) topColumn {
	return topColumn{
		key:  func(dst []byte, _ string, r *flows.Record) []byte { a := of(&r.Key); return append(dst, a[:]...) },
		text: func(_ string, r *flows.Record) string { return netip.AddrFrom16(of(&r.Key)).Unmap().String() },
	}
}

func topNumber(of func(*flows.Key) uint16, text func(*flows.Key) string) topColumn {
	return topColumn{
		key: func(dst []byte, _ string, r *flows.Record) []byte {
			return binary.BigEndian.AppendUint16(dst, of(&r.Key))
		},
		text: func(_ string, r *flows.Record) string { return text(&r.Key) },
	}
}

// topColumns are all columns to group by, in the order in which help names them.
var topColumns = func() []topColumn {
	number := func(of func(*flows.Key) uint16) topColumn {
		return topNumber(of, func(k *flows.Key) string { return strconv.Itoa(int(of(k))) })
	}
	named := func(name string, c topColumn) topColumn { c.name = name; return c }
	return []topColumn{
		named("src_ip", topAddr((*flows.Key).Src16)),
		named("dst_ip", topAddr((*flows.Key).Dst16)),
		named("src_port", number((*flows.Key).SrcPort)),
		named("dst_port", number((*flows.Key).DstPort)),
		named("proto", topNumber(func(k *flows.Key) uint16 { return uint16(k.Proto()) }, func(k *flows.Key) string { return table.Proto(k.Proto()) })),
		named("direction", topNumber(func(k *flows.Key) uint16 { return uint16(k.Direction()) },
			func(k *flows.Key) string {
				return [...]string{"?", "in", "out"}[min(k.Direction(), flows.DirectionOut)]
			})),
		named("vlan", number((*flows.Key).VLAN)),
		{name: "iface",
			key:  func(dst []byte, iface string, _ *flows.Record) []byte { return append(append(dst, iface...), 0) },
			text: func(iface string, _ *flows.Record) string { return iface }},
	}
}()

// topSorts are what rows can be sorted by besides their own values, which are ascending.
var topSorts = []string{"bytes", "packets", "flows"}

// topRequest is what somebody wants to see.
type topRequest struct {
	columns []topColumn
	names   []string
	sort    string
	limit   int
}

const (
	// maxWatchers is how many may look at a time: each costs as much as the traffic has
	// flows.
	maxWatchers = 4

	// readTimeout is how long one may take to read a second.
	readTimeout = 10 * time.Second
)

// maxTopGroups bounds what a second is grouped into: groups of more are in others.
const maxTopGroups = 1 << 17

func parseTopRequest(group, sort string, limit int) (q topRequest, err error) {
	for _, name := range strings.Split(group, ",") {
		i := slices.IndexFunc(topColumns, func(c topColumn) bool { return c.name == name })
		if i < 0 {
			var names []string
			for _, c := range topColumns {
				names = append(names, c.name)
			}
			return q, fmt.Errorf("%q is no column to group by; there are %s", name, strings.Join(names, ", "))
		}
		if slices.Contains(q.names, name) {
			continue
		}
		q.columns = append(q.columns, topColumns[i])
		q.names = append(q.names, name)
	}
	if q.sort = sort; !slices.Contains(topSorts, sort) && !slices.Contains(q.names, sort) {
		return q, fmt.Errorf("%q is no column to sort by; there are %s and those that are grouped by", sort, strings.Join(topSorts, ", "))
	}
	if q.limit = limit; limit < 1 || limit > maxTopGroups {
		return q, fmt.Errorf("%d rows are not within 1 and %d", limit, maxTopGroups)
	}
	return q, nil
}

// topSecond sums up one second. It belongs to one goroutine.
type topSecond struct {
	q      topRequest
	groups map[string]*topGroup
	others topCounts
	lost   int // groups in others
	total  topCounts
	key    []byte
}

type topGroup struct {
	iface string
	first flows.Record
	topCounts
}

func newTopSecond(q topRequest) *topSecond { return &topSecond{q: q, groups: map[string]*topGroup{}} }

func (s *topSecond) add(second agent.Second) {
	second.Table.Each(func(r *flows.Record) {
		c := topCounts{r.Forward.Packets, r.Forward.Octets, 1}
		s.total.add(c)
		s.key = s.key[:0]
		for i := range s.q.columns {
			s.key = s.q.columns[i].key(s.key, second.Interface, r)
		}
		g := s.groups[string(s.key)]
		if g == nil {
			if len(s.groups) >= maxTopGroups {
				s.others.add(c)
				s.lost++
				return
			}
			g = &topGroup{iface: second.Interface, first: *r}
			s.groups[string(s.key)] = g
		}
		g.add(c)
	})
}

// reply makes an answer of the second.
func (s *topSecond) reply(took time.Duration) *topReply {
	r := &topReply{Time: time.Now().UTC(), Seconds: took.Seconds(), Others: s.others, Groups: len(s.groups) + s.lost, Total: s.total, Rows: []topRow{}}
	type keyed struct {
		key string
		*topGroup
	}
	all := make([]keyed, 0, len(s.groups))
	for k, g := range s.groups {
		all = append(all, keyed{k, g})
	}
	column := slices.Index(s.q.names, s.q.sort)
	slices.SortFunc(all, func(a, b keyed) int {
		order := 0
		switch s.q.sort {
		case "bytes":
			order = cmp.Compare(b.Octets, a.Octets)
		case "packets":
			order = cmp.Compare(b.Packets, a.Packets)
		case "flows":
			order = cmp.Compare(b.Flows, a.Flows)
		default:
			c := &s.q.columns[column]
			order = cmp.Compare(string(c.key(nil, a.iface, &a.first)), string(c.key(nil, b.iface, &b.first)))
		}
		return cmp.Or(order, cmp.Compare(b.Octets, a.Octets), cmp.Compare(a.key, b.key))
	})
	for i, g := range all {
		if i >= s.q.limit {
			r.Others.add(g.topCounts)
			continue
		}
		row := topRow{topCounts: g.topCounts}
		for j := range s.q.columns {
			row.Group = append(row.Group, s.q.columns[j].text(g.iface, &g.first))
		}
		r.Rows = append(r.Rows, row)
	}
	return r
}

// top answers with a line a second for as long as somebody listens.
func (ad *admin) top(w http.ResponseWriter, request *http.Request) {
	values := request.URL.Query()
	limit, err := strconv.Atoi(cmp.Or(values.Get("limit"), "50"))
	if err != nil {
		http.Error(w, fmt.Sprintf("limit: %q is not a number", values.Get("limit")), http.StatusBadRequest)
		return
	}
	q, err := parseTopRequest(cmp.Or(values.Get("group"), "src_ip,dst_ip"), cmp.Or(values.Get("sort"), "bytes"), limit)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if ad.watchers.Add(1) > maxWatchers {
		ad.watchers.Add(-1)
		http.Error(w, fmt.Sprintf("%d others look already", maxWatchers), http.StatusServiceUnavailable)
		return
	}
	defer ad.watchers.Add(-1)
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := http.NewResponseController(w)
	_ = out.Flush() // so that who asks knows that he was understood
	ctx, stop := context.WithCancel(request.Context())
	var looking sync.WaitGroup
	defer looking.Wait()
	defer stop()
	// The seconds are put in order here and not where the agent's tables are: what takes
	// long holds up him who asked alone.
	type second struct {
		*topSecond
		took time.Duration
	}
	seconds := make(chan second, 1)
	current := newTopSecond(q)
	looking.Go(func() {
		ad.agent.Look(ctx, func(s agent.Second) { current.add(s) }, func(took time.Duration) {
			select {
			case seconds <- second{current, took}:
			default: // he is slow, and misses a second
			}
			current = newTopSecond(q)
		})
	})
	lines := json.NewEncoder(w)
	for {
		select {
		case s := <-seconds:
			_ = out.SetWriteDeadline(time.Now().Add(readTimeout)) // all servers of net/http can
			if lines.Encode(s.reply(s.took)) != nil || out.Flush() != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

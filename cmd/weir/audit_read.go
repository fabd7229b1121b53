package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"weir/exporter"
	"weir/exporter/clickhouse"
)

// Bounds of what a server may answer.
const (
	maxAuditRows    = 50_000_000
	maxAuditHosts   = 100_000
	maxAuditMissing = 100_000
)

// auditRow is a row of ledger, or what flows holds of an interface and interval.
type auditRow struct {
	host, iface string
	at          int64 // start of the interval, seconds since the epoch
	ledger      bool
	// Of ledger:
	run                            int64 // milliseconds since the epoch, 0 for a replay
	boot                           string
	spool, sequence, batch, length uint64
	records, packets, metered      uint64
	octets, overflow               uint64
	notIP, excluded, errors        uint64
	drops, lost, reason            uint64
	nicPackets, nicDropsIn         uint64
	nicDropsOut                    uint64
	// Of flows:
	rows, rowPackets uint64
}

// filterBy narrows a.filter to the host, and to the interface if that is asked for.
func (a *audit) filterBy(iface bool) (string, map[string]string) {
	filter, parameters := a.filter, a.parameters()
	if a.host != "" {
		filter += " AND host = {host:String}"
		parameters["host"] = a.host
	}
	if iface && a.iface != "" {
		filter += " AND iface = {iface:String}"
		parameters["iface"] = a.iface
	}
	return filter, parameters
}

// rowsAtOnce is about how many rows of the ledger a question is about, unless one host
// has more: the server holds them, some 400 octets each, to sort them.
var rowsAtOnce uint64 = 1_000_000

// readAll calls each for all rows of the ledger and all sums of flows, sorted by host,
// interface, interval and run: what belongs together follows each other, so that
// nothing is held here.
func (a *audit) readAll(ctx context.Context, hosts map[string]hostSpan, each func(*auditRow)) error {
	if a.host != "" {
		return a.readIntervals(ctx, "", "", each)
	}
	from, rows := "", uint64(0)
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		if rows > 0 && rows+hosts[name].rows > rowsAtOnce {
			if err := a.readIntervals(ctx, from, name, each); err != nil {
				return err
			}
			from, rows = name, 0
		}
		rows += hosts[name].rows
	}
	return a.readIntervals(ctx, from, "", each)
}

// readIntervals asks for the hosts from one on to before another, "" for no end: hosts
// that only flows knows are among them. The server sums flows up, since that leaves as
// many rows as the ledger has; the ledger itself is one row for each interface and
// flush.
func (a *audit) readIntervals(ctx context.Context, fromHost, toHost string, each func(*auditRow)) error {
	filter, parameters := a.filterBy(true)
	if fromHost != "" {
		filter += " AND host >= {from_host:String}"
		parameters["from_host"] = fromHost
	}
	if toHost != "" {
		filter += " AND host < {to_host:String}"
		parameters["to_host"] = toHost
	}
	// The names differ from those of columns, which --host and --interface are compared with.
	sql := fmt.Sprintf(`SELECT * FROM (
SELECT toString(host) AS h, toString(iface) AS i, toInt64(toUnixTimestamp(ts)) AS t, toUInt8(1) AS l, toUnixTimestamp64Milli(run) AS r, toString(boot_id) AS b,
 spool AS s, sequence AS q, batch AS k, interval_ms AS ms, records AS c0, packets AS c1, metered AS c2, octets AS c3, overflow AS c4,
 toUInt64(arraySum(mapValues(not_ip)) - not_ip['excluded']) AS c5, not_ip['excluded'] AS c6, arraySum(mapValues(decode_errors)) AS c7, drops AS c8,
 lost AS c9, toUInt64(toInt8(lost_reason)) AS c10, nic_packets_in + nic_packets_out AS c11, nic_drops_in AS c12, nic_drops_out AS c13,
 toUInt64(0) AS f0, toUInt64(0) AS f1
FROM %[1]s WHERE %[3]s
UNION ALL
SELECT toString(host), toString(iface), toInt64(toUnixTimestamp(ts)), toUInt8(0), toInt64(-1), '',
 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, count(), sum(packets) + sum(reverse_packets)
FROM %[2]s WHERE %[3]s GROUP BY host, iface, ts
) ORDER BY h, i, t, r, s, q, k, ms, c0, c1, c2, c3`, a.reader.LedgerTable(), a.reader.Table(), filter)
	var r auditRow
	var ledger uint8
	places := []any{&r.host, &r.iface, &r.at, &ledger, &r.run, &r.boot, &r.spool, &r.sequence, &r.batch, &r.length, &r.records, &r.packets, &r.metered,
		&r.octets, &r.overflow, &r.notIP, &r.excluded, &r.errors, &r.drops, &r.lost, &r.reason, &r.nicPackets, &r.nicDropsIn, &r.nicDropsOut, &r.rows, &r.rowPackets}
	return a.reader.Query(ctx, sql, parameters, maxAuditRows, func(rows clickhouse.Rows) error {
		if err := rows.Scan(places...); err != nil {
			return err
		}
		r.ledger = ledger != 0
		each(&r)
		return nil
	}, nil)
}

// hostSpan is what the ledger has of a host in the range, whatever the interface.
type hostSpan struct {
	end    int64 // milliseconds since the epoch: of its last interval
	length int64 // of that, milliseconds
	live   bool  // an agent ran there, rather than a replay
	rows   uint64
}

// readHosts returns all hosts that are in the ledger, whichever is asked for: who asks
// for one that is not there learns which there are.
func (a *audit) readHosts(ctx context.Context) (map[string]hostSpan, error) {
	sql := "SELECT toString(host) AS h, max(toInt64(toUnixTimestamp(ts)) * 1000 + toInt64(interval_ms)), " +
		"toInt64(argMax(interval_ms, ts)), max(toUnixTimestamp64Milli(run)) > 0, count() FROM " + a.reader.LedgerTable() + " WHERE " + a.filter + " GROUP BY h"
	hosts := map[string]hostSpan{}
	err := a.reader.Query(ctx, sql, a.parameters(), maxAuditHosts, func(r clickhouse.Rows) error {
		var name string
		var h hostSpan
		var live uint8
		if err := r.Scan(&name, &h.end, &h.length, &live, &h.rows); err != nil {
			return err
		}
		h.live = live != 0
		hosts[name] = h
		return nil
	}, nil)
	return hosts, err
}

// hostNames names some hosts.
func hostNames(hosts map[string]hostSpan, ascii bool) string {
	const most = 10
	var names []string
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		if len(names) == most {
			names = append(names, "...")
			break
		}
		names = append(names, exporter.Escape(name, ascii))
	}
	return strings.Join(names, ", ")
}

// missingFlushes are numbers that no row of the ledger has, with others before and after.
type missingFlushes struct {
	first, last uint64
	from, to    int64 // start of the intervals before and after, seconds since the epoch
}

// aroundRange is how far beyond the range the numbers of flushes are looked for: where a
// clock was set, those that follow each other are of intervals that do not.
const aroundRange = time.Hour

// readMissing returns the numbers of flushes that are missing, by host. All interfaces
// take part, whichever is asked for: each flush has a row of at least one of them.
func (a *audit) readMissing(ctx context.Context) (map[string][]missingFlushes, error) {
	filter, parameters := a.filterBy(false)
	wide := timeSpan{clampTime(a.span.from.Add(-aroundRange)), clampTime(a.span.to.Add(aroundRange))}
	q := query{span: wide}
	maps.Copy(parameters, q.parameters())
	sql := fmt.Sprintf(`SELECT h, q, next, t, next_t FROM (
SELECT h, q, t, leadInFrame(q) OVER w AS next, leadInFrame(t) OVER w AS next_t FROM (
SELECT toString(host) AS h, spool AS s, sequence AS q, toInt64(toUnixTimestamp(min(ts))) AS t FROM %s WHERE %s AND spool != 0 GROUP BY h, s, q)
WINDOW w AS (PARTITION BY h, s ORDER BY q ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING))
WHERE next > q + 1 ORDER BY h, t, q`, a.reader.LedgerTable(), filter)
	missing := map[string][]missingFlushes{}
	err := a.reader.Query(ctx, sql, parameters, maxAuditMissing, func(r clickhouse.Rows) error {
		var host string
		var m missingFlushes
		if err := r.Scan(&host, &m.first, &m.last, &m.from, &m.to); err != nil {
			return err
		}
		m.first++
		m.last--
		if m.from > m.to { // a clock was set back in between
			m.from, m.to = m.to, m.from
		}
		if m.to >= a.span.from.Unix() && m.from <= a.span.to.Unix() {
			missing[host] = append(missing[host], m)
		}
		return nil
	}, nil)
	return missing, err
}

// findKept finds out from when on flows has all that it ever had. Rows age out by the
// table's TTL, or somebody drops the partitions of whole days; the ledger is kept.
func (a *audit) findKept(ctx context.Context) error {
	ttl, err := a.reader.Kept(ctx)
	if err != nil {
		return err
	}
	if ttl > 0 {
		a.kept = a.now.Add(-ttl).UnixMilli()
	}
	var n uint64
	var oldest time.Time
	err = a.reader.Query(ctx, "SELECT count(), min(ts) FROM "+a.reader.Table(), nil, 1, func(r clickhouse.Rows) error { return r.Scan(&n, &oldest) }, nil)
	if err == nil && n > 0 {
		a.kept = max(a.kept, oldest.Truncate(24*time.Hour).UnixMilli())
	}
	return err
}

package clickhouse

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"weir/exporter/clickhouse/local/localtest"
	"weir/flows"
)

func TestMain(m *testing.M) { localtest.Main(m) }

// options returns options for a database of the test's own, which does not exist yet.
func options(t testing.TB) Options {
	t.Helper()
	s := localtest.Start(t)
	o := Options{Addr: []string{s.Addr}, User: s.User, Password: s.Password, Timeout: 30 * time.Second,
		Database: "t_" + strings.NewReplacer("/", "_", "#", "_").Replace(t.Name())}
	t.Cleanup(func() {
		admin := dial(t, o)
		admin.run(t, "DROP DATABASE IF EXISTS "+quote(o.Database)+" SYNC")
		if err := admin.close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

// applied returns options for a database of the test's own, with all tables.
func applied(t testing.TB) Options {
	t.Helper()
	o := options(t)
	if err := Apply(context.Background(), o, SchemaOptions{}); err != nil {
		t.Fatal(err)
	}
	return o
}

type admin struct{ *server }

func dial(t testing.TB, o Options) admin {
	t.Helper()
	s, err := connect(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return admin{s}
}

func (a admin) run(t testing.TB, sql string) {
	t.Helper()
	if err := a.exec(context.Background(), sql, "", sql); err != nil {
		t.Fatal(err)
	}
}

// one returns the only value of a query, as text.
func (a admin) one(t testing.TB, expr, from string) string {
	t.Helper()
	ctx, cancel := a.deadline(context.Background())
	defer cancel()
	var s string
	if err := a.conn.QueryRow(ctx, fmt.Sprintf("SELECT toString(%s) FROM %s", expr, from)).Scan(&s); err != nil {
		t.Fatalf("%s from %s: %v", expr, from, err)
	}
	return s
}

var day = time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)

// records makes n records of the interval that begins at start, the same for the same seed.
func records(n int, start time.Time, seed uint64) []flows.Record {
	r := rand.New(rand.NewPCG(seed, 1))
	out := make([]flows.Record, n)
	for i := range out {
		first := start.UnixNano() + r.Int64N(10e9)
		client := netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(4)), byte(r.IntN(256))})
		server := netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(16))})
		out[i] = flows.Record{
			Key:       flows.NewKey(client, server, uint16(32768+r.IntN(28000)), 443, 0, 6, flows.DirectionIn),
			Forward:   flows.Counters{Packets: 1 + r.Uint64N(20), Octets: 40 + r.Uint64N(20000), TCPFlags: 0x1b},
			Reverse:   flows.Counters{Packets: 1 + r.Uint64N(20), Octets: 40 + r.Uint64N(90000), TCPFlags: 0x1b},
			First:     first,
			Last:      first + r.Int64N(5e9),
			Start:     first,
			Initiator: flows.InitiatorSYN,
			EndReason: flows.EndEnd,
		}
	}
	return out
}

func batchOf(start time.Time, rs []flows.Record) *flows.Batch {
	return &flows.Batch{Host: "h1", Interface: "eth0", Start: start.UnixNano(), End: start.Add(10 * time.Second).UnixNano(), Records: rs}
}

func newSink(t testing.TB, o Options, so SinkOptions) *Sink {
	t.Helper()
	s, err := NewSink(context.Background(), o, so)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func send(t testing.TB, o Options, so SinkOptions, batches ...*flows.Batch) {
	t.Helper()
	s := newSink(t, o, so)
	for _, b := range batches {
		if err := s.Write(context.Background(), b); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

package clickhouse

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"weir/exporter/clickhouse/local"
	"weir/exporter/clickhouse/local/localtest"
)

// ownServer is a server of a test's own.
type ownServer struct{ *localtest.Own }

// as returns options to speak to the server as one of its users.
func (s *ownServer) as(user, password, database string) Options {
	return Options{Addr: []string{s.Addr}, User: user, Password: password, Database: database, Timeout: 30 * time.Second}
}

func (s *ownServer) admin(database string) Options { return s.as(s.User, s.Password, database) }

// newMortal returns a running server of the test's own, with all tables.
func newMortal(t *testing.T, o local.Options) *ownServer {
	t.Helper()
	m := &ownServer{localtest.NewOwn(t, o)}
	m.Start(t)
	if err := Apply(t.Context(), m.client(), SchemaOptions{}); err != nil {
		t.Fatal(err)
	}
	return m
}

func (s *ownServer) client() Options { return s.admin("d") }

// count checks how many records there are, in the roll-up too.
func (s *ownServer) count(t *testing.T, want string) {
	t.Helper()
	a := dial(t, s.client())
	defer a.close()
	for table, expr := range map[string]string{"flows": "count()", "flows_1m": "sum(records)"} {
		if got := a.one(t, expr, a.table(table)); got != want {
			t.Errorf("%s has %s, want %s", table, got, want)
		}
	}
}

func write(t *testing.T, ctx context.Context, s *Sink, i int) {
	t.Helper()
	start := day.Add(time.Duration(i) * 10 * time.Second)
	if err := s.Write(ctx, batchOf(start, records(10_000, start, uint64(i)))); err != nil {
		t.Fatal(err)
	}
}

// A server that goes away between inserts and comes back: the sink says so once
// each, though two inserts wait for it.
func TestServerRestarts(t *testing.T) {
	m := newMortal(t, local.Options{})
	reports := make(chan error, 100)
	sink := newSink(t, m.client(), SinkOptions{MaxRows: 10_000, Report: func(err error) { reports <- err }})
	write(t, t.Context(), sink, 0)
	if err := sink.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.Stop(t)
	write(t, t.Context(), sink, 1)
	write(t, t.Context(), sink, 2)
	first := <-reports
	var e *Error
	if !errors.As(first, &e) || e.Table == "" || !strings.Contains(first.Error(), "; trying again for 5m0s, until ") {
		t.Errorf("reported at first: %v", first)
	}
	m.Start(t)
	if err := <-reports; err != nil {
		t.Errorf("reported at the end: %v", err)
	}
	if err := sink.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(reports)
	for err := range reports {
		t.Errorf("reported besides: %v", err)
	}
	m.count(t, "30000")
}

// A server that is stopped while inserts are under way, which it answers in many
// ways, loses none and counts none twice.
func TestServerStopsAmidInserts(t *testing.T) {
	m := newMortal(t, local.Options{})
	down := false // as reported, which is never twice at a time
	sink := newSink(t, m.client(), SinkOptions{MaxRows: 10_000, Report: func(err error) {
		if down == (err != nil) {
			t.Errorf("reported %v after the like", err)
		}
		down = err != nil
	}})
	begun, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < 12 && err == nil; i++ {
			start := day.Add(time.Duration(i) * 10 * time.Second)
			err = sink.Write(t.Context(), batchOf(start, records(10_000, start, uint64(i))))
			if i == 4 {
				close(begun)
			}
		}
		ended <- errors.Join(err, sink.Close(t.Context()))
	}()
	<-begun
	m.Stop(t)
	m.Start(t)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if down {
		t.Error("the end of the outage was not reported")
	}
	m.count(t, "120000")
}

func TestInterruptedOutageSaysWhy(t *testing.T) {
	m := newMortal(t, local.Options{})
	reports := make(chan error, 100)
	sink := newSink(t, m.client(), SinkOptions{MaxRows: 10_000, Report: func(err error) { reports <- err }})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	write(t, ctx, sink, 0)
	if err := sink.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	m.Stop(t)
	write(t, ctx, sink, 1)
	<-reports
	cancel()
	err := sink.Close(ctx)
	var e *Error
	if !errors.Is(err, context.Canceled) || !errors.As(err, &e) || e.Table != "d.flows" || e.Message == "interrupted" ||
		!strings.Contains(err.Error(), e.Message) || !strings.HasSuffix(err.Error(), "; the server has acknowledged 10000 records") {
		t.Errorf("%v", err)
	}
	if len(reports) > 0 {
		t.Errorf("reported besides: %v", <-reports)
	}
}

func TestPatienceEndsWithTheCause(t *testing.T) {
	m := newMortal(t, local.Options{})
	sink := newSink(t, m.client(), SinkOptions{Patience: time.Second})
	m.Stop(t)
	write(t, t.Context(), sink, 0)
	err := sink.Close(t.Context())
	if !errors.Is(err, syscall.ECONNREFUSED) || !strings.HasPrefix(err.Error(), "gave up after 1s: ") {
		t.Errorf("%v", err)
	}
}

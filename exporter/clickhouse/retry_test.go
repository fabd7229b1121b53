package clickhouse

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// breaker passes connections on to a server, and cuts some of them: after so many
// octets from the client, or at the first octets of the server after that.
type breaker struct {
	net.Listener
	to       string
	cuts     atomic.Int32 // connections still to be cut
	after    int64        // octets from the client
	lostAck  bool         // all from the client goes through, the answer to it does not
	accepted atomic.Int32
	octets   atomic.Int64 // from all clients
}

func newBreaker(t *testing.T, to string) *breaker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &breaker{Listener: l, to: to}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.accepted.Add(1)
			go b.pass(c)
		}
	}()
	t.Cleanup(func() { l.Close() })
	return b
}

func (b *breaker) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", b.to)
	if err != nil {
		return
	}
	defer server.Close()
	var sent atomic.Int64
	go func() {
		defer client.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err != nil {
				return
			}
			if b.lostAck && sent.Load() > b.after && b.cuts.Add(-1) >= 0 {
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		b.octets.Add(int64(n))
		if total := sent.Add(int64(n)); !b.lostAck && total > b.after && b.cuts.Add(-1) >= 0 {
			return
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

func TestBrokenConnectionsCountOnce(t *testing.T) {
	for _, lostAck := range []bool{false, true} {
		o := applied(t)
		b := newBreaker(t, o.Addr[0])
		b.lostAck, b.after = lostAck, 100_000
		through := o
		through.Addr = []string{b.Addr().String()}
		sink := newSink(t, through, SinkOptions{MaxRows: 20_000})
		b.cuts.Store(3)
		for i := range 4 {
			start := day.Add(time.Duration(i) * 10 * time.Second)
			if err := sink.Write(t.Context(), batchOf(start, records(20_000, start, uint64(i)))); err != nil {
				t.Fatal(err)
			}
		}
		if err := sink.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if b.cuts.Load() > 0 {
			t.Errorf("lost acknowledgement %v: %d cuts were not made", lostAck, b.cuts.Load())
		}
		a := dial(t, o)
		for table, expr := range map[string]string{"flows": "count()", "flows_1m": "sum(records)"} {
			if got := a.one(t, expr, a.table(table)); got != "80000" {
				t.Errorf("lost acknowledgement %v: %s has %s, want 80000", lostAck, table, got)
			}
		}
		a.run(t, "DROP DATABASE "+quote(o.Database)+" SYNC")
		a.close()
	}
}

// Inserts that succeed leave their connection to the next one.
func TestConnectionsAreKept(t *testing.T) {
	o := applied(t)
	b := newBreaker(t, o.Addr[0])
	b.after = 1 << 62
	o.Addr = []string{b.Addr().String()}
	sink := newSink(t, o, SinkOptions{Report: func(err error) { t.Error(err) }})
	for i := range 100 {
		start := day.Add(time.Duration(i) * 10 * time.Second)
		if err := errors.Join(sink.Write(t.Context(), batchOf(start, records(1, start, 1))), sink.Flush(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	if err := sink.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := b.accepted.Load(); n > inFlight {
		t.Errorf("%d connections", n)
	}
}

func TestPatienceEnds(t *testing.T) {
	o := applied(t)
	b := newBreaker(t, o.Addr[0])
	b.after = 100_000
	o.Addr = []string{b.Addr().String()}
	sink := newSink(t, o, SinkOptions{Patience: time.Second})
	b.cuts.Store(1 << 30)
	if err := sink.Write(t.Context(), batchOf(day, records(20_000, day, 1))); err != nil {
		t.Fatal(err)
	}
	err := sink.Close(t.Context())
	var e *Error
	if !errors.As(err, &e) || e.Table == "" {
		t.Errorf("%v", err)
	}
	if n := b.accepted.Load(); n < 3 || n > 20 {
		t.Errorf("%d connections", n)
	}
}

// A server that stops reading in the midst of an insert does not hold the sink
// longer than its timeout, nor beyond the end of the context of Close.
func TestStalledServer(t *testing.T) {
	o := applied(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	to := o.Addr[0]
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			go func() { io.Copy(client, server); client.Close() }()
			go func() {
				defer server.Close()
				io.Copy(server, io.LimitReader(client, 100_000))
				<-ended // and never reads again
			}()
		}
	}()
	o.Addr = []string{l.Addr().String()}
	sink := newSink(t, o, SinkOptions{})
	if err := sink.Write(t.Context(), batchOf(day, records(200_000, day, 1))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := sink.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer in time") {
		t.Errorf("nothing was stored: %v", err)
	}
}

package clickhouse

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"weir/exporter/clickhouse/local"
	"weir/exporter/spool"
)

// tried returns the addresses in the order of their turns.
func tried(r *replicas) (addrs []string) {
	for _, p := range r.order() {
		addrs = append(addrs, p.addr)
	}
	return addrs
}

func TestOrderOfReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplicas(&server{Options: Options{Addr: []string{"a", "b", "c"}}})
		expect := func(when string, want ...string) {
			t.Helper()
			if got := tried(r); !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", when, got, want)
			}
		}
		fail := func(i int) error { return r.settle(t.Context(), r.all[i], io.ErrUnexpectedEOF) }
		expect("at first", "a", "b", "c")
		err := fail(0)
		if !r.elsewhere(err) {
			t.Error("b could not take what a has failed to")
		}
		expect("a rests", "b", "c", "a")
		time.Sleep(time.Second)
		fail(1)
		expect("a and b rest", "c", "a", "b")
		time.Sleep(time.Second)
		if err = fail(2); r.elsewhere(err) {
			t.Error("all rest")
		}
		expect("all rest", "a", "b", "c")
		time.Sleep(time.Second)
		fail(0)
		expect("a has failed again", "b", "c", "a")
		time.Sleep(firstRest)
		expect("all have rested", "a", "b", "c")

		// One that fails at each turn gets fewer of them.
		turns := 0
		for end := time.Now().Add(time.Hour); time.Now().Before(end); time.Sleep(time.Second) {
			if tried(r)[0] == "a" {
				fail(0)
				turns++
			}
		}
		if least, most := int(time.Hour/maxRest), int(2*time.Hour/maxRest)+5; turns < least || turns > most {
			t.Errorf("%d turns in an hour, want %d to %d", turns, least, most)
		}
		time.Sleep(maxRest)
		if err := r.settle(t.Context(), r.all[0], nil); err != nil {
			t.Error(err)
		}
		fail(0)
		time.Sleep(firstRest)
		expect("it had been well, then rested", "a", "b", "c")

		// What is not the replica's fault.
		refused := &clickhouse.Exception{Code: 469}
		interrupted, cancel := context.WithCancel(t.Context())
		cancel()
		r.settle(interrupted, r.all[0], net.ErrClosed)
		if err := r.settle(t.Context(), r.all[0], refused); r.elsewhere(err) {
			t.Error("what is refused for its content is tried elsewhere")
		}
		expect("refused and interrupted", "a", "b", "c")
	})
}

// pair is a sink of two servers.
type pair struct {
	first, second *ownServer
	sink          *Sink
	reports       chan error
}

func newPair(t *testing.T, o Options) *pair {
	t.Helper()
	p := &pair{first: newMortal(t, local.Options{}), second: newMortal(t, local.Options{}), reports: make(chan error, 100)}
	// Replicas have the same users.
	p.second.Stop(t)
	if err := os.WriteFile(filepath.Join(p.second.DataDir, local.PasswordFile), []byte(p.first.Password), 0o600); err != nil {
		t.Fatal(err)
	}
	p.second.Start(t)
	o.Addr, o.User, o.Password, o.Database = []string{p.first.Addr, p.second.Addr}, p.first.User, p.first.Password, "d"
	p.sink = newSink(t, o, SinkOptions{MaxRows: 10_000, Report: func(err error) { p.reports <- err }})
	return p
}

func (p *pair) flush(t *testing.T, i int) {
	t.Helper()
	write(t, t.Context(), p.sink, i)
	if err := p.sink.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// failedOver checks that the first server, and it alone, was reported.
func (p *pair) failedOver(t *testing.T, want string) {
	t.Helper()
	var e *Error
	if err := <-p.reports; !errors.As(err, &e) || e.Server != p.first.Addr || !strings.Contains(err.Error(), want) {
		t.Errorf("reported at first: %v", err)
	}
	if err := <-p.reports; err != nil {
		t.Errorf("reported at the end: %v", err)
	}
}

// rest lets the rest of all replicas end.
func (p *pair) rest() {
	p.sink.conn.mu.Lock()
	defer p.sink.conn.mu.Unlock()
	for _, r := range p.sink.conn.all {
		r.rests = time.Time{}
	}
}

func (p *pair) close(t *testing.T) {
	t.Helper()
	if err := p.sink.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(p.sink.conns); n > 0 {
		t.Errorf("%d connections are open", n)
	}
	close(p.reports)
	for err := range p.reports {
		t.Errorf("reported besides: %v", err)
	}
}

// The first server is gone and comes back.
func TestFailoverFromServerThatIsDown(t *testing.T) {
	p := newPair(t, Options{})
	p.flush(t, 0)
	p.first.Kill(t)
	p.flush(t, 1)
	p.flush(t, 2) // without a look at the first
	p.failedOver(t, "")
	p.first.Start(t)
	p.rest()
	p.flush(t, 3)
	p.close(t)
	p.first.count(t, "20000")
	p.second.count(t, "20000")
}

// The first server is killed amid the inserts: none is lost, though nobody knows
// whether the first had stored those under way.
func TestFailoverFromServerThatIsKilled(t *testing.T) {
	p := newPair(t, Options{})
	p.flush(t, 0)
	write(t, t.Context(), p.sink, 1)
	p.first.Kill(t)
	for i := 2; i < 6; i++ {
		write(t, t.Context(), p.sink, i)
	}
	if err := p.sink.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.first.Start(t)
	a, b := dial(t, p.first.client()), dial(t, p.second.client())
	defer a.close()
	defer b.close()
	one, two := a.one(t, "count()", a.table(flowsTable)), b.one(t, "count()", b.table(flowsTable))
	if !(one == "10000" && two == "50000" || one == "20000" && (two == "40000" || two == "50000")) {
		t.Errorf("%s and %s rows of 60000", one, two)
	}
}

// The first server is there, and answers every insert with an error that may end.
func TestFailoverFromServerThatRefuses(t *testing.T) {
	p := newPair(t, Options{})
	a := dial(t, p.first.client())
	defer a.close()
	p.flush(t, 0)
	a.run(t, "SYSTEM STOP MERGES "+a.table(flowsTable))
	a.run(t, "ALTER TABLE "+a.table(flowsTable)+" MODIFY SETTING parts_to_delay_insert = 1, parts_to_throw_insert = 1")
	p.flush(t, 1)
	p.failedOver(t, "code 252")
	// What is not retried at one server is tried at the other.
	p.rest()
	a.run(t, "RENAME TABLE "+a.table(flowsTable)+" TO "+a.table("aside"))
	p.flush(t, 2)
	p.failedOver(t, "code 60")
	p.rest()
	a.run(t, "RENAME TABLE "+a.table("aside")+" TO "+a.table(flowsTable))
	a.run(t, "ALTER TABLE "+a.table(flowsTable)+" RESET SETTING parts_to_delay_insert, parts_to_throw_insert")
	p.flush(t, 3)
	p.close(t)
	p.first.count(t, "20000")
	p.second.count(t, "20000")
}

// The first server takes what is sent and says nothing.
func TestFailoverFromServerThatIsSilent(t *testing.T) {
	p := newPair(t, Options{Timeout: 2 * time.Second, DialTimeout: time.Second})
	p.flush(t, 0)
	if err := syscall.Kill(p.first.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.flush(t, 1)
	p.failedOver(t, "no answer in time")
	p.rest()
	p.flush(t, 2) // to be reached at all, this time
	p.failedOver(t, "no answer in time")
	if err := syscall.Kill(p.first.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.rest()
	p.flush(t, 3)
	p.close(t)
	p.second.count(t, "20000")
	a := dial(t, p.first.client())
	defer a.close()
	// It wakes up with the second insert in its socket, and may store it.
	if got := a.one(t, "count()", a.table(flowsTable)); got != "20000" && got != "30000" {
		t.Errorf("%s rows", got)
	}
}

// What the rows hold no server takes: the second is not asked.
func TestNoFailoverForRefusedRows(t *testing.T) {
	p := newPair(t, Options{})
	a := dial(t, p.first.client())
	defer a.close()
	a.run(t, "ALTER TABLE "+a.table(flowsTable)+" ADD CONSTRAINT none CHECK packets = 0")
	write(t, t.Context(), p.sink, 0)
	if err := p.sink.Close(t.Context()); !Refused(err) {
		t.Errorf("%v", err)
	}
	p.first.count(t, "0")
	p.second.count(t, "0")
}

// Whoever only asks goes on to the next address at once, be it that nobody listens at
// the first, or that what listens is no ClickHouse; and no connection is left behind.
func TestReaderFailsOver(t *testing.T) {
	o := applied(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			c.Close()
		}
	}()
	good := o.Addr[0]
	o.Addr = []string{"127.0.0.1:1", l.Addr().String(), good}
	r, err := NewReader(t.Context(), o, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(r.conns); n != 1 {
		t.Errorf("%d connections are open", n)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	// What a server says weighs more than that another does not answer.
	o.Addr, o.Password = []string{"127.0.0.1:1", good, "127.0.0.1:1"}, "wrong-pass"
	var e *Error
	if _, err = NewReader(t.Context(), o, Limits{}); !errors.As(err, &e) || e.Code != codeAuthentication || e.Server != good {
		t.Errorf("%v", err)
	}
}

// What a spool holds goes to the second server while the first has no room for more
// parts, and while it has no tables.
func TestForwarderFailsOver(t *testing.T) {
	p := newPair(t, Options{})
	a := dial(t, p.first.client())
	defer a.close()
	var log logged
	var f *Forwarder
	begin := func() {
		f = newForwarder(t, p.sink.Options, spoolAt(t, spool.Options{Folder: t.TempDir(), BatchAge: time.Millisecond}), ForwarderOptions{Log: log.logger()})
	}
	step := func(i, want int) {
		t.Helper()
		flush(t, f, i, 1000)
		until := time.Now().Add(30 * time.Second)
		for f.Stats().Acknowledged < uint64(want) {
			if time.Now().After(until) {
				t.Fatalf("%+v\n%s", f.Stats(), log.String())
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	begin()
	step(0, 1000)
	a.run(t, "SYSTEM STOP MERGES "+a.table(flowsTable))
	a.run(t, "ALTER TABLE "+a.table(flowsTable)+" MODIFY SETTING parts_to_delay_insert = 1, parts_to_throw_insert = 1")
	step(1, 2000)
	closeForwarder(t, f)
	begin()
	a.run(t, "RENAME TABLE "+a.table(flowsTable)+" TO "+a.table("aside"))
	step(2, 1000)
	closeForwarder(t, f)
	p.close(t)
	if text := log.String(); strings.Count(text, "code 252") != 1 || strings.Count(text, "ClickHouse "+p.first.Addr+": database d is not as") != 1 || strings.Count(text, "ClickHouse takes records") != 2 {
		t.Error(text)
	}
	a.run(t, "RENAME TABLE "+a.table("aside")+" TO "+a.table(flowsTable))
	p.first.count(t, "1000")
	p.second.count(t, "2000")
}

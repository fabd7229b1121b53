package clickhouse

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"weir/exporter/clickhouse/local/localtest"
	"weir/exporter/spool"
	"weir/flows"
)

// until waits for a condition to hold.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// Connections that are cut in the midst of a block, and acknowledgements that are
// swallowed, for the rows and for the ledger: everything is there once.
func TestForwarderBrokenConnections(t *testing.T) {
	for name, set := range map[string]func(*breaker){
		"amid a block":               func(b *breaker) { b.after = 100_000 },
		"at once":                    func(b *breaker) { b.after = 1 },
		"amid the acknowledgement":   func(b *breaker) { b.lostAck, b.after = true, 100_000 },
		"before the acknowledgement": func(b *breaker) { b.lostAck, b.after = true, 300_000 },
	} {
		o := applied(t)
		b := newBreaker(t, o.Addr[0])
		set(b)
		through := o
		through.Addr = []string{b.Addr().String()}
		f := newForwarder(t, through, spoolAt(t, spool.Options{Folder: t.TempDir(), BatchRows: 20_000}), ForwarderOptions{})
		for i := range 6 {
			if i%3 == 0 {
				b.cuts.Store(2)
			}
			flush(t, f, i, 10_000)
			if i%3 == 2 {
				until(t, "all is sent", func() bool { return f.Stats().Spool.Flushes == 0 })
			}
		}
		if n := b.cuts.Load(); n > 0 {
			t.Errorf("%s: %d connections were not cut", name, n)
		}
		closeForwarder(t, f)
		exactly(t, o, 6, 10_000)
		if t.Failed() {
			t.Fatal(name)
		}
		a := dial(t, o)
		a.run(t, "DROP DATABASE "+quote(o.Database)+" SYNC")
		a.close()
	}
}

// A server that takes its time: whoever flushes does not wait for it.
func TestForwarderSlowServer(t *testing.T) {
	o := applied(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	open := make(chan struct{})
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", o.Addr[0])
			if err != nil {
				return
			}
			copyTo := func(to, from net.Conn) {
				defer to.Close()
				buf := make([]byte, 4<<10)
				for total := 0; ; {
					n, err := from.Read(buf)
					if err != nil {
						return
					}
					if total += n; total > 100_000 {
						<-open
					}
					if _, err := to.Write(buf[:n]); err != nil {
						return
					}
				}
			}
			go copyTo(server, client)
			go copyTo(client, server)
		}
	}()
	slow := o
	slow.Addr = []string{l.Addr().String()}
	f := newForwarder(t, slow, spoolAt(t, spool.Options{Folder: t.TempDir()}), ForwarderOptions{})
	for i := range 20 {
		flush(t, f, i, 10_000)
	}
	if s := f.Stats(); s.Spool.Records != 200_000 || s.Acknowledged != 0 {
		t.Errorf("%+v", s)
	}
	close(open)
	closeForwarder(t, f)
	exactly(t, o, 20, 10_000)
}

// A server that answers errors which somebody will mend: nothing is lost, nothing is
// there twice, and nobody waits meanwhile.
func TestForwarderServerErrors(t *testing.T) {
	for _, c := range []struct{ name, fails, mend, says string }{
		{"too many parts", "ALTER TABLE %[1]s.flows MODIFY SETTING parts_to_throw_insert = 1, max_avg_part_size_for_too_many_parts = 1000000000",
			"ALTER TABLE %[1]s.flows MODIFY SETTING parts_to_throw_insert = 3000", "252"},
		{"disk full", "ALTER TABLE %[1]s.flows MODIFY SETTING min_free_disk_bytes_to_perform_insert = 1000000000000000000",
			"ALTER TABLE %[1]s.flows MODIFY SETTING min_free_disk_bytes_to_perform_insert = 0", "free space on the server's disk"},
		{"unknown column", "ALTER TABLE %[1]s.flows RENAME COLUMN tcp_flags TO other", "ALTER TABLE %[1]s.flows RENAME COLUMN other TO tcp_flags", "tcp_flags"},
		{"another type", "ALTER TABLE %[1]s.ledger MODIFY COLUMN drops UInt32", "ALTER TABLE %[1]s.ledger MODIFY COLUMN drops UInt64", "drops"},
		{"table away", "RENAME TABLE %[1]s.flows TO %[1]s.away", "RENAME TABLE %[1]s.away TO %[1]s.flows", "schema --apply"},
		{"ledger away", "RENAME TABLE %[1]s.ledger TO %[1]s.away", "RENAME TABLE %[1]s.away TO %[1]s.ledger", "schema --apply"},
		{"roll-up away", "RENAME TABLE %[1]s.flows_1m TO %[1]s.away", "RENAME TABLE %[1]s.away TO %[1]s.flows_1m", ""},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			o := applied(t)
			a := dial(t, o)
			defer a.close()
			said := &logged{}
			f := newForwarder(t, o, spoolAt(t, spool.Options{Folder: t.TempDir()}), ForwarderOptions{Log: said.logger()})
			flush(t, f, 0, 1000)
			until(t, "the first records are there", func() bool { return f.Stats().Spool.Records == 0 })
			a.run(t, fmt.Sprintf(c.fails, quote(o.Database)))
			for i := range 5 {
				flush(t, f, 1+i, 1000)
			}
			until(t, "the server's error is known", func() bool { return f.Stats().Err != nil })
			if s := f.Stats(); s.Spool.Records == 0 || !strings.Contains(s.Err.Error(), c.says) {
				t.Errorf("%v with %d records that wait", s.Err, s.Spool.Records)
			}
			a.run(t, fmt.Sprintf(c.mend, quote(o.Database)))
			flush(t, f, 6, 1000)
			until(t, "all is sent", func() bool { return f.Stats().Spool.Records == 0 })
			closeForwarder(t, f)
			exactly(t, o, 7, 1000)
			if text := said.String(); !strings.Contains(text, "records wait for ClickHouse") || !strings.Contains(text, "ClickHouse takes records") {
				t.Errorf("said\n%s", text)
			}
			if s := f.Stats(); s.Refused != 0 || s.Spool.Aside != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// A table that somebody has dropped is made anew where that is allowed: what was in it is
// gone, what was sent after is there.
func TestForwarderMakesTables(t *testing.T) {
	o := options(t)
	f := newForwarder(t, o, spoolAt(t, spool.Options{Folder: t.TempDir()}), ForwarderOptions{Schema: &SchemaOptions{}})
	flush(t, f, 0, 1000)
	until(t, "the first records are there", func() bool { return f.Stats().Spool.Records == 0 })
	a := dial(t, o)
	defer a.close()
	a.run(t, "DROP TABLE "+a.table(flowsTable)+" SYNC")
	flush(t, f, 1, 1000)
	until(t, "all is sent", func() bool { return f.Stats().Spool.Flushes == 0 })
	closeForwarder(t, f)
	if got := a.one(t, "count()", a.table(flowsTable)); got != "1000" {
		t.Errorf("%s rows", got)
	}
}

// A wrong password, and a user that may only read, are mended by a new process, which
// finds all there is.
func TestForwarderWrongUser(t *testing.T) {
	server := localtest.Start(t)
	for name, c := range map[string]struct{ user, password, says string }{
		"wrong password": {server.User, "wrong", "check user"},
		"read-only":      {server.Reader, server.ReaderPassword, "GRANT INSERT ON"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			o := applied(t)
			wrong := o
			wrong.User, wrong.Password = c.user, c.password
			dir := t.TempDir()
			f := newForwarder(t, wrong, spoolAt(t, spool.Options{Folder: dir}), ForwarderOptions{})
			for i := range 3 {
				flush(t, f, i, 1000)
			}
			until(t, "the server's error is known", func() bool { return f.Stats().Err != nil })
			if err := f.Stats().Err; !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), c.password) {
				t.Errorf("%v", err)
			}
			closeForwarder(t, f)
			f = newForwarder(t, o, spoolAt(t, spool.Options{Folder: dir}), ForwarderOptions{})
			closeForwarder(t, f)
			exactly(t, o, 3, 1000)
		})
	}
}

// A server that is short of memory for an insert: a user who may take less than one
// needs.
func TestForwarderMemoryLimit(t *testing.T) {
	s := newServers(t, 1, user{name: "tiny", grants: []string{"GRANT INSERT ON d.flows", "GRANT INSERT ON d.ledger"}, memory: 8 << 20})[0]
	s.Start(t)
	if err := Apply(t.Context(), s.client(), SchemaOptions{}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := newForwarder(t, s.as("tiny", "secret", "d"), spoolAt(t, spool.Options{Folder: dir}), ForwarderOptions{})
	for i := range 3 {
		flush(t, f, i, 100_000)
	}
	until(t, "the server's error is known", func() bool { return f.Stats().Err != nil })
	var e *Error
	if st := f.Stats(); !errors.As(st.Err, &e) || e.Code != codeMemory || e.Table != "d.flows" || st.Refused > 0 || st.Spool.Records != 300_000 {
		t.Errorf("%v; %+v", st.Err, st)
	}
	closeForwarder(t, f)
	f = newForwarder(t, s.client(), spoolAt(t, spool.Options{Folder: dir}), ForwarderOptions{})
	closeForwarder(t, f)
	exactly(t, s.client(), 3, 100_000)
}

// Several inserts at a time: all is there once all the same.
func TestForwarderManyInserts(t *testing.T) {
	o := applied(t)
	f := newForwarder(t, o, spoolAt(t, spool.Options{Folder: t.TempDir(), BatchRows: 1000}), ForwarderOptions{Inserts: 4})
	for i := range 40 {
		flush(t, f, i, 1000)
	}
	closeForwarder(t, f)
	exactly(t, o, 40, 1000)
}

// What the server refuses for what it holds is set aside, and not in the way of the rest.
func TestForwarderRefused(t *testing.T) {
	o := applied(t)
	a := dial(t, o)
	defer a.close()
	a.run(t, "ALTER TABLE "+a.table(flowsTable)+" ADD CONSTRAINT c CHECK bytes < 1000000000000")
	said := &logged{}
	f := newForwarder(t, o, spoolAt(t, spool.Options{Folder: t.TempDir()}), ForwarderOptions{Log: said.logger()})
	flush(t, f, 0, 1000)
	until(t, "the first records are there", func() bool { return f.Stats().Spool.Records == 0 })
	start := day.Add(10 * time.Second)
	b := batchOf(start, records(10, start, 1))
	b.Records[3].Forward.Octets = 1 << 50
	b.Ledger = &flows.Ledger{Records: 10}
	flushBatch(t, f, b)
	until(t, "it is set aside", func() bool { return f.Stats().Spool.Records == 0 })
	flush(t, f, 2, 1000)
	closeForwarder(t, f)
	if s := f.Stats(); s.Refused != 1 || s.Spool.Aside != 1 || s.Acknowledged != 2000 {
		t.Errorf("%+v", s)
	}
	if got := a.one(t, "(count(), sum(records), sum(lost), max(sequence), any(lost_reason))", "(SELECT * FROM "+a.table(ledgerTable)+" ORDER BY lost DESC)"); got != "(3,2010,10,3,'refused')" {
		t.Errorf("the ledger has %s", got)
	}
	if got := a.one(t, "count()", a.table(flowsTable)); got != "2000" {
		t.Errorf("%s rows", got)
	}
	if text := said.String(); !strings.Contains(text, "set aside") || !strings.Contains(text, "469") {
		t.Errorf("said\n%s", text)
	}
}

// A batch of which the second insert is refused is taken again, with its first one, whose
// records count once.
func TestForwarderRefusedSecond(t *testing.T) {
	o := applied(t)
	a := dial(t, o)
	defer a.close()
	a.run(t, "ALTER TABLE "+a.table(flowsTable)+" ADD CONSTRAINT c CHECK bytes < 1000000000000")
	f := newForwarder(t, o, spoolAt(t, spool.Options{Folder: t.TempDir(), BatchAge: time.Hour}), ForwarderOptions{})
	flush(t, f, 0, 1000)
	start := day.Add(24 * time.Hour)
	b := batchOf(start, records(10, start, 1))
	b.Records[3].Forward.Octets = 1 << 50
	b.Ledger = &flows.Ledger{Records: 10}
	flushBatch(t, f, b)
	closeForwarder(t, f)
	if s := f.Stats(); s.Refused != 1 || s.Acknowledged != 1000 || s.Spool.GivenUp[spool.Refused] != 10 {
		t.Errorf("%+v", s)
	}
	if got := a.one(t, "count()", a.table(flowsTable)); got != "1000" {
		t.Errorf("%s rows", got)
	}
	if got := a.one(t, "(count(), sum(records), sum(lost))", a.table(ledgerTable)); got != "(2,1010,10)" {
		t.Errorf("the ledger has %s", got)
	}
}

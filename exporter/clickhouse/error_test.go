package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/ClickHouse/clickhouse-go/v2"

	"weir/exporter/clickhouse/local/localtest"
)

func TestErrorsNameServerTableCauseAndRemedy(t *testing.T) {
	s := &server{Options: Options{Addr: []string{"db:9000"}, User: "weir", Password: "hunter2", Database: "net"}}
	for _, c := range []struct {
		err   error
		wants []string
	}{
		{&clickhouse.Exception{Code: codeMemory, Message: "limit exceeded"}, []string{"limit exceeded", "code 241", "max_memory_usage"}},
		{&clickhouse.Exception{Code: codeNoSpace, Message: "Cannot reserve 1.00 MiB, not enough space"}, []string{"not enough space", "free space"}},
		{&clickhouse.Exception{Code: codeCannotWrite, Message: "Cannot write, errno: 28, strerror: No space left on device"}, []string{"free space"}},
		{&clickhouse.Exception{Code: codeReadOnly, Message: "Cannot execute query in readonly mode"}, []string{"\"weir\" may not do this"}},
		{&clickhouse.Exception{Code: codeTooManyParts, Message: "Too many parts"}, []string{"larger batches"}},
		{&clickhouse.Exception{Code: codeNoSuchColumn, Message: "No such column"}, []string{"weir schema --check"}},
		{&clickhouse.Exception{Code: 9999, Message: "line\none \x1b[31mred " + strings.Repeat("x", 10000) + "\xff"}, []string{`line one \x1b[31mred`}},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, []string{"connection refused", "no server listens there"}},
		{&net.DNSError{Name: "nowhere.invalid", Err: "no such host", IsNotFound: true}, []string{"cannot find host nowhere.invalid"}},
		{context.DeadlineExceeded, []string{"no answer in time"}},
		{fmt.Errorf("read: %w", io.EOF), []string{"the server closed the connection"}},
	} {
		got := s.explain("insert into", "flows", c.err).Error()
		for _, want := range append(c.wants, "db:9000", "insert into net.flows") {
			if !strings.Contains(got, want) {
				t.Errorf("%q is not in %q", want, got)
			}
		}
		if strings.ContainsAny(got, "\x1b\n") || !utf8.ValidString(got) || len(got) > 2*maxMessage || strings.Contains(got, "hunter2") {
			t.Errorf("shown as it came: %q", got)
		}
		if again := s.explain("other", "", s.explain("insert into", "flows", c.err)); again.Error() != got {
			t.Errorf("explained twice: %v", again)
		}
	}
	if s.explain("x", "", nil) != nil {
		t.Error("no error became one")
	}
	for _, text := range []string{fmt.Sprint(s.Options), fmt.Sprintf("%+v %#v %v", s.Options, s.Options, &s.Options), s.LogValue().String()} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("the password is in %s", text)
		}
	}
}

func TestOptionsValidate(t *testing.T) {
	for _, o := range []Options{{Addr: []string{"localhost"}}, {Addr: []string{":9000"}}, {Addr: []string{"http://x:8123"}}, {Database: "\x00"}, {Database: "a b"}, {Database: "a`b"}} {
		if err := o.Validate(); err == nil {
			t.Errorf("%v: %v", o, err)
		}
	}
	if err := (Options{Addr: []string{"[::1]:9000"}, Database: "net-1_x"}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestWrongPasswordAndUser(t *testing.T) {
	o := options(t)
	for _, change := range []func(*Options){func(o *Options) { o.Password = "wrong-pass" }, func(o *Options) { o.User = "nobody" }} {
		o := o
		change(&o)
		err := Check(t.Context(), o)
		var e *Error
		if !errors.As(err, &e) || e.Code != codeAuthentication || !strings.Contains(err.Error(), "check user") || strings.Contains(err.Error(), o.Password) {
			t.Errorf("%v", err)
		}
	}
}

// A server that takes connections and says nothing, one that hangs up, and one
// that speaks something else.
func TestNoClickHouseThere(t *testing.T) {
	for name, serve := range map[string]func(net.Conn){
		"silent":   func(c net.Conn) { io.Copy(io.Discard, c) },
		"hangs up": func(c net.Conn) { c.Close() },
		"http":     func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n"); c.Close() },
		"hostile":  func(c net.Conn) { c.Write([]byte{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}); c.Close() },
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go serve(c)
			}
		}()
		o := Options{Addr: []string{l.Addr().String()}, DialTimeout: 300 * time.Millisecond, Timeout: 300 * time.Millisecond}
		err = Check(t.Context(), o)
		l.Close()
		var e *Error
		if !errors.As(err, &e) || e.Op != "connect" || !strings.Contains(err.Error(), o.Addr[0]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSinkWithoutRights(t *testing.T) {
	o := applied(t)
	s := localtest.Start(t)
	o.User, o.Password = s.Reader, s.ReaderPassword
	_, err := NewSink(t.Context(), o, SinkOptions{})
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Hint, "GRANT INSERT ON `"+o.Database+"`.`flows` TO "+s.Reader) {
		t.Errorf("%v", err)
	}
}

func TestTableVanishesUnderTheSink(t *testing.T) {
	o := applied(t)
	sink := newSink(t, o, SinkOptions{})
	a := dial(t, o)
	defer a.close()
	a.run(t, "DROP TABLE "+a.table("flows")+" SYNC")
	if err := sink.Write(t.Context(), batchOf(day, records(1, day, 1))); err != nil {
		t.Fatal(err)
	}
	err := sink.Close(t.Context())
	if err == nil || !strings.Contains(err.Error(), "weir schema --apply") {
		t.Errorf("%v", err)
	}
	if again := sink.Write(t.Context(), batchOf(day, nil)); again == nil {
		t.Error("the sink goes on after an error")
	}
}

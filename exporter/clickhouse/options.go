// Package clickhouse writes records to a ClickHouse server and reads them back.
//
// [Sink] inserts records so that each counts once, however often it is sent;
// [Schema] makes and checks the tables; [Reader] asks, and can do nothing but ask.
// What the server answers is input like any other: it is bounded and escaped
// before anybody sees it. Passwords appear in no error and no text of this package.
package clickhouse

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Options say which server to speak to, and as whom.
type Options struct {
	// Addr lists servers as host:port of the native protocol: replicas of the same
	// tables. The first has the work while it is well; one that fails is left for
	// the next for a while. Empty means 127.0.0.1:9000.
	Addr []string
	// Database holds the tables; empty means "weir".
	Database string
	// User is empty for "default".
	User     string
	Password string
	// TLS returns what a new connection is secured with, such as [Certificates.Config].
	// It may be called by several goroutines at a time. nil means connections in the clear.
	TLS func() *tls.Config
	// Compression of what is sent and received: lz4, zstd or none; empty means lz4.
	Compression string
	// DialTimeout bounds making a connection to one address; 0 means 5 s.
	DialTimeout time.Duration
	// Timeout bounds one statement, an insert of a whole batch included, from
	// the request to the last byte of the answer; 0 means 60 s.
	Timeout time.Duration
}

const (
	defaultAddr        = "127.0.0.1:9000"
	defaultDatabase    = "weir"
	defaultUser        = "default"
	defaultCompression = "lz4"
	defaultDialTimeout = 5 * time.Second
	defaultTimeout     = 60 * time.Second
)

var compressions = map[string]clickhouse.CompressionMethod{
	"lz4": clickhouse.CompressionLZ4, "zstd": clickhouse.CompressionZSTD, "none": clickhouse.CompressionNone,
}

// databaseName is narrower than the server's idea of a name: the driver takes
// INSERT statements apart, and does not understand quotes.
var databaseName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)

// withDefaults returns o with everything said.
func (o Options) withDefaults() Options {
	if len(o.Addr) == 0 {
		o.Addr = []string{defaultAddr}
	}
	if o.Database == "" {
		o.Database = defaultDatabase
	}
	if o.User == "" {
		o.User = defaultUser
	}
	if o.Compression == "" {
		o.Compression = defaultCompression
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = defaultDialTimeout
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	return o
}

// Validate says what is wrong with o, by field.
func (o Options) Validate() error {
	for _, a := range o.Addr {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			return fmt.Errorf("ClickHouse address %q: want host:port, such as %s (the native protocol's port, not HTTP's)", a, defaultAddr)
		}
	}
	if o.Database != "" && !databaseName.MatchString(o.Database) {
		return fmt.Errorf("ClickHouse database %q: want letters, digits, _ and -, at most 100", o.Database)
	}
	if _, ok := compressions[o.Compression]; !ok && o.Compression != "" {
		return fmt.Errorf("ClickHouse compression %q: want lz4, zstd or none", o.Compression)
	}
	return nil
}

// Server returns the addresses as messages name them.
func (o Options) Server() string { return strings.Join(o.withDefaults().Addr, ",") }

// String describes o without the password.
func (o Options) String() string {
	o = o.withDefaults()
	scheme := "clickhouse"
	if o.TLS != nil {
		scheme = "clickhouses"
	}
	return fmt.Sprintf("%s://%s@%s/%s", scheme, o.User, o.Server(), o.Database)
}

// GoString keeps the password out of %#v.
func (o Options) GoString() string { return o.String() }

// LogValue keeps the password out of logs.
func (o Options) LogValue() slog.Value { return slog.StringValue(o.String()) }

// server is what leads to the servers of the options, which are whole.
type server struct {
	Options
	conn *replicas

	mu    sync.Mutex
	conns map[*boundedConn]struct{} // those that are open
}

// connect opens a connection to one of the servers and sees that it works. The database is not chosen
// on the connection but named in each statement, for a database that does not
// exist yet must not keep anybody from creating it.
func connect(ctx context.Context, o Options) (*server, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	s := &server{Options: o, conns: map[*boundedConn]struct{}{}}
	s.conn = newReplicas(s)
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	if err := s.conn.Ping(ctx); err != nil {
		return nil, errors.Join(s.explain("connect", "", err), s.conn.Close())
	}
	return s, nil
}

// dial connects under ctx, as the driver's own dialling does not.
func (s *server) dial(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.DialTimeout)
	defer cancel()
	var d net.Dialer
	plain, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	conn := &boundedConn{plain.(*net.TCPConn), s}
	s.mu.Lock()
	s.conns[conn] = struct{}{}
	s.mu.Unlock()
	if s.TLS == nil {
		return conn, nil
	}
	config := s.TLS().Clone()
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(addr)
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("TLS with %s: %w", addr, err), conn.Close())
	}
	return secure, nil
}

// boundedConn bounds each write, which the driver does not: a server that stops
// reading would hold an insert for ever.
type boundedConn struct {
	*net.TCPConn
	server *server
}

func (c *boundedConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.server.Timeout)); err != nil {
		return 0, err
	}
	return c.TCPConn.Write(p)
}

func (c *boundedConn) Close() error {
	c.server.mu.Lock()
	delete(c.server.conns, c)
	c.server.mu.Unlock()
	return c.TCPConn.Close()
}

// interrupt breaks all connections, which ends what is being written to them.
func (s *server) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.TCPConn.Close() // whoever holds it finds out
	}
}

// deadline bounds one statement.
func (s *server) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	return untold{ctx}, cancel
}

// untold is a context that ends at its deadline but does not tell it. Of a
// deadline that the driver knows it makes a setting for the server, in place of
// the one that is asked for, and also where the user may not set any.
type untold struct{ context.Context }

func (untold) Deadline() (time.Time, bool) { return time.Time{}, false }

// exec runs a statement that returns nothing.
func (s *server) exec(ctx context.Context, op, table, sql string) error {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	if err := s.conn.Exec(ctx, sql); err != nil {
		return s.explain(op, table, err)
	}
	return nil
}

func (s *server) close() error {
	if err := s.conn.Close(); err != nil {
		return s.explain("disconnect", "", err)
	}
	return nil
}

// quote returns an identifier as SQL has it.
func quote(name string) string {
	return "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(name) + "`"
}

// literal returns a string as SQL has it.
func literal(s string) string {
	return "'" + strings.NewReplacer("\\", "\\\\", "'", "\\'").Replace(s) + "'"
}

// table returns the full name of a table in SQL.
func (s *server) table(name string) string { return quote(s.Database) + "." + quote(name) }

package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"weir/exporter"
)

// A replica that failed rests: others are preferred for so long. An outage of hours
// costs one insert that is tried in vain every few minutes.
const (
	firstRest = 30 * time.Second
	maxRest   = 5 * time.Minute
)

// replicas are the servers of the options, which hold the same tables. A statement
// goes to the first that does not rest; if all rest, to the one that failed longest ago.
// So the first address has the work while it is well, and soon after it is well again.
type replicas struct {
	server *server
	mu     sync.Mutex
	all    []*replica // in the order of the options
	closed bool
}

// replica is one address. Its fields but the first are guarded by replicas.mu.
type replica struct {
	addr   string
	conn   driver.Conn // nil if there is none
	failed time.Time   // when it did last
	rests  time.Time   // until when
	pause  exporter.Backoff
}

func newReplicas(s *server) *replicas {
	r := &replicas{server: s}
	for _, a := range s.Addr {
		r.all = append(r.all, &replica{addr: a, pause: exporter.Backoff{First: firstRest, Max: maxRest}})
	}
	return r
}

// replicaError is an error of one of the replicas.
type replicaError struct {
	addr      string
	unreached bool // no statement was sent
	err       error
}

func (e *replicaError) Error() string { return e.err.Error() }
func (e *replicaError) Unwrap() error { return e.err }

// order returns the replicas as they are to be tried.
func (r *replicas) order() []*replica {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	rank := func(p *replica) time.Time {
		if p.rests.After(now) {
			return p.failed
		}
		return time.Time{}
	}
	order := slices.Clone(r.all)
	slices.SortStableFunc(order, func(a, b *replica) int { return rank(a).Compare(rank(b)) })
	return order
}

// elsewhere reports whether another replica may take what one has failed to: it may
// have the tables or the rights that this one lacks.
func (r *replicas) elsewhere(err error) bool {
	if !errors.As(err, new(*replicaError)) || Refused(err) {
		return false
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.all, func(p *replica) bool { return !p.rests.After(now) })
}

// open returns the connections to a replica. The driver makes them when they are used.
func (r *replicas) open(p *replica) (driver.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, clickhouse.ErrConnectionClosed
	}
	if p.conn == nil {
		conn, err := r.server.open(p.addr)
		if err != nil {
			return nil, err
		}
		p.conn = conn
	}
	return p.conn, nil
}

// settle takes how a statement at a replica ended, and says of an error whose it is.
// After one that is neither of the rows nor of whoever has ended ctx the replica rests,
// and connections to it are closed, those in use by others when these are done.
func (r *replicas) settle(ctx context.Context, p *replica, err error) error {
	if err == nil {
		r.mu.Lock()
		p.rests = time.Time{}
		p.pause.Reset()
		r.mu.Unlock()
		return nil
	}
	if of := new(*replicaError); !errors.As(err, of) {
		err = &replicaError{addr: p.addr, err: err}
	}
	if Refused(err) || errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	now := time.Now()
	r.mu.Lock()
	p.failed = now
	if !p.rests.After(now) {
		p.rests = now.Add(p.pause.Next())
	}
	conn := p.conn
	p.conn = nil
	r.mu.Unlock()
	if conn != nil {
		conn.Close() // its error is nothing beside err
	}
	return err
}

// leave has the replica whose turn it is rest, for it has no tables such as they should be.
func (r *replicas) leave(ctx context.Context, err error) error {
	return r.settle(ctx, r.order()[0], err)
}

// reach calls do with connections to one replica after the other until one is reached.
func (r *replicas) reach(ctx context.Context, do func(driver.Conn) error) (err error) {
	for _, p := range r.order() {
		conn, oerr := r.open(p)
		if oerr != nil {
			return oerr
		}
		rerr := do(conn)
		unreached := new(*replicaError)
		if !errors.As(rerr, unreached) {
			if rerr != nil {
				return &replicaError{addr: p.addr, err: rerr}
			}
			return nil
		}
		rerr = r.settle(ctx, p, rerr)
		// What a server says is worth more than that another does not answer.
		if err == nil || !errors.As(err, new(*clickhouse.Exception)) {
			err = rerr
		}
		if ctx.Err() != nil {
			break
		}
	}
	return err
}

// Ping connects to a replica.
func (r *replicas) Ping(ctx context.Context) error {
	return r.reach(ctx, func(c driver.Conn) error { return c.Ping(ctx) })
}

// Exec runs a statement at the first replica that can be reached.
func (r *replicas) Exec(ctx context.Context, sql string) error {
	return r.reach(ctx, func(c driver.Conn) error { return c.Exec(ctx, sql) })
}

// Query asks the first replica that can be reached.
func (r *replicas) Query(ctx context.Context, sql string) (rows driver.Rows, err error) {
	err = r.reach(ctx, func(c driver.Conn) (err error) {
		rows, err = c.Query(ctx, sql)
		return err
	})
	return rows, err
}

// QueryRow asks the first replica that can be reached.
func (r *replicas) QueryRow(ctx context.Context, sql string) driver.Row {
	var row driver.Row
	err := r.reach(ctx, func(c driver.Conn) error {
		row = c.QueryRow(ctx, sql)
		return row.Err()
	})
	if err != nil {
		return noRow{err}
	}
	return row
}

// noRow is the answer of nobody.
type noRow struct{ err error }

func (r noRow) Err() error           { return r.err }
func (r noRow) Scan(...any) error    { return r.err }
func (r noRow) ScanStruct(any) error { return r.err }

// PrepareBatch begins an insert at the replica whose turn it is. Whoever inserts tries
// again after an error, at another replica then, and tells of it.
func (r *replicas) PrepareBatch(ctx context.Context, sql string) (driver.Batch, error) {
	p := r.order()[0]
	conn, err := r.open(p)
	if err != nil {
		return nil, err
	}
	b, err := conn.PrepareBatch(ctx, sql)
	if err != nil {
		return nil, r.settle(ctx, p, err)
	}
	return &replicaBatch{Batch: b, ctx: ctx, replicas: r, replica: p}, nil
}

// replicaBatch tells how an insert ends.
type replicaBatch struct {
	driver.Batch
	ctx      context.Context
	replicas *replicas
	replica  *replica
}

// Flush sends rows. That it succeeds says little: the server has not answered yet.
func (b *replicaBatch) Flush() error {
	if err := b.Batch.Flush(); err != nil {
		return b.replicas.settle(b.ctx, b.replica, err)
	}
	return nil
}

func (b *replicaBatch) Send() error { return b.replicas.settle(b.ctx, b.replica, b.Batch.Send()) }

// Close closes all connections.
func (r *replicas) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	var errs []error
	for _, p := range r.all {
		if p.conn != nil {
			errs = append(errs, p.conn.Close())
		}
	}
	return errors.Join(errs...)
}

// open makes the connections to one address, up to one for each insert that is under way.
func (s *server) open(addr string) (driver.Conn, error) {
	return clickhouse.Open(&clickhouse.Options{
		Addr:         []string{addr},
		Auth:         clickhouse.Auth{Username: s.User, Password: s.Password},
		Compression:  &clickhouse.Compression{Method: compressions[s.Compression]},
		DialTimeout:  s.DialTimeout,
		DialStrategy: s.reach,
		ReadTimeout:  s.Timeout,
		MaxOpenConns: inFlight,
		MaxIdleConns: inFlight,
		ClientInfo:   clickhouse.ClientInfo{Products: []struct{ Name, Version string }{{Name: "weir"}}},
	})
}

// reach makes one connection. The driver trusts the lengths in a server's greeting, and
// panics over those of something that is no ClickHouse; and it leaves a connection
// open on which the greeting failed.
func (s *server) reach(ctx context.Context, _ int, o *clickhouse.Options, dial clickhouse.Dial) (result clickhouse.DialResult, err error) {
	addr := o.Addr[0]
	one := *o
	var conn net.Conn
	one.DialContext = func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := s.dial(ctx, addr)
		if err == nil {
			conn = c
		}
		return c, err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("what answers there is no ClickHouse: %v", p)
		}
		if err == nil {
			return
		}
		if conn != nil {
			conn.Close() // its error is nothing beside err
		}
		err = &replicaError{addr: addr, unreached: true, err: err}
	}()
	return dial(ctx, addr, &one)
}

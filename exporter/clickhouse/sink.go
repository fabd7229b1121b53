package clickhouse

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/cespare/xxhash/v2"

	"weir/exporter"
	"weir/flows"
)

// SinkOptions say how a sink inserts.
type SinkOptions struct {
	// Token names this run of batches. The same records in the same order under
	// the same token and MaxRows count once, however often they are sent, as long
	// as the server remembers (see window); empty means a random token, so that
	// everything counts.
	Token string
	// Version of the program, for the ledger.
	Version string
	// MaxRows bounds the rows of an insert; 0 means 262,144.
	MaxRows int
	// Patience bounds the attempts at one insert, all together; 0 means 5 min.
	Patience time.Duration
	// Report, if not nil, is told of outages: once when an insert has failed and
	// will be tried again, with an error that says why and until when, again if the
	// reason changes, and once with nil when an insert has succeeded since. It is called from goroutines of
	// the sink, never by two at a time, and holds inserts up until it returns. Of
	// an outage that outlasts Patience there is no end to tell; the error comes from
	// Write, Flush or Close.
	Report func(error)
}

const (
	defaultMaxRows  = 1 << 18
	defaultPatience = 5 * time.Minute
	// blockRows is how many rows go to the server at a time within an insert. It
	// bounds what the driver copies; the server puts them together again.
	blockRows = 1 << 15
	// maxDays bounds the partitions of an insert; the server refuses more than
	// 100 (max_partitions_per_insert_block).
	maxDays = 50
	// maxLedgers bounds the ledger rows that wait for the next insert.
	maxLedgers = 1 << 14
	secondsDay = 24 * 60 * 60
)

// Sink inserts records into flows and ledgers into ledger. It is an
// [exporter.Sink]. Rows are held back until there are SinkOptions.MaxRows; then
// they are sent while the next ones are gathered, two inserts at a time, for the
// server spends one thread on each.
type Sink struct {
	*server
	options  SinkOptions
	rows     *rows
	days     map[uint32]bool // partitions of rows
	ledgers  []ledgerRow
	base     uint64 // of the ids of this run's inserts
	sequence uint64 // of the next insert
	insert   string
	free     chan *flight
	last     *outcome        // of the newest insert; nil if none was begun
	err      error           // the first failure seen; nothing is sent after it
	life     context.Context // ends all inserts
	stop     context.CancelFunc
	stored   atomic.Uint64 // records of the inserts that the server has acknowledged
	outage   outage
}

// inFlight is how many inserts are under way at a time.
const inFlight = 2

// flight is the memory of one insert: rows, and the ledgers of the intervals that
// end with them. It is lent to one goroutine and comes back by the free list.
type flight struct {
	rows    *rows
	ledgers []ledgerRow
	id      uint64
	token   string
	outcome *outcome
}

// outcome is how an insert and all before it ended.
type outcome struct {
	before *outcome
	done   chan struct{} // closed at the end
	err    error         // valid then
}

// NewSink connects to the server and checks its tables.
func NewSink(ctx context.Context, o Options, so SinkOptions) (*Sink, error) {
	if so.Token == "" {
		so.Token = rand.Text()
	}
	if so.MaxRows <= 0 {
		so.MaxRows = defaultMaxRows
	}
	if so.Patience <= 0 {
		so.Patience = defaultPatience
	}
	srv, err := connect(ctx, o)
	if err != nil {
		return nil, err
	}
	err = srv.mayInsert(ctx)
	if err == nil {
		err = srv.check(ctx)
	}
	if err != nil {
		srv.close()
		return nil, err
	}
	s := &Sink{server: srv, options: so, rows: newRows(), days: map[uint32]bool{}, free: make(chan *flight, inFlight)}
	for range inFlight {
		s.free <- &flight{rows: newRows()}
	}
	s.life, s.stop = context.WithCancel(context.Background())
	// Ids of one run are near each other, which compresses, and those of
	// different runs are far apart.
	s.base = xxhash.Sum64String(so.Token) &^ (1<<24 - 1)
	s.insert = srv.insertStatement(flowsTable, s.rows.names())
	return s, nil
}

// Write takes the batch's records and its ledger, and begins an insert when there
// are enough. It allocates nothing per record but what the driver needs per
// insert. An insert that failed is reported by a later call, by Close at the last.
func (s *Sink) Write(ctx context.Context, b *flows.Batch) error {
	return s.withCount(s.take(ctx, b))
}

func (s *Sink) take(ctx context.Context, b *flows.Batch) error {
	if s.err != nil {
		return s.err
	}
	day := exporter.Seconds(b.Start) / secondsDay
	if len(b.Records) > 0 && (!s.rows.fits() || !s.days[day] && len(s.days) >= maxDays) {
		if err := s.send(ctx); err != nil {
			return err
		}
	}
	for rest := b.Records; len(rest) > 0; {
		n := min(len(rest), s.options.MaxRows-s.rows.n)
		s.days[day] = true
		s.rows.append(b, rest[:n], s.options.MaxRows)
		rest = rest[n:]
		if s.rows.n >= s.options.MaxRows {
			if err := s.send(ctx); err != nil {
				return err
			}
		}
	}
	if b.Ledger != nil {
		s.ledgers = append(s.ledgers, newLedgerRow(b))
		if len(s.ledgers) >= maxLedgers {
			return s.send(ctx)
		}
	}
	return nil
}

// Flush inserts what is held back and returns when the server has it all.
func (s *Sink) Flush(ctx context.Context) error {
	s.send(ctx)
	if s.last != nil {
		select {
		case <-s.last.done:
		case <-ctx.Done():
			s.stop()
			<-s.last.done
		}
		s.fail(s.last.err)
		s.last = nil
	}
	return s.withCount(s.err)
}

// withCount says besides an error what there is all the same.
func (s *Sink) withCount(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w; the server has acknowledged %d records", err, s.stored.Load())
}

func (s *Sink) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// send begins to insert what is held back, once there is room for one more.
func (s *Sink) send(ctx context.Context) error {
	if s.err != nil || s.rows.n == 0 && len(s.ledgers) == 0 {
		return s.err
	}
	f := <-s.free
	if f.outcome != nil && f.outcome.err != nil {
		s.free <- f
		s.fail(f.outcome.err)
		return s.err
	}
	f.rows, s.rows = s.rows, f.rows
	f.ledgers, s.ledgers = s.ledgers, f.ledgers[:0]
	s.rows.reset()
	clear(s.days)
	f.id = s.base + s.sequence
	f.token = fmt.Sprintf("%s/%d", s.options.Token, s.sequence)
	f.outcome = &outcome{before: s.last, done: make(chan struct{})}
	s.last = f.outcome
	s.sequence++
	go s.fly(ctx, f)
	return nil
}

// fly inserts the rows, then the ledgers: these say what rows there are, so they
// wait until all inserts before have ended well. Flush waits for fly.
func (s *Sink) fly(ctx context.Context, f *flight) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	defer context.AfterFunc(ctx, s.interrupt)()
	o := f.outcome
	if f.rows.n > 0 {
		token := fmt.Sprintf("%s/%016x", f.token, f.rows.sum())
		o.err = s.retry(ctx, func(ctx context.Context) error { return s.sendRows(ctx, f, token) })
		if o.err == nil {
			s.stored.Add(uint64(f.rows.n))
		}
	}
	if o.before != nil {
		<-o.before.done
		if o.before.err != nil {
			o.err = o.before.err
		}
		o.before = nil // or outcomes would form a chain as long as the run
	}
	if o.err == nil && len(f.ledgers) > 0 {
		block := ledgerBlock(f.ledgers, origin{version: s.options.Version})
		token := fmt.Sprintf("%s/ledger/%016x", f.token, sumBlock(block))
		o.err = s.retry(ctx, func(ctx context.Context) error { return s.sendLedgers(ctx, f, block, token) })
	}
	close(o.done)
	s.free <- f
}

// Close inserts what is held back and disconnects.
func (s *Sink) Close(ctx context.Context) error {
	err := s.Flush(ctx)
	s.stop()
	if cerr := s.close(); err == nil {
		err = cerr
	}
	return err
}

// insertContext carries the settings that make an insert count once.
func insertContext(ctx context.Context, token string) context.Context {
	return clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{
		"async_insert":               0,
		"insert_deduplicate":         1,
		"insert_deduplication_token": token,
		"deduplicate_blocks_in_dependent_materialized_views": 1,
		// Of tables spread over a cluster: acknowledged is what the shards have. Other
		// tables know nothing of it.
		"distributed_foreground_insert": 1,
		// The roll-up's view has summed the block already.
		"optimize_on_insert": 0,
		// Merges build the bloom filters; a part that was not merged yet is small
		// enough to be read, and half an octet a row smaller without them.
		"materialize_skip_indexes_on_insert": 0,
	}))
}

func (s *Sink) sendRows(ctx context.Context, f *flight, token string) error {
	batch, err := s.conn.PrepareBatch(insertContext(ctx, token), s.insert)
	if err != nil {
		return s.insertError(ctx, flowsTable, err)
	}
	defer batch.Abort() // does nothing once sent
	for from := 0; from < f.rows.n; from += blockRows {
		if err := f.rows.fill(batch.Columns(), from, min(from+blockRows, f.rows.n), f.id); err != nil {
			return s.insertError(ctx, flowsTable, err)
		}
		if err := batch.Flush(); err != nil {
			return s.insertError(ctx, flowsTable, err)
		}
	}
	return s.insertError(ctx, flowsTable, batch.Send())
}

// insertError explains an error. Once the context has ended, that is the cause,
// whatever broke of it.
func (s *server) insertError(ctx context.Context, table string, err error) error {
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return s.explain("insert into", table, err)
}

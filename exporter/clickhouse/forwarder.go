package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"weir/exporter"
	"weir/exporter/spool"
	"weir/flows"
)

// ForwarderOptions say how a forwarder sends.
type ForwarderOptions struct {
	// Version of the program, Run, which is when the agent began, and BootID, the kernel's
	// name for this boot of the host, are for the ledger.
	Version string
	Run     time.Time
	BootID  string
	// Schema, if not nil, has the tables made so, where the server has not got them.
	Schema *SchemaOptions
	// Inserts is how many inserts are under way at a time; 0 means 1, which keeps the
	// order and is what a server likes best.
	Inserts int
	Log     *slog.Logger // of outages, and of what the server refuses; nil for nobody
}

// Forwarder is the sink of an agent. What it is given at a flush is in its spool when
// Flush returns; other goroutines carry it from there to the server, batch by batch, and
// try until it has been acknowledged. Nobody waits for the server as long as the spool
// has room.
type Forwarder struct {
	server Options
	origin origin
	schema *SchemaOptions
	log    *slog.Logger
	spool  *spool.Spool

	rows    *rows // of one part, at most blockRows
	part    uint32
	block   spool.Block
	ledgers []ledgerRow
	flush   spool.Flush

	life    context.Context // ends all sending
	stop    context.CancelFunc
	senders sync.WaitGroup
	ending  atomic.Bool   // nothing is added any more
	failed  chan struct{} // has a token when a delivery has failed while ending

	acknowledged atomic.Uint64
	refused      atomic.Uint64
	outage       outage
}

// NewForwarder returns a forwarder that sends what is in sp, and what it is given, to the
// server. It begins at once, and does not fail if the server is away.
func NewForwarder(o Options, sp *spool.Spool, fo ForwarderOptions) (*Forwarder, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	f := &Forwarder{server: o, origin: origin{fo.Version, fo.Run, fo.BootID}, schema: fo.Schema, log: fo.Log, spool: sp,
		rows: newRows(), failed: make(chan struct{}, 1)}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	f.life, f.stop = context.WithCancel(context.Background())
	for range max(fo.Inserts, 1) {
		f.senders.Go(func() { f.send() })
	}
	return f, nil
}

// Write takes the batch's records and its ledger. They are held in memory until Flush.
func (f *Forwarder) Write(_ context.Context, b *flows.Batch) error {
	part := exporter.Seconds(b.Start) / secondsDay
	if f.rows.n > 0 && (part != f.part || !f.rows.fits()) {
		if err := f.seal(); err != nil {
			return err
		}
	}
	f.part = part
	for rest := b.Records; len(rest) > 0; {
		n := min(len(rest), blockRows-f.rows.n)
		f.rows.append(b, rest[:n], blockRows)
		rest = rest[n:]
		if f.rows.n == blockRows {
			if err := f.seal(); err != nil {
				return err
			}
		}
	}
	if b.Ledger != nil {
		f.ledgers = append(f.ledgers, newLedgerRow(b))
		if len(f.ledgers) == maxLedgers {
			return f.sealLedgers()
		}
	}
	return nil
}

// seal makes a block of the rows.
func (f *Forwarder) seal() error {
	if f.rows.n == 0 {
		return nil
	}
	f.rows.block(&f.block)
	f.block.Part = f.part
	err := f.flush.Add(&f.block)
	f.rows.reset()
	return err
}

func (f *Forwarder) sealLedgers() error {
	if len(f.ledgers) == 0 {
		return nil
	}
	b := ledgerBlock(f.ledgers, f.origin)
	f.ledgers = f.ledgers[:0]
	return f.flush.Add(b)
}

// Flush puts into the spool what was written since the last one, all of it or nothing. It
// waits only where the spool does.
func (f *Forwarder) Flush(ctx context.Context) error {
	defer f.flush.Reset()
	if err := errors.Join(f.seal(), f.sealLedgers()); err != nil {
		return err
	}
	return f.spool.Put(ctx, &f.flush)
}

// Close flushes, and sends what there is until ctx is done. What is on disk is not waited
// for while the server fails: it is sent by the next process. The error says what is
// lost, because it was in memory alone.
func (f *Forwarder) Close(ctx context.Context) error {
	err := f.Flush(ctx)
	f.spool.Finish()
	f.ending.Store(true)
	sent := make(chan struct{})
	go func() {
		f.senders.Wait()
		close(sent)
	}()
wait:
	for {
		select {
		case <-sent:
			break wait
		case <-f.failed:
			if f.spool.Stats().InMemory == 0 {
				break wait
			}
		case <-ctx.Done():
			break wait
		}
	}
	f.stop()
	<-sent
	if s := f.spool.Stats(); s.Records > 0 && s.Folder != "" {
		f.log.Info("records wait in the spool; they are sent when the agent runs again", "records", s.Records, "spool", s.Folder)
	}
	return errors.Join(err, f.spool.Close())
}

// ForwarderStats is how a forwarder is.
type ForwarderStats struct {
	Acknowledged uint64 // records
	Refused      uint64 // batches that the server would not have for what they hold
	Err          error  // why nothing is sent now; nil if all is well
	Since        time.Time
	Spool        spool.Stats
}

// Stats returns how f is. It may be called from any goroutine.
func (f *Forwarder) Stats() ForwarderStats {
	s := ForwarderStats{Acknowledged: f.acknowledged.Load(), Refused: f.refused.Load(), Spool: f.spool.Stats()}
	s.Since, s.Err = f.outage.state()
	return s
}

// send takes batches and delivers them until the spool is finished and empty, or life ends.
func (f *Forwarder) send() {
	c := &connection{f: f}
	defer c.close()
	for {
		b, err := f.spool.Take(f.life)
		switch {
		case err == io.EOF || f.life.Err() != nil:
			if b != nil {
				f.spool.Return(b)
			}
			return
		case err != nil: // it cannot be read now
			f.log.Error("records wait", "error", err)
			f.pause(exporter.DefaultMaxPause)
		default:
			f.deliver(c, b)
		}
	}
}

// deliver sends the inserts of a batch in order, each until the server has acknowledged
// it, and then removes the batch.
func (f *Forwarder) deliver(c *connection, b *spool.Batch) {
	acknowledged := 0
	for i := range b.Inserts {
		insert := &b.Inserts[i]
		for pauses := new(exporter.Backoff); ; {
			err := c.insert(f.life, insert, b.ID)
			damage := new(blockError)
			switch {
			case err == nil:
				f.outage.end(f.report)
			case f.life.Err() != nil:
				f.spool.Return(b)
				return
			case errors.As(err, &damage):
				f.log.Error("a batch cannot be sent", "error", err)
				if damage.ours {
					f.setAside(b, insert, spool.Corrupt, acknowledged)
				} else {
					f.pause(exporter.DefaultFirstPause)
					f.spool.Return(b) // it is looked at anew when it is taken
				}
				return
			case Refused(err):
				f.refused.Add(1)
				f.log.Error("the server refuses a batch for what it holds; it is set aside", "error", err, "rows", insert.Rows)
				f.setAside(b, insert, spool.Refused, acknowledged)
				return
			default:
				f.outage.begin(f.report, fmt.Errorf("%w; trying again until it succeeds", err))
				if f.ending.Load() {
					select {
					case f.failed <- struct{}{}:
					default:
					}
				}
				f.pause(pauses.Next())
				continue
			}
			break
		}
		if !insert.Kept {
			acknowledged += insert.Rows
		}
	}
	f.acknowledged.Add(uint64(acknowledged))
	f.spool.Done(b)
}

// setAside sets an insert aside. What is left of the batch is sent again, and counts then:
// nothing, if it is the ledger that is set aside.
func (f *Forwarder) setAside(b *spool.Batch, i *spool.Insert, why spool.Reason, acknowledged int) {
	if i.Kept {
		f.acknowledged.Add(uint64(acknowledged))
	}
	f.spool.SetAside(b, i, why)
}

func (f *Forwarder) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-f.life.Done():
	}
}

// report tells of an outage, and of its end.
func (f *Forwarder) report(err error) {
	if err != nil {
		f.log.Error("records wait for ClickHouse", "error", err)
	} else {
		f.log.Info("ClickHouse takes records")
	}
}

// connection is a sender's way to the server, made when it is needed. It outlives
// failures, for it knows which replica had them.
type connection struct {
	f       *Forwarder
	server  *server // nil if there is none
	checked bool    // its tables
	filler  *filler
}

func (c *connection) close() {
	if c.server != nil {
		_ = c.server.close() // what was sent is acknowledged
		c.server = nil
	}
}

// ready connects and looks at the tables.
func (c *connection) ready(ctx context.Context) error {
	if c.server == nil {
		srv, err := connect(ctx, c.f.server)
		if err != nil {
			return err
		}
		c.server = srv
	}
	if c.checked {
		return nil
	}
	if err := c.look(ctx); err != nil {
		return c.server.conn.leave(ctx, err)
	}
	c.checked, c.filler = true, newFiller()
	return nil
}

// look sees whether the tables are as they should be, and may be written to.
func (c *connection) look(ctx context.Context) error {
	if c.f.schema != nil {
		return c.server.apply(ctx, *c.f.schema)
	}
	if err := c.server.check(ctx); err != nil {
		return err
	}
	return c.server.mayInsert(ctx)
}

// blockError is one of the spool, not of the server.
type blockError struct {
	error
	ours bool // the block could be read, but is none that this program makes
}

func (e *blockError) Unwrap() error { return e.error }

// insert sends one insert. After a failure it looks at the tables again, which may be
// those of another replica.
func (c *connection) insert(ctx context.Context, i *spool.Insert, batch uint64) error {
	err := c.ready(ctx)
	if err == nil {
		bounded, cancel := c.server.deadline(ctx)
		defer cancel()
		defer context.AfterFunc(bounded, c.server.interrupt)()
		err = c.send(bounded, i, batch)
	}
	if err != nil && !errors.As(err, new(*blockError)) {
		c.checked = false
	}
	return err
}

// send sends the blocks of an insert, one at a time.
func (c *connection) send(ctx context.Context, i *spool.Insert, id uint64) (err error) {
	// What the driver makes of octets that somebody else may have written is not known.
	defer func() {
		if p := recover(); p != nil {
			c.filler = newFiller() // this one is in the midst of a column
			err = &blockError{fmt.Errorf("a block cannot be sent: %v", p), true}
		}
	}()
	var batch driver.Batch
	defer func() {
		if batch != nil {
			_ = batch.Abort() // does nothing once sent
		}
	}()
	names := ""
	for block, err := range i.Blocks() {
		if err != nil {
			return &blockError{err, errors.Is(err, spool.ErrContent)}
		}
		if err := validate(block); err != nil {
			return &blockError{fmt.Errorf("flush %d, table %s: %w", block.Sequence, exporter.Escape(block.Table, false), err), true}
		}
		all := append(columnNames(block), extras(block.Table)...)
		if batch == nil {
			names = strings.Join(all, ",")
			if batch, err = c.server.conn.PrepareBatch(insertContext(ctx, i.Token), c.server.insertStatement(block.Table, all)); err != nil {
				return c.server.insertError(ctx, block.Table, err)
			}
		} else if names != strings.Join(all, ",") {
			return &blockError{fmt.Errorf("flush %d has other columns than those that go with it", block.Sequence), true}
		}
		if err := c.filler.block(batch.Columns(), block, id); err != nil {
			return c.server.insertError(ctx, block.Table, err)
		}
		if err := batch.Flush(); err != nil {
			return c.server.insertError(ctx, block.Table, err)
		}
	}
	if batch == nil {
		return nil
	}
	return c.server.insertError(ctx, i.Table, batch.Send())
}

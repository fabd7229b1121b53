// Package exporter carries finished records out of the meter.
//
// It says in one place what a record looks like from outside ([Columns]), and
// moves batches from whoever makes them to a [Sink]. The sinks are the packages
// below it: jsonl and table write text, clickhouse writes to a server.
package exporter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"weir/flows"
)

// Sink takes batches. It is not safe for concurrent use.
type Sink interface {
	// Write takes a batch, whose records are borrowed until Write returns. A sink
	// may hold rows back until it has enough of them or is closed. After an error
	// the sink takes no more batches.
	Write(ctx context.Context, b *flows.Batch) error
	// Close writes out what was held back, waits until it is safe, and gives up
	// the sink's resources, also when it returns an error. It is called once.
	Close(ctx context.Context) error
}

// Flusher is a Sink that can write out what it holds back, and wait until it is safe,
// without being closed.
type Flusher interface {
	Flush(ctx context.Context) error
}

// closeTimeout bounds the closing of a sink whose context is already cancelled.
const closeTimeout = 10 * time.Second

// Exporter moves batches from one producer to a sink, and back to the producer
// through a free list, so that a fixed number of batches is all there ever is.
type Exporter struct {
	sink Sink
	free chan *flows.Batch
}

// New returns an exporter to sink with n batches in circulation. With at least
// two, the producer fills one while the sink writes the other.
func New(sink Sink, n int) *Exporter {
	e := &Exporter{sink: sink, free: make(chan *flows.Batch, max(n, 1))}
	for range cap(e.free) {
		e.free <- new(flows.Batch)
	}
	return e
}

// Free returns the free list. A batch received from it is empty, keeps the
// memory of its records, and belongs to the receiver until he sends it to Run.
// Where the list is empty the sink is behind; the producer waits or not, as it
// can afford to.
func (e *Exporter) Free() <-chan *flows.Batch { return e.free }

// Run writes every batch that it receives from in, in order, and closes the sink
// when in is closed or a write fails; it is called once. Cancelling ctx gives up
// what has not been written; to end in good order, close in. The producer must
// not send without watching for the end of Run.
func (e *Exporter) Run(ctx context.Context, in <-chan *flows.Batch) error {
	err := e.write(ctx, in)
	closeCtx := ctx
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		closeCtx, cancel = context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
	}
	// A sink that has failed says so again when it is closed: once is enough.
	if cerr := e.sink.Close(closeCtx); cerr != nil && (err == nil || err == ctx.Err()) {
		err = errors.Join(err, cerr)
	}
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

func (e *Exporter) write(ctx context.Context, in <-chan *flows.Batch) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case b, ok := <-in:
			if !ok {
				return nil
			}
			if err := e.take(ctx, b); err != nil {
				return err
			}
			*b = flows.Batch{Records: b.Records[:0]}
			select {
			case e.free <- b:
			default: // not one of ours: more were sent than taken
			}
		}
	}
}

func (e *Exporter) take(ctx context.Context, b *flows.Batch) error {
	if !b.Flush {
		return e.sink.Write(ctx, b)
	}
	if f, ok := e.sink.(Flusher); ok {
		return f.Flush(ctx)
	}
	return nil
}

package exporter

import (
	"context"

	"weir/flows"
)

// recordsPerBatch is how many records go to the sink at a time: enough to make
// the hand-over cheap, few enough to stay in L2.
const recordsPerBatch = 4096

// Interval sends to out, which Run receives from, the records of one interval of one
// interface in batches like head, the last of them with the ledger, whose Records it
// counts. records calls emit for each. It waits for free batches until ctx is done.
func (e *Exporter) Interval(ctx context.Context, out chan<- *flows.Batch, head flows.Batch, ledger *flows.Ledger,
	records func(emit func(*flows.Record))) error {
	batch, err := e.begin(ctx, &head)
	if err != nil {
		return err
	}
	records(func(r *flows.Record) {
		if err != nil {
			return
		}
		if len(batch.Records) == recordsPerBatch {
			if err = send(ctx, out, batch); err == nil {
				batch, err = e.begin(ctx, &head)
			}
			if err != nil {
				return
			}
		}
		batch.Records = append(batch.Records, *r)
		ledger.Records++
	})
	if err != nil {
		return err
	}
	batch.Ledger = ledger
	return send(ctx, out, batch)
}

// Flush has the sink write out what it holds back, after all that was sent before.
func (e *Exporter) Flush(ctx context.Context, out chan<- *flows.Batch) error {
	b, err := e.begin(ctx, &flows.Batch{Flush: true})
	if err != nil {
		return err
	}
	return send(ctx, out, b)
}

func (e *Exporter) begin(ctx context.Context, head *flows.Batch) (*flows.Batch, error) {
	select {
	case b := <-e.free:
		records := b.Records[:0]
		if cap(records) == 0 && !head.Flush {
			records = make([]flows.Record, 0, recordsPerBatch)
		}
		*b = *head
		b.Records = records
		return b, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func send(ctx context.Context, out chan<- *flows.Batch, b *flows.Batch) error {
	select {
	case out <- b:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

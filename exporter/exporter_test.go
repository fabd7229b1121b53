package exporter

import (
	"context"
	"errors"
	"slices"
	"testing"

	"weir/flows"
)

// recorder is a sink that keeps what it is given.
type recorder struct {
	starts []int64
	fail   error // returned by the write after the first
	closed int
	ctxErr error // of the context at Close
}

func (s *recorder) Write(_ context.Context, b *flows.Batch) error {
	if s.fail != nil && len(s.starts) == 1 {
		return s.fail
	}
	s.starts = append(s.starts, b.Start)
	return nil
}

func (s *recorder) Close(ctx context.Context) error {
	s.closed++
	s.ctxErr = ctx.Err()
	return nil
}

func TestRunWritesInOrderAndGivesBatchesBack(t *testing.T) {
	const rounds = 100
	sink := &recorder{}
	e := New(sink, 2)
	in := make(chan *flows.Batch)
	done := make(chan error)
	go func() { done <- e.Run(t.Context(), in) }()
	seen := map[*flows.Batch]bool{}
	for i := range rounds {
		b := <-e.Free()
		seen[b] = true
		if len(b.Records) != 0 || b.Ledger != nil || b.Host != "" {
			t.Fatalf("batch %d from the free list is not empty: %+v", i, b)
		}
		b.Host, b.Start, b.Ledger = "h", int64(i), &flows.Ledger{}
		b.Records = append(b.Records, flows.Record{})
		in <- b
	}
	close(in)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(seen) != 2 {
		t.Errorf("%d batches were in circulation, want 2", len(seen))
	}
	if len(sink.starts) != rounds || !slices.IsSorted(sink.starts) {
		t.Errorf("written: %v", sink.starts)
	}
	if sink.closed != 1 {
		t.Errorf("closed %d times", sink.closed)
	}
}

func TestRunStopsAtTheFirstError(t *testing.T) {
	fail := errors.New("disk full")
	sink := &recorder{fail: fail}
	e := New(sink, 2)
	in := make(chan *flows.Batch, 2)
	in <- <-e.Free()
	in <- <-e.Free()
	if err := e.Run(t.Context(), in); !errors.Is(err, fail) {
		t.Fatalf("Run: %v, want %v", err, fail)
	}
	if sink.closed != 1 {
		t.Errorf("closed %d times after an error", sink.closed)
	}
}

func TestRunClosesUnderADeadlineOfItsOwn(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	sink := &recorder{}
	if err := New(sink, 1).Run(ctx, make(chan *flows.Batch)); !errors.Is(err, context.Canceled) {
		t.Fatalf("Run: %v", err)
	}
	if sink.closed != 1 || sink.ctxErr != nil {
		t.Errorf("closed %d times, with context error %v", sink.closed, sink.ctxErr)
	}
}

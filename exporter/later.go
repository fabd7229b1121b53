package exporter

import (
	"context"
	"time"

	"weir/flows"
)

// later is a sink that is opened when it is first written to.
type later struct {
	open   func(context.Context) (Sink, error)
	report func(error)
	sink   Sink
}

// Later returns a sink that opens another when there is something to write, and tries
// until that succeeds. report is told why it fails, each reason once in a row, and
// nil when it has succeeded after that.
func Later(open func(context.Context) (Sink, error), report func(error)) Sink {
	return &later{open: open, report: report}
}

func (l *later) ready(ctx context.Context) error {
	said := ""
	var pauses Backoff
	for l.sink == nil {
		sink, err := l.open(ctx)
		if err == nil {
			l.sink = sink
			break
		}
		if ctx.Err() != nil {
			return err
		}
		if said != err.Error() {
			said = err.Error()
			l.report(err)
		}
		select {
		case <-time.After(pauses.Next()):
		case <-ctx.Done():
			return err
		}
	}
	if said != "" {
		l.report(nil)
	}
	return nil
}

func (l *later) Write(ctx context.Context, b *flows.Batch) error {
	if err := l.ready(ctx); err != nil {
		return err
	}
	return l.sink.Write(ctx, b)
}

func (l *later) Flush(ctx context.Context) error {
	if f, ok := l.sink.(Flusher); ok {
		return f.Flush(ctx)
	}
	return nil
}

func (l *later) Close(ctx context.Context) error {
	if l.sink == nil {
		return nil
	}
	return l.sink.Close(ctx)
}

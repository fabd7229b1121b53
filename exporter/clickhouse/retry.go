package clickhouse

import (
	"context"
	"fmt"
	"sync"
	"time"

	"weir/exporter"
)

// retry calls send until it succeeds, fails for good, or patience or ctx ends.
// However it ends, the error holds the last failure that was the server's.
func (s *Sink) retry(ctx context.Context, send func(context.Context) error) error {
	until := time.Now().Add(s.options.Patience)
	bounded, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	var last error
	var pauses exporter.Backoff
	for {
		err := s.attempt(bounded, send)
		if err == nil {
			s.outage.end(s.options.Report)
			return nil
		}
		// ctx breaks connections when it ends, which may be seen before bounded is told.
		if ctx.Err() == nil && bounded.Err() == nil {
			if !retryable(err) && !s.conn.elsewhere(err) {
				return err
			}
			last = err
			s.outage.begin(s.options.Report, fmt.Errorf("%w; trying again for %v, until %s", err, s.options.Patience, until.Format(time.TimeOnly)))
			select {
			case <-bounded.Done():
			case <-time.After(pauses.Next()):
				continue
			}
		}
		switch {
		case last == nil:
			return err // of the first attempt, which the end of the time cut short
		case ctx.Err() != nil:
			return fmt.Errorf("interrupted (%w): %w", ctx.Err(), last)
		}
		return fmt.Errorf("gave up after %v: %w", s.options.Patience, last)
	}
}

func (s *Sink) attempt(ctx context.Context, send func(context.Context) error) error {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	return send(ctx)
}

// outage is whether inserts fail. Those that fail at the same time are one outage,
// and the first that succeeds is its end. One that goes on for another reason is told
// of again.
type outage struct {
	mu sync.Mutex // held during report, which keeps what it is told in order
	on bool

	reason string // that was reported last, and when
	said   time.Time
	err    error // the last one, and when the outage began
	since  time.Time
}

// quiet is how long an outage is not told of again because its reason has changed.
const quiet = time.Minute

func (o *outage) begin(report func(error), err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err = err; !o.on {
		o.since = time.Now()
	}
	if anew := err.Error() != o.reason && time.Since(o.said) >= quiet; (!o.on || anew) && report != nil {
		o.reason, o.said = err.Error(), time.Now()
		report(err)
	}
	o.on = true
}

func (o *outage) end(report func(error)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.on && report != nil {
		report(nil)
	}
	o.on = false
}

// state returns since when inserts fail, and why; nil if they do not.
func (o *outage) state() (since time.Time, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.on {
		return time.Time{}, nil
	}
	return o.since, o.err
}

package clickhouse

import "time"

type backoff struct{ d time.Duration }

func newBackoff() *backoff { return &backoff{firstPause} }

func (b *backoff) next() time.Duration { d := b.d; b.d = min(2*b.d, maxPause); return d }

func refused(err error) bool { return false }

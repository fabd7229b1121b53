package exporter

import (
	"slices"
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	whole := []time.Duration{200, 400, 800, 1600, 3200, 6400, 10000, 10000}
	for name, c := range map[string]struct {
		chance func(int64) int64
		part   time.Duration // of 2
	}{
		"longest":  {func(int64) int64 { return 0 }, 2},
		"shortest": {func(n int64) int64 { return n - 1 }, 1},
	} {
		b := Backoff{chance: c.chance}
		for turn := range 2 { // the second after Reset
			var got []time.Duration
			for range whole {
				got = append(got, b.Next()/time.Millisecond*2/c.part)
			}
			if !slices.Equal(got, whole) {
				t.Errorf("%s, turn %d: %v", name, turn, got)
			}
			b.Reset()
		}
	}
}

func TestBackoffBounds(t *testing.T) {
	differ := map[time.Duration]bool{}
	for range 100 {
		b := Backoff{First: time.Second, Max: 3 * time.Second}
		for i, whole := range []time.Duration{1, 2, 3, 3} {
			p := b.Next()
			if p < whole*time.Second/2 || p > whole*time.Second {
				t.Errorf("pause %d is %v", i, p)
			}
			differ[p] = true
		}
	}
	if len(differ) < 300 {
		t.Errorf("400 pauses of %d lengths", len(differ))
	}
	tiny := Backoff{First: 1, Max: 1}
	if p := tiny.Next(); p < 0 || p > 1 {
		t.Errorf("%v", p)
	}
	if b := (Backoff{First: time.Hour}); b.Next() > DefaultMaxPause {
		t.Error("the first pause is longer than the longest")
	}
}

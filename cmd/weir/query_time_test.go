package main

import (
	"math"
	"testing"
	"time"
)

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 1, 2, 15, 4, 5, 6, time.UTC)
	for in, want := range map[string]time.Time{
		"now":                       now,
		"1h":                        now.Add(-time.Hour),
		"1h30m":                     now.Add(-90 * time.Minute),
		"2d":                        now.AddDate(0, 0, -2),
		"1w":                        now.AddDate(0, 0, -7),
		"2026-01-02":                time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC),
		"2026-01-02 15:04":          time.Date(2026, 1, 2, 15, 4, 0, 0, time.UTC),
		"2026-01-02T15:04:05":       time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC),
		"2026-01-02T15:04:05+01:00": time.Date(2026, 1, 2, 14, 4, 5, 0, time.UTC),
	} {
		if got, err := parseTime(in, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "yesterday", "-1h", "1", "99999999999w", "2026-13-01", "1h ago", "d"} {
		if got, err := parseTime(in, now); err == nil {
			t.Errorf("%q is %v", in, got)
		}
	}
}

func TestParseSpan(t *testing.T) {
	now := time.Unix(1_000_000, 500)
	s, err := parseSpan("", "", now)
	if err != nil || s != everything || s.String() != "the beginning to the end" {
		t.Errorf("nothing asked: %v, %v", s, err)
	}
	// Not wrapped around, as conversions to 32 bits would have it.
	s, err = parseSpan("1960-01-01", "2200-01-01", now)
	if err != nil || s.from.Unix() != 0 || s.to.Unix() != math.MaxUint32 {
		t.Errorf("beyond: %v, %v", s, err)
	}
	s, err = parseSpan("10s", "now", now)
	if err != nil || s.from.Unix() != 999_991 || s.to.Unix() != 1_000_000 {
		t.Errorf("the last ten seconds: %v, %v", s, err)
	}
	if _, err := parseSpan("now", "1h", now); err == nil {
		t.Error("a range that ends before it begins")
	}
}

func TestChooseStep(t *testing.T) {
	for seconds, want := range map[int64]int64{1: 10, 400: 10, 410: 20, 3600: 120, 86400: 3600, math.MaxUint32: 364 * 86400} {
		if got := chooseStep(timeSpan{time.Unix(0, 0), time.Unix(seconds-1, 0)}); got != want {
			t.Errorf("%d s: %d, want %d", seconds, got, want)
		}
	}
}

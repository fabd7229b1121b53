package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parseSpan makes a time range of --since and --until; until is not part of it.
func parseSpan(since, until string, now time.Time) (timeSpan, error) {
	s := everything
	if since != "" {
		t, err := parseTime(since, now)
		if err != nil {
			return s, fmt.Errorf("--since: %w", err)
		}
		// Intervals that began within the second before do not count.
		s.from = clampTime(t.Add(time.Second - 1).Truncate(time.Second))
	}
	if until != "" {
		t, err := parseTime(until, now)
		if err != nil {
			return s, fmt.Errorf("--until: %w", err)
		}
		s.to = clampTime(t.Add(-1).Truncate(time.Second))
	}
	if s.to.Before(s.from) {
		return s, fmt.Errorf("--since %s is not before --until %s", since, until)
	}
	return s, nil
}

func clampTime(t time.Time) time.Time {
	if t.Before(everything.from) {
		return everything.from
	}
	if t.After(everything.to) {
		return everything.to
	}
	return t
}

// timeForms are read as UTC, which is what all output is in.
var timeForms = []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"}

// parseTime reads a time, or how long ago it was.
func parseTime(s string, now time.Time) (time.Time, error) {
	if s == "now" {
		return now.UTC(), nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t.UTC(), nil
	}
	for _, form := range timeForms {
		if t, err := time.Parse(form, s); err == nil {
			return t, nil
		}
	}
	if d, err := parseAgo(s); err == nil {
		return now.Add(-d).UTC(), nil
	}
	return time.Time{}, fmt.Errorf("%q is neither a time (2026-01-02T15:04:05Z, 2026-01-02 15:04, 2026-01-02, now) nor how long ago (90s, 1h30m, 7d)", s)
}

// parseAgo reads a duration, with days, weeks and years of 365 days as time.ParseDuration has not.
func parseAgo(s string) (time.Duration, error) {
	for unit, length := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour, "y": 365 * 24 * time.Hour} {
		if n, err := strconv.ParseUint(strings.TrimSuffix(s, unit), 10, 16); err == nil && strings.HasSuffix(s, unit) {
			if d := time.Duration(n) * length; d/length == time.Duration(n) {
				return d, nil
			}
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration", s)
	}
	return d, nil
}

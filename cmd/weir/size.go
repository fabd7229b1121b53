package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// units are what sizes may end with, longest first.
var units = []struct {
	name   string
	octets uint64
}{
	{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"tib", 1 << 40},
	{"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"tb", 1e12}, {"b", 1},
}

// parseSize reads a number of octets such as 64MiB, 1.5GB or 4096.
func parseSize(s string) (uint64, error) {
	number, factor := strings.ToLower(strings.TrimSpace(s)), uint64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(number, u.name); ok {
			number, factor = strings.TrimSpace(n), u.octets
			break
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if octets := n * float64(factor); err == nil && octets >= 1 && octets <= math.MaxInt64 {
		return uint64(octets), nil
	}
	return 0, fmt.Errorf("%q is not a size such as 64MiB, 1.5GB or 4096", s)
}

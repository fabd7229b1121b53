//go:build !(linux && amd64)

package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	fmt.Fprintf(os.Stderr, "weir-clickhouse: the ClickHouse engine is for Linux on amd64 with glibc, not for %s on %s: "+
		"use a ClickHouse server of your own (clickhouse.addr)\n", runtime.GOOS, runtime.GOARCH)
	os.Exit(1)
}

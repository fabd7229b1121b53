// Package testdata carries the capture that `weir demo` replays, so that the
// demo needs the binary and no file beside it. README.md says what the captures
// of this folder hold and make.sh how they are made.
package testdata

import (
	"embed"
	"io/fs"
)

//go:embed long.pcap
var demo embed.FS

// Demo holds the file long.pcap: 76 seconds of a small network.
var Demo fs.FS = demo

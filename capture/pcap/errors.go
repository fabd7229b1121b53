package pcap

import (
	"errors"
	"fmt"
	"io"
)

// ErrNotCapture says that the input is no capture file. It comes wrapped with the
// input's name and what was found in place of a capture.
var ErrNotCapture = errors.New("not a capture file (pcap or pcapng, plain or compressed with gzip or zstd)")

// DamagedError says where a capture is cut off or contradicts itself. All packets
// before that place have been delivered.
type DamagedError struct {
	// Name is the input's name as given to Open or NewReader.
	Name string
	// Offset is where the unusable record or block begins, in bytes from the start
	// of the capture; of a compressed one, from the start of what it decompresses to.
	Offset int64
	// Reason says what is wrong there.
	Reason string
	// Err is the cause: io.ErrUnexpectedEOF if the capture is cut off, the
	// decompressor's error if the compressed data are damaged, else nil.
	Err error
}

// Error names file, offset, reason and cause.
func (e *DamagedError) Error() string {
	s := fmt.Sprintf("%s: damaged at byte %d: %s", e.Name, e.Offset, e.Reason)
	if e.Err != nil && !errors.Is(e.Err, io.ErrUnexpectedEOF) { // the reason says that in better words
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause, if there is one.
func (e *DamagedError) Unwrap() error { return e.Err }

// damaged returns the error of a record or block at offset. The reader adds the name.
func damaged(offset int64, format string, args ...any) *DamagedError {
	return &DamagedError{Offset: offset, Reason: fmt.Sprintf(format, args...)}
}

// notCapture says why the input called name is none.
func notCapture(name, format string, args ...any) error {
	return fmt.Errorf("%s: %w: %s", name, ErrNotCapture, fmt.Sprintf(format, args...))
}

package pcap

import "io"

const (
	// windowSize is how much is read at once, if no record is larger. It fits the
	// L2 cache of current processors with room for a flow table's hot part beside
	// it. Measured with BenchmarkWindow; see there.
	windowSize = 256 << 10

	// maxRecord bounds a packet record with its header and padding. The largest
	// packet that Linux makes is a BIG TCP super-packet of 512 KiB (GSO_MAX_SIZE,
	// include/linux/netdevice.h), libpcap's largest snapshot length for
	// network interfaces is 256 KiB. It also is the size that a window can grow to.
	maxRecord = 16 << 20

	// maxEmptyReads is how often a reader may return nothing at all, as in bufio.
	maxEmptyReads = 100
)

// window is the part of a capture that is in memory. Packets point into it, so
// bytes move only in fill.
type window struct {
	src    io.Reader
	buf    []byte
	lo, hi int   // buf[lo:hi] is read from src and not yet used
	base   int64 // offset of buf[0] in the capture
	size   int   // how much fill reads while no record is larger
	err    error // what src said after the last byte
}

// unread returns what is in memory and not yet used.
func (w *window) unread() []byte { return w.buf[w.lo:w.hi] }

// offset returns where unread begins in the capture.
func (w *window) offset() int64 { return w.base + int64(w.lo) }

// fill reads more. It moves the unread bytes to the front of the buffer, and
// doubles the buffer if they fill it: memory is thus at most twice what arrived.
// After the buffer has grown for one large record, only as much of it is used as
// the records at hand need, so that one of them does not cost the cache for good.
func (w *window) fill() error {
	if w.err != nil {
		return w.err
	}
	n := w.hi - w.lo
	end := w.size
	for end <= n {
		end *= 2
	}
	if end > len(w.buf) {
		buf := make([]byte, end)
		copy(buf, w.unread())
		w.buf = buf
	} else {
		copy(w.buf, w.unread())
	}
	w.base += int64(w.lo)
	w.lo, w.hi = 0, n
	for range maxEmptyReads {
		n, err := w.src.Read(w.buf[w.hi:end])
		w.hi += n
		w.err = err
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	w.err = io.ErrNoProgress
	return w.err
}

// peek returns the unread bytes, at least n of them unless the input ends or fails
// before that; then the error says which.
func (w *window) peek(n int) ([]byte, error) {
	for len(w.unread()) < n {
		if err := w.fill(); err != nil {
			return w.unread(), err
		}
	}
	return w.unread(), nil
}

package link

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// EventKind says what became of an interface.
type EventKind uint8

const (
	Added   EventKind = iota + 1 // it is there: new, or since before the watch began
	Changed                      // something in its Link is other than before
	Removed                      // it is deleted, or has moved to another namespace
)

// String returns the kind in lower case.
func (k EventKind) String() string {
	switch k {
	case Added:
		return "added"
	case Changed:
		return "changed"
	case Removed:
		return "removed"
	}
	return "unknown"
}

// Event is a change of an interface.
type Event struct {
	Kind EventKind
	Link Link // as it is now; for Removed, as it was last
}

// Watcher tells of the interfaces of a network namespace. It belongs to one
// goroutine.
type Watcher struct {
	changes *netlink.Conn // the kernel's notices
	ask     *netlink.Conn // what is there, asked whenever there was a notice
	known   map[int]Link
	deleted map[int]bool // indexes of which a notice said so since the last look
}

// Watch calls fn as [Watcher.Run] does, for the network namespace that the calling
// thread is in.
func Watch(ctx context.Context, fn func(Event)) error {
	w, err := NewWatcher()
	if err != nil {
		return err
	}
	return w.Run(ctx, fn)
}

// NewWatcher begins to watch the network namespace of the calling thread. Run may
// be called in another.
func NewWatcher() (*Watcher, error) {
	const groups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR
	changes, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Groups: groups})
	if err != nil {
		return nil, fmt.Errorf("watch interfaces: %w", err)
	}
	ask, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		changes.Close()
		return nil, fmt.Errorf("watch interfaces: %w", err)
	}
	return &Watcher{changes: changes, ask: ask, known: map[int]Link{}, deleted: map[int]bool{}}, nil
}

// Close closes a watcher. Only one that is never run needs it.
func (w *Watcher) Close() error { return errors.Join(w.changes.Close(), w.ask.Close()) }

// An interface that comes up makes a handful of notices, and a look at all interfaces
// takes longer than a notice.
const (
	settle   = 5 * time.Millisecond   // how long to wait for another notice after one
	patience = 100 * time.Millisecond // and how long in all
)

// Run calls fn for every interface there is, then for every change until ctx is
// done, and closes the watcher. It returns nil if it ends because of ctx.
//
// A notice only makes it compare what is there with what was: one that is lost
// because too many came at once, of which the kernel tells, costs nothing. What
// comes and goes between two looks may not be told of. An interface that is replaced
// by another with the same index is removed and added.
func (w *Watcher) Run(ctx context.Context, fn func(Event)) error {
	defer w.Close()
	// The deadline is the only way to end a read that waits. A call that sets a later
	// one looks at ctx afterwards, see receive.
	stop := context.AfterFunc(ctx, func() { _ = w.changes.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for ctx.Err() == nil {
		if err := w.compare(fn); err != nil {
			return err
		}
		if _, err := w.receive(ctx, time.Time{}); err != nil {
			return err
		}
		for end := time.Now().Add(patience); ; {
			now := time.Now()
			more, err := w.receive(ctx, now.Add(min(settle, end.Sub(now))))
			if err != nil {
				return err
			}
			if !more {
				break
			}
		}
	}
	return nil
}

// receive waits for a notice until the deadline, or for ever if that is zero. It
// returns false if there was none in time or ctx is done.
func (w *Watcher) receive(ctx context.Context, deadline time.Time) (bool, error) {
	if err := w.changes.SetReadDeadline(deadline); err != nil {
		return false, fmt.Errorf("watch interfaces: %w", err)
	}
	if ctx.Err() != nil {
		return false, nil
	}
	messages, err := w.changes.Receive()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return false, nil
	case errors.Is(err, unix.ENOBUFS):
		return true, nil // notices were lost: as good as one
	case err != nil:
		return false, fmt.Errorf("watch interfaces: %w", err)
	}
	for _, m := range messages {
		// A bridge tells with a family of its own that an interface has left it.
		if m.Header.Type == unix.RTM_DELLINK && len(m.Data) >= unix.SizeofIfInfomsg && m.Data[0] == unix.AF_UNSPEC {
			w.deleted[linkIndex(m.Data)] = true
		}
	}
	return true, nil
}

// compare tells fn what has changed since the last call.
func (w *Watcher) compare(fn func(Event)) error {
	links, err := list(w.ask)
	if err != nil {
		return fmt.Errorf("watch interfaces: %w", err)
	}
	// Those that are gone come first: another may have taken over the name.
	for _, index := range slices.Sorted(maps.Keys(w.known)) {
		if w.deleted[index] || find(links, index) == nil {
			old := w.known[index]
			delete(w.known, index)
			fn(Event{Removed, old})
		}
	}
	clear(w.deleted)
	for _, l := range links {
		old, ok := w.known[l.Index]
		w.known[l.Index] = l
		switch {
		case !ok:
			fn(Event{Added, l})
		case !reflect.DeepEqual(old, l):
			fn(Event{Changed, l})
		}
	}
	return nil
}

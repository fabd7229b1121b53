package link

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"time"

	"github.com/jsimonetti/rtnetlink/v2"
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

// Event is a change of an interface.
type Event struct {
	Kind EventKind
	Link Link // as it is now; for Removed, as it was last
}

// Watcher tells of the interfaces of a network namespace. It belongs to one
// goroutine.
type Watcher struct {
	changes *rtnetlink.Conn // the kernel's notices
	ask     *rtnetlink.Conn // what is there, asked whenever there was a notice
	known   map[int]Link
}

// NewWatcher begins to watch the network namespace of the calling thread.
func NewWatcher() (*Watcher, error) {
	const groups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR
	changes, err := rtnetlink.Dial(&netlink.Config{Groups: groups})
	if err != nil {
		return nil, fmt.Errorf("watch interfaces: %w", err)
	}
	ask, err := rtnetlink.Dial(nil)
	if err != nil {
		changes.Close()
		return nil, fmt.Errorf("watch interfaces: %w", err)
	}
	return &Watcher{changes: changes, ask: ask, known: map[int]Link{}}, nil
}

// settle is how long to wait for more notices after one: an interface that comes up
// makes a handful.
const settle = 5 * time.Millisecond

// Run calls fn for every interface there is, then for every change until ctx is
// done, and closes the watcher. It returns nil if it ends because of ctx.
//
// A notice only makes it compare what is there with what was: one that is lost
// because too many came at once, of which the kernel tells, costs nothing. What
// comes and goes within 5 ms may not be told of.
func (w *Watcher) Run(ctx context.Context, fn func(Event)) error {
	defer w.ask.Close()
	defer w.changes.Close()
	stop := context.AfterFunc(ctx, func() { _ = w.changes.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for ctx.Err() == nil {
		if err := w.compare(fn); err != nil {
			return err
		}
		if _, _, err := w.changes.Receive(); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				continue
			}
			if !errors.Is(err, unix.ENOBUFS) {
				return fmt.Errorf("watch interfaces: %w", err)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(settle):
		}
	}
	return nil
}

// compare tells fn what has changed since the last call.
func (w *Watcher) compare(fn func(Event)) error {
	links, err := list(w.ask)
	if err != nil {
		return fmt.Errorf("watch interfaces: %w", err)
	}
	for index, old := range w.known {
		if !slices.ContainsFunc(links, func(l Link) bool { return l.Index == index }) {
			delete(w.known, index)
			fn(Event{Removed, old})
		}
	}
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

package link

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// watching is a watch that a test follows.
type watching struct {
	t      *testing.T
	events chan Event
	known  map[int]Link // the picture that the events draw
	end    context.CancelFunc
	done   chan error
}

// watch begins to watch the test's namespace, from another thread.
func watch(t *testing.T) *watching {
	t.Helper()
	w, err := NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &watching{t: t, events: make(chan Event, 1024), known: map[int]Link{}, end: cancel, done: make(chan error, 1)}
	go func() { s.done <- w.Run(ctx, func(e Event) { s.events <- e }) }()
	return s
}

// next takes the next event into the picture.
func (s *watching) next() Event {
	s.t.Helper()
	select {
	case e := <-s.events:
		old, ok := s.known[e.Link.Index]
		switch {
		case ok == (e.Kind == Added):
			s.t.Fatalf("%v %+v, which was known: %v", e.Kind, e.Link, ok)
		case e.Kind == Removed:
			delete(s.known, e.Link.Index)
		default:
			if e.Kind == Changed && reflect.DeepEqual(old, e.Link) {
				s.t.Fatalf("nothing changed in %+v", old)
			}
			s.known[e.Link.Index] = e.Link
		}
		return e
	case err := <-s.done:
		s.t.Fatalf("the watch ended: %v", err)
	case <-time.After(30 * time.Second):
		s.t.Fatalf("no event; known is %+v", s.known)
	}
	return Event{}
}

// until takes events until one fits.
func (s *watching) until(kind EventKind, name string, fits func(Link) bool) Link {
	s.t.Helper()
	for {
		if e := s.next(); e.Kind == kind && e.Link.Name == name && (fits == nil || fits(e.Link)) {
			return e.Link
		}
	}
}

// settled takes events until the picture is what the kernel says.
func (s *watching) settled() {
	s.t.Helper()
	for {
		links, err := All()
		if err != nil {
			s.t.Fatal(err)
		}
		want := map[int]Link{}
		for _, l := range links {
			want[l.Index] = l
		}
		if reflect.DeepEqual(want, s.known) {
			return
		}
		s.next()
	}
}

func (s *watching) stop() {
	s.t.Helper()
	s.end()
	if err := <-s.done; err != nil {
		s.t.Fatal(err)
	}
}

func TestWatch(t *testing.T) {
	namespace(t)
	w := watch(t)
	w.until(Added, "lo", nil)
	ip(t, "link add name a type veth peer name b")
	a := w.until(Added, "a", nil)
	ip(t, "link set dev a up")
	w.until(Changed, "a", func(l Link) bool { return l.Up && !l.Running })
	ip(t, "link set dev b up")
	w.until(Changed, "a", func(l Link) bool { return l.Running })
	ip(t, "addr add 192.0.2.1/24 dev a")
	w.until(Changed, "a", func(l Link) bool { return strings.Contains(fmt.Sprint(l.Addresses), "192.0.2.1/24") })
	ip(t, "link set dev a down")
	ip(t, "link set dev a name c")
	if l := w.until(Changed, "c", func(l Link) bool { return !l.Up }); l.Index != a.Index {
		t.Errorf("%+v was %+v", l, a)
	}
	ip(t, "link add br0 type bridge")
	br := w.until(Added, "br0", nil)
	ip(t, "link set dev c master br0")
	w.until(Changed, "c", func(l Link) bool { return l.Master == br.Index })
	ip(t, "link set dev c nomaster") // a notice of a deletion, but of a bridge's
	w.until(Changed, "c", func(l Link) bool { return l.Master == 0 })
	ip(t, "link del dev c")
	w.until(Removed, "c", nil)
	w.settled()
	w.stop()
}

// TestWatchMove moves an interface into another namespace, as containers have it.
func TestWatchMove(t *testing.T) {
	namespace(t)
	w := watch(t)
	ip(t, "link add name a type veth peer name b")
	w.until(Added, "b", nil)

	there := make(chan int)
	defer close(there)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
		}
		there <- unix.Gettid()
		<-there
	}()
	ip(t, fmt.Sprintf("link set dev b netns %d", <-there))
	w.until(Removed, "b", nil)
	w.settled()
	w.stop()
}

// TestWatchReplaced deletes an interface and makes one that is alike: what captured
// on the old one does not see the new one's packets.
func TestWatchReplaced(t *testing.T) {
	namespace(t)
	ip(t, "link add name a index 100 type veth peer name b index 101")
	w, err := NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var events []string
	note := func(e Event) {
		if e.Link.Name == "a" {
			events = append(events, e.Kind.String())
		}
	}
	if err := w.compare(note); err != nil {
		t.Fatal(err)
	}
	ip(t, "link del dev a")
	ip(t, "link add name a index 100 type veth peer name b index 101")
	for len(w.deleted) < 2 {
		if _, err := w.receive(t.Context(), time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.compare(note); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(events, " "); got != "added removed added" {
		t.Error(got)
	}
}

// TestWatchFlood makes and deletes many interfaces while nobody takes the events.
func TestWatchFlood(t *testing.T) {
	namespace(t)
	w := watch(t)
	const pairs = 100
	for i := range pairs {
		ip(t, fmt.Sprintf("link add a%d type veth peer name b%d", i, i))
		ip(t, fmt.Sprintf("link set a%d up", i))
		if i%2 == 0 {
			ip(t, fmt.Sprintf("link del a%d", i))
		}
	}
	w.settled()
	if len(w.known) != pairs+1 {
		t.Errorf("%d interfaces", len(w.known))
	}
	for i := 1; i < pairs; i += 2 {
		ip(t, fmt.Sprintf("link del b%d", i))
	}
	w.settled()
	if len(w.known) != 1 {
		t.Errorf("%d interfaces", len(w.known))
	}
	w.stop()
}

// TestWatchLost makes the kernel drop notices.
func TestWatchLost(t *testing.T) {
	namespace(t)
	w, err := NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.changes.SetReadBuffer(1); err != nil { // the kernel makes it its minimum
		t.Fatal(err)
	}
	for i := range 20 {
		ip(t, fmt.Sprintf("link add a%d type veth peer name b%d", i, i))
	}
	lost, err := w.changes.Receive()
	for err == nil {
		lost, err = w.changes.Receive() // the socket has its error until somebody asks
	}
	if !strings.Contains(err.Error(), unix.ENOBUFS.Error()) {
		t.Fatalf("%v, %v", lost, err)
	}
	ip(t, "link add last type veth peer name latest")
	ctx, cancel := context.WithCancel(t.Context())
	changed := false
	err = w.Run(ctx, func(e Event) {
		switch {
		case e.Kind == Added && e.Link.Name == "last":
			for i := range 20 { // lost again, while the watch is busy
				ip(t, fmt.Sprintf("link set a%d up", i))
			}
			ip(t, "link set last up")
		case e.Kind == Changed && e.Link.Name == "last" && e.Link.Up:
			changed = true
			cancel()
		}
	})
	if err != nil || !changed {
		t.Errorf("%v, changed: %v", err, changed)
	}
}

func TestWatchLeavesNothing(t *testing.T) {
	namespace(t)
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	run := func() {
		ctx, cancel := context.WithCancel(t.Context())
		if err := Watch(ctx, func(Event) { cancel() }); err != nil {
			t.Fatal(err)
		}
	}
	run() // what the runtime opens once and keeps
	files, goroutines := count(), runtime.NumGoroutine()
	for range 50 {
		run()
	}
	if n := count(); n > files {
		t.Errorf("%d files, were %d", n, files)
	}
	for range 1000 { // that of the last context's AfterFunc may still be ending
		if runtime.NumGoroutine() <= goroutines {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d goroutines, were %d", runtime.NumGoroutine(), goroutines)
}

package spool

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// life is what a process did with a spool before the power was cut.
type life struct {
	put     map[int]bool      // first rows of the flushes whose Put has returned nil
	acked   map[int]bool      // of those that Done was called for
	tokens  map[string]string // what was sent under which
	highest uint64            // sequence that was sent
}

const powerRows = 150 // two blocks a flush

// live puts, takes, acknowledges and gives up, until something fails or all is done.
func (l *life) live(t *testing.T, d *memDisk, now *time.Time) {
	s, err := Open(Options{disk: d, Folder: "memory", BatchRows: 2 * powerRows, MaxAge: time.Hour, now: func() time.Time { return *now }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cut := func() bool { return d.cut > 0 && d.ops >= d.cut }
	put := func(i int) {
		if err := s.Put(t.Context(), flushOf(t, 1000*i, powerRows, uint32(i/4))); err != nil {
			t.Fatal(err)
		}
		if !cut() {
			l.put[1000*i] = true
		}
	}
	for i := range 3 {
		put(i)
	}
	for i := range 4 {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		b, err := s.Take(ctx)
		if err != nil || cut() {
			return
		}
		for j := range b.Inserts {
			text := ""
			for block, err := range b.Inserts[j].Blocks() {
				if err != nil {
					return // the power
				}
				text += fmt.Sprint(block.Table, block.Sequence, block.Rows, block.Columns[0].Data, block.Columns[0].Head)
				l.highest = max(l.highest, block.Sequence)
			}
			l.tokens[b.Inserts[j].Token] = text
		}
		if i == 2 { // its acknowledgement is lost
			return
		}
		for _, fl := range b.b.flushes {
			l.acked[1000*int(fl.sequence-1)] = true // one flush a sequence, from 1 on
		}
		s.Done(b)
		put(3 + i)
	}
}

// The power is cut at every operation, and within every write, and what is found then is
// whole flushes or none: all that were put in and not acknowledged, each once, in order,
// under the tokens under which they may have been sent before.
func TestPowerCut(t *testing.T) {
	now := time.Unix(1e9, 0)
	whole := newMemDisk()
	newLife().live(t, whole, &now)
	cuts := 0
	for cut := 1; cut <= whole.ops; cut++ {
		for _, partial := range []int{0, 1, 13, 100, 1 << 20} {
			for variant := range 6 {
				d := newMemDisk()
				d.cut, d.partial = cut, partial
				l := newLife()
				l.live(t, d, &now)
				name := fmt.Sprintf("cut at %d (%s), %d octets, variant %d", cut, d.noted[min(cut, len(d.noted))-1], partial, variant)
				l.find(t, name, d.after(variant == 0, variant == 1, rand.New(rand.NewPCG(uint64(cut), uint64(variant)))))
				if cuts++; t.Failed() {
					return
				}
			}
		}
	}
	if cuts < 1000 {
		t.Errorf("only %d cuts", cuts)
	}
}

func newLife() *life {
	return &life{put: map[int]bool{}, acked: map[int]bool{}, tokens: map[string]string{}}
}

// find looks what the next process finds.
func (l *life) find(t *testing.T, name string, d *memDisk) {
	t.Helper()
	s, err := Open(Options{disk: d, Folder: "memory"})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if st := s.Stats(); st.Err != nil || st.SetAside > 0 || st.GivenUp != [numReasons]uint64{} {
		t.Errorf("%s: %+v", name, st)
	}
	if s.next <= l.highest {
		t.Errorf("%s: sequence %d comes again, %d was sent", name, s.next, l.highest)
	}
	s.Finish()
	var seen []uint64
	for {
		b, err := s.Take(t.Context())
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, i := range b.Inserts {
			text := ""
			for block, err := range i.Blocks() {
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				text += fmt.Sprint(block.Table, block.Sequence, block.Rows, block.Columns[0].Data, block.Columns[0].Head)
			}
			// Of a batch that was acknowledged some flushes may be gone already: all are in the
			// table, and the token keeps the rest from being counted again.
			if before, ok := l.tokens[i.Token]; ok && before != text && !l.anyAcked(b) {
				t.Errorf("%s: token %s covered other rows before", name, i.Token)
			}
		}
		for _, got := range read(t, b) {
			seen = append(seen, got.rows...)
		}
		s.Done(b)
	}
	if !slices.IsSorted(seen) {
		t.Errorf("%s: out of order: %v", name, seen)
	}
	count := map[int]int{}
	for _, n := range seen {
		count[int(n)/1000*1000]++
	}
	for first, n := range count {
		if n != powerRows {
			t.Errorf("%s: flush %d has %d rows", name, first, n)
		}
	}
	for first := range l.put {
		if count[first] == 0 && !l.acked[first] {
			t.Errorf("%s: flush %d is lost", name, first)
		}
	}
}

func (l *life) anyAcked(b *Batch) bool {
	return slices.ContainsFunc(b.b.flushes, func(fl *flush) bool { return l.acked[1000*int(fl.sequence-1)] })
}

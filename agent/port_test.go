package agent

import (
	"testing"
	"testing/synctest"

	"weir/capture"
	"weir/capture/afring"
	"weir/capture/mock"
	"weir/flows"
)

// TestRingAnswersAndEnds has a ring end right after it has answered: its last table comes
// with the next question.
func TestRingAnswersAndEnds(t *testing.T) {
	for range 20 { // a select chooses
		synctest.Test(t, func(t *testing.T) {
			m, err := mock.NewRing("eth0", capture.LinkEthernet, afring.Config{BlockSize: 128 << 10, Blocks: 2})
			if err != nil {
				t.Fatal(err)
			}
			first, second, third := flows.NewTable(10), flows.NewTable(10), flows.NewTable(10)
			r := newRing(m.Source(), flows.NewMeter(flows.NewDecoder(nil), first), new(histogram))
			go r.run()
			r.ask(second)
			synctest.Wait()
			m.End()
			synctest.Wait()
			if f, spare, ended := r.answer(); f.table != first || spare != nil || ended {
				t.Errorf("the table before the end: %p, %v", f.table, ended)
			}
			r.ask(third)
			if f, spare, ended := r.answer(); f.table != second || spare != third || !ended {
				t.Errorf("the last table: %p, spare %p, %v", f.table, spare, ended)
			}
		})
	}
}

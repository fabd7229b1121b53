package flows_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"weir/capture"
	"weir/capture/pcap"
	"weir/flows"
)

// TestSamplesAgainstTshark asks tshark about the packets of the tables in
// decode_*_test.go, so that what they expect has a second opinion. A sample that
// names a reason must differ, or the reason is stale.
func TestSamplesAgainstTshark(t *testing.T) {
	byLink := map[capture.LinkType][]sample{}
	for _, s := range samples() {
		if s.noSecondOpinion != hasMetadata && s.noSecondOpinion != notInFiles && s.noSecondOpinion != notOnTheWire {
			byLink[s.packet.LinkType] = append(byLink[s.packet.LinkType], s)
		}
	}
	for link, samples := range byLink {
		t.Run(fmt.Sprintf("link type %d", uint32(link)), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "samples.pcap")
			writeSamples(t, path, link, samples)
			frames := dissect(t, path)
			if len(frames) != len(samples) {
				t.Fatalf("%d packets, tshark has %d frames", len(samples), len(frames))
			}
			var h flows.Headers
			for i, s := range samples {
				v := h.Decode(&s.packet)
				if v.IsError() {
					continue // tshark shows what there is of a malformed packet, and has no verdict
				}
				got := describe(v, &h)
				want, _ := frames[i].flow(t)
				switch {
				case got != want && s.noSecondOpinion == "":
					t.Errorf("%s (%s):\ngot  %s\nwant %s", s.name, frames[i].first("frame.protocols"), got, want)
				case got == want && s.noSecondOpinion != "":
					t.Errorf("%s: tshark agrees, which should not be because of: %s", s.name, s.noSecondOpinion)
				}
			}
		})
	}
}

func writeSamples(t *testing.T, path string, link capture.LinkType, samples []sample) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := pcap.NewWriter(f, link, 1<<18)
	if err != nil {
		t.Fatal(err)
	}
	for i := range samples {
		if err := w.Write(&samples[i].packet); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
}

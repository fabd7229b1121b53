package agent_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/agent"
)

// TestComplains holds that what is lost is said, and not over and over: once at first,
// once a minute, and at the end.
func TestComplains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, sink := newHost(), &kept{}
		h.add(1)
		var said bytes.Buffer
		_, stop := running(t, h, sink, func(c *agent.Config) {
			c.MaxFlows = 10
			c.Log = slog.New(slog.NewTextHandler(&said, nil))
		})
		time.Sleep(time.Second)
		const seconds = 100
		for range seconds {
			for flow := range 15 {
				h.send(t, "eth1", flow)
			}
			time.Sleep(time.Second)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		lines := strings.Count(said.String(), "lost their detail")
		if lines != 3 {
			t.Errorf("said %d times:\n%s", lines, said.String())
		}
		if _, l := sink.packets(); l.Overflow != 5*seconds {
			t.Errorf("%d packets lost their detail", l.Overflow)
		}
	})
}

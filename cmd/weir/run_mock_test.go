package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"weir/agent"
	"weir/capture"
	"weir/capture/afring"
	"weir/capture/link"
	"weir/capture/mock"
	"weir/capture/pcap"
	"weir/capture/socket"
	"weir/exporter/clickhouse"
	"weir/flows"
)

// TestRunMocks drives the agent's own wiring with captures in the place of interfaces,
// each through a ring in memory: what weir query then answers is what weir replay makes
// of the same captures.
func TestRunMocks(t *testing.T) {
	files := []string{"web.pcap", "long.pcap"}
	want := map[string]map[tuple]traffic{}
	for _, f := range files {
		r := weir(t, nil, "replay", "--output", "csv", "--uniflow", "--interval", "0", captures+"/"+f)
		if r.code != exitOK {
			t.Fatal(r.stderr)
		}
		want[f] = tuples(t, r.stdout, "any")
	}
	for _, n := range []int{1, 10, 100} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			flags, o := serverFlags(t, fmt.Sprintf("mocks_%d", n))
			if r := weir(t, nil, append([]string{"schema", "--apply"}, flags...)...); r.code != exitOK {
				t.Fatal(r.stderr)
			}
			sink, err := clickhouse.NewSink(t.Context(), o, clickhouse.SinkOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			rings := map[string]*mock.Ring{}
			file := func(name string) string { return files[int(name[len(name)-1])%len(files)] }
			a, err := agent.New(agent.Config{
				Host: "mock", Interval: time.Second, MaxFlows: 1 << 16, Tracker: flows.TrackerConfig{Idle: time.Minute, Max: 1 << 16},
				Watch: func(ctx context.Context, fn func(link.Event)) error {
					for i := range n {
						fn(link.Event{Kind: link.Added, Link: link.Link{Index: i + 1, Name: fmt.Sprintf("mock%d", i), Hardware: 1, Up: true}})
					}
					<-ctx.Done()
					return nil
				},
				Interfaces: agent.Interfaces{
					Select: agent.Selection{}.Pick, Missing: agent.Selection{}.Missing, Settings: func(link.Link) string { return "" },
					Open: func(l link.Link) ([]capture.Source, error) {
						m, err := mock.NewRing(l.Name, capture.LinkEthernet, afring.Config{BlockSize: 128 << 10, Blocks: 4, Config: socket.Config{NoFilter: true}})
						if err != nil {
							return nil, err
						}
						mu.Lock()
						defer mu.Unlock()
						rings[l.Name] = m
						return []capture.Source{m.Source()}, nil
					},
				},
				Sink: sink, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Grace: time.Minute,
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			result := make(chan error, 1)
			go func() { result <- a.Run(ctx) }()
			<-a.Opened()
			var packets uint64
			var group errgroup.Group
			for name, ring := range rings {
				group.Go(func() error {
					src, err := pcap.Open(captures + "/" + file(name))
					if err != nil {
						return err
					}
					defer src.Close()
					return ring.Pipe(ctx, src)
				})
			}
			if err := group.Wait(); err != nil {
				t.Fatal(err)
			}
			stop()
			if err := <-result; err != nil {
				t.Fatal(err)
			}
			answer := weir(t, nil, append([]string{"query", "flows", "--output", "csv", "--limit", "1000000"}, flags...)...)
			if answer.code != exitOK {
				t.Fatal(answer.stderr)
			}
			got := tuples(t, answer.stdout, "")
			keys := 0
			for name := range rings {
				for k, w := range want[file(name)] {
					k.iface = name
					keys++
					packets += w.packets
					if got[k] != w {
						t.Fatalf("%v: %+v in ClickHouse, %+v in the capture", k, got[k], w)
					}
				}
			}
			if s := a.Status(); keys != len(got) || s.Total.Metered != packets || s.Total.Drops != 0 {
				t.Errorf("%d directions of flows, want %d; %+v, want %d packets", len(got), keys, s.Total, packets)
			}
		})
	}
}

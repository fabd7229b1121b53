package mock_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/capture"
	"weir/capture/afring"
	"weir/capture/mock"
	"weir/capture/pcap"
	"weir/capture/socket"
)

// TestPipe puts every capture of testdata through a ring, and through two, one after
// the other: out comes what is in the file.
func TestPipe(t *testing.T) {
	paths, err := filepath.Glob("../../testdata/*.pcap*")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d captures, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			f, err := pcap.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var want []capture.Packet
			for {
				batch, err := f.NextBatch()
				if err != nil {
					break // cut.pcap is damaged
				}
				for _, p := range batch {
					p.Data = bytes.Clone(p.Data)
					want = append(want, p)
				}
			}
			if len(want) == 0 {
				t.Fatal("no packets")
			}
			c := afring.Config{Config: socket.Config{NoFilter: true, Promiscuous: true}}
			first := newRing(t, want[0].LinkType, c)
			second := newRing(t, want[0].LinkType, c)
			list := want
			src := sourceFunc(func() ([]capture.Packet, error) {
				if len(list) == 0 {
					return nil, io.EOF
				}
				n := min(len(list), 100)
				list = list[n:]
				return want[len(want)-len(list)-n : len(want)-len(list)], nil
			})
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := first.Pipe(context.Background(), src); err != nil {
					t.Error(err)
				}
				first.End()
			})
			wg.Go(func() {
				if err := second.Pipe(context.Background(), first.Source()); err != nil {
					t.Error(err)
				}
				second.End()
			})
			got := drain(t, second.Source())
			wg.Wait()
			if len(got) != len(want) {
				t.Fatalf("%d packets, want %d", len(got), len(want))
			}
			for i := range got {
				if !bytes.Equal(got[i].Data, want[i].Data) || got[i].Time != want[i].Time || got[i].WireLen != max(want[i].WireLen, uint32(len(want[i].Data))) {
					t.Fatalf("packet %d: %+v, want %+v", i, got[i], want[i])
				}
			}
		})
	}
}

type sourceFunc func() ([]capture.Packet, error)

func (f sourceFunc) NextBatch() ([]capture.Packet, error) { return f() }
func (f sourceFunc) Interfaces() []capture.Interface      { return []capture.Interface{{Name: "func"}} }
func (f sourceFunc) Stats() capture.Stats                 { return capture.Stats{} }
func (f sourceFunc) Unblock() error                       { return nil }
func (f sourceFunc) Close() error                         { return nil }

func TestChain(t *testing.T) {
	var sources []capture.Source
	for i := range 3 {
		m := newRing(t, capture.LinkEthernet, small())
		for n := range 5 {
			p := packet(10*i+n, 60)
			m.Add(&p)
		}
		m.End()
		sources = append(sources, m.Source())
	}
	c := mock.NewChain(sources...)
	got := drain(t, c)
	for i, p := range got {
		if int(p.Interface) != i/5 || int(p.Time-1e18) != 10*(i/5)+i%5 {
			t.Fatalf("packet %d: %+v", i, p)
		}
	}
	if s := c.Stats(); len(got) != 15 || s.Packets != 15 || s.Received != 15 || len(c.Interfaces()) != 3 {
		t.Fatalf("%d packets, %+v", len(got), s)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestChainUnblock holds that one Unblock has one answer, whichever source gives it.
func TestChainUnblock(t *testing.T) {
	var sources []capture.Source
	for i := range 3 {
		m := newRing(t, capture.LinkEthernet, small())
		p := packet(i, 60)
		m.Add(&p)
		m.End()
		sources = append(sources, m.Source())
	}
	c := mock.NewChain(sources...)
	c.Unblock()
	if _, err := c.NextBatch(); !errors.Is(err, capture.ErrUnblocked) {
		t.Fatal(err)
	}
	if got := drain(t, c); len(got) != 3 {
		t.Fatalf("%d packets", len(got))
	}
}

// TestPipeEnds ends pipes that wait: for packets, and for room.
func TestPipeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := errors.New("mine")
		for _, packets := range []int{0, 1000} {
			from := newRing(t, capture.LinkEthernet, afring.Config{})
			to := newRing(t, capture.LinkEthernet, small()) // which nobody reads
			for i := range packets {
				p := packet(i, 100)
				from.Add(&p)
			}
			from.Flush()
			ctx, cancel := context.WithCancelCause(t.Context())
			result := make(chan error)
			go func() { result <- to.Pipe(ctx, from.Source()) }()
			synctest.Wait()
			begin := time.Now()
			cancel(mine)
			if err := <-result; err != mine || time.Since(begin) != 0 {
				t.Fatalf("%d packets: %v after %v", packets, err, time.Since(begin))
			}
		}
	})
}

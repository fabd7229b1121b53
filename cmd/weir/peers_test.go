package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"weir/capture"
	"weir/capture/pcap"
)

// BenchmarkPeers gives weir and others the same capture, in turn: 10 million
// packets, cut to 96 octets, of 60 seconds. tcpdump makes no flows, it copies the
// packets to /dev/null; nfpcapd makes flows and writes them to a file. A peer that is
// not installed is left out. Each turn is one iteration:
//
//	go test ./cmd/weir -run '^$' -bench Peers -benchtime 5x
func BenchmarkPeers(b *testing.B) {
	const packets = 10_000_000
	program, err := buildProgram()
	if err != nil {
		b.Fatal(err)
	}
	for _, flows := range []int{100_000, 1_000_000} {
		dir := b.TempDir()
		file := filepath.Join(dir, "packets.pcap")
		writeMixed(b, file, packets, flows)
		b.Run(fmt.Sprintf("flows=%d", flows), func(b *testing.B) {
			peers := []struct {
				name string
				args []string
				took []float64
				rss  int64 // KiB, the largest
			}{
				{name: "weir", args: []string{program, "replay", "--output", "none", file}},
				{name: "tcpdump", args: []string{"tcpdump", "-r", file, "-w", "-"}},
				{name: "nfpcapd", args: []string{"nfpcapd", "-r", file, "-w", dir, "-B", fmt.Sprint(4 * flows)}},
			}
			for range b.N {
				for i := range peers {
					p := &peers[i]
					if _, err := exec.LookPath(p.args[0]); err != nil {
						continue
					}
					cmd := exec.Command(p.args[0], p.args[1:]...)
					var stderr bytes.Buffer
					cmd.Stderr = &stderr // and standard output goes to /dev/null
					began := time.Now()
					if err := cmd.Run(); err != nil {
						b.Fatalf("%s: %v: %s", p.name, err, stderr.Bytes())
					}
					p.took = append(p.took, time.Since(began).Seconds())
					p.rss = max(p.rss, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
				}
			}
			b.ReportMetric(0, "ns/op") // of all together: means nothing
			for _, p := range peers {
				if len(p.took) == 0 {
					continue
				}
				slices.Sort(p.took)
				b.ReportMetric(packets/1e6/p.took[len(p.took)/2], p.name+"-Mpps")
				b.ReportMetric(float64(p.rss)/1024, p.name+"-MiB")
			}
		})
	}
}

// writeMixed writes a capture of TCP flows, a quarter of them IPv6, whose sizes
// follow a law close to Zipf's; every flow has at least one packet.
func writeMixed(b *testing.B, path string, packets, flows int) {
	b.Helper()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	buf := bufio.NewWriterSize(f, 1<<20)
	w, err := pcap.NewWriter(buf, capture.LinkEthernet, 96)
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	var frame [96]byte
	for i := range packets {
		flow := uint32(math.Pow(float64(flows), r.Float64())) - 1
		if i%(packets/flows) == 0 {
			flow = uint32(i / (packets / flows))
		}
		// Ranks are spread over the addresses, lest popular flows be neighbours.
		mixedFrame(&frame, flow*2654435761, r.Uint32()%2 == 0)
		p := capture.Packet{Data: frame[:], WireLen: 1514, Time: int64(i) * int64(time.Minute) / int64(packets), LinkType: capture.LinkEthernet}
		if err := w.Write(&p); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := buf.Flush(); err != nil {
		b.Fatal(err)
	}
}

// mixedFrame writes a TCP data packet of a flow in one of its directions.
func mixedFrame(b *[96]byte, flow uint32, back bool) {
	*b = [96]byte{}
	var src, dst, l4 []byte
	if flow%4 == 0 {
		copy(b[12:], []byte{0x86, 0xdd, 0x60, 0, 0, 0, 0x05, 0xb4, 6, 64})
		src, dst, l4 = b[22:38], b[38:54], b[54:]
		src[0], dst[0] = 0x20, 0x20
	} else {
		copy(b[12:], []byte{0x08, 0, 0x45, 0, 0x05, 0xdc, 0, 0, 0, 0, 64, 6})
		src, dst, l4 = b[26:30], b[30:34], b[34:]
	}
	client, server := uint16(flow>>16)|0x8000, uint16(443)
	if back {
		src, dst = dst, src
		client, server = server, client
	}
	binary.BigEndian.PutUint32(src[len(src)-4:], 10<<24|flow&0xffffff)
	binary.BigEndian.PutUint32(dst[len(dst)-4:], 100<<24|flow>>12)
	binary.BigEndian.PutUint16(l4, client)
	binary.BigEndian.PutUint16(l4[2:], server)
	l4[12], l4[13] = 0x50, 0x10
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/bpf"

	"weir/capture"
	"weir/capture/afring"
	"weir/capture/filter"
	"weir/capture/link"
	"weir/capture/pcap"
)

// recording is one run of weir record.
type recording struct {
	iface      string
	output     string
	length     string
	filter     string
	filterFile string
	count      uint64
	duration   time.Duration
	rotateSize string
	rotateTime time.Duration
	files      int
	buffer     string
	ipOnly     bool
	promisc    bool
	quiet      bool
}

func newRecordCommand() *cobra.Command {
	var r recording
	cmd := &cobra.Command{
		Use:   "record -i INTERFACE -o FILE",
		Short: "Record packets of an interface into a capture file",
		Long: `Records the packets of an interface into a pcap file with nanoseconds, for weir replay
and every other program that reads captures. It ends after --count packets, after --duration, or at Ctrl-C.

Standard output carries nothing but packets, if FILE is -. The last line on standard error is
  packets=N drops=N bytes=N files=N seconds=N`,
		Example: `  weir record -i eth0 -o web.pcap --filter 'tcp port 443' --duration 1m
  weir record -i eth0 -o headers.pcap --snaplen ipv6-transport --count 100000
  weir record -i eth0 -o ring.pcap --rotate-size 100MB --files 10
  weir record -i lo -o - | weir replay -
  tcpdump -ddd 'udp port 53' | weir record -i eth0 -o dns.pcap --filter-file -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return r.run(cmd.Context(), cmd.OutOrStdout(), os.Stderr) },
	}
	f := cmd.Flags()
	f.StringVarP(&r.iface, "interface", "i", "", "`INTERFACE` to record; weir interfaces lists them")
	f.StringVarP(&r.output, "output", "o", "", "`FILE` to write, - for standard output")
	f.StringVar(&r.length, "snaplen", "all", "how much of each packet: all, octets, or ipv4-header, ipv4-transport, ipv6-header, ipv6-transport")
	f.StringVar(&r.filter, "filter", "", "record only what the `EXPRESSION` matches, see pcap-filter(7); tcpdump must be installed to compile it")
	f.StringVar(&r.filterFile, "filter-file", "", "`FILE` with a filter as tcpdump -ddd prints it, - for standard input")
	f.Uint64VarP(&r.count, "count", "c", 0, "end after that many packets")
	f.DurationVar(&r.duration, "duration", 0, "end after that time, such as 30s or 5m")
	f.StringVar(&r.rotateSize, "rotate-size", "", "begin another file when one has that `SIZE`, such as 100MB or 1GiB")
	f.DurationVar(&r.rotateTime, "rotate-time", 0, "begin another file after that time")
	f.IntVar(&r.files, "files", 0, "keep that many files of a rotation, deleting the oldest (default all)")
	f.StringVar(&r.buffer, "buffer", "16MiB", "`SIZE` of the ring between kernel and program")
	f.BoolVar(&r.ipOnly, "ip-only", false, "leave out what is not IP, such as ARP")
	f.BoolVar(&r.promisc, "promiscuous", false, "record packets for other hosts, too")
	f.BoolVarP(&r.quiet, "quiet", "q", false, "no progress on a terminal")
	_ = cmd.MarkFlagRequired("interface") // both flags are there
	_ = cmd.MarkFlagRequired("output")
	return cmd
}

// config returns the ring that was asked for. Its errors are of usage.
func (r *recording) config() (c afring.Config, rotate uint64, err error) {
	if c.CaptureLength, err = filter.ParseLength(r.length); err != nil {
		return c, 0, usage("--snaplen: %v", err)
	}
	if r.rotateSize != "" {
		if rotate, err = parseSize(r.rotateSize); err != nil {
			return c, 0, usage("--rotate-size: %v", err)
		}
	}
	if err := setBuffer(&c, r.buffer); err != nil {
		return c, 0, usage("--buffer: %v", err)
	}
	switch {
	case r.duration < 0:
		return c, 0, usage("--duration: %v is negative", r.duration)
	case r.rotateTime < 0:
		return c, 0, usage("--rotate-time: %v is negative", r.rotateTime)
	case r.files < 0:
		return c, 0, usage("--files: %d is negative", r.files)
	case r.files > 0 && rotate == 0 && r.rotateTime == 0:
		return c, 0, usage("--files: there is one file only without --rotate-size or --rotate-time")
	case r.output == "-" && (rotate > 0 || r.rotateTime > 0):
		return c, 0, usage("standard output is one file: leave out --rotate-size and --rotate-time")
	case r.filter != "" && r.filterFile != "":
		return c, 0, usage("--filter and --filter-file: one of them")
	}
	c.NoFilter, c.Promiscuous = !r.ipOnly, r.promisc
	return c, rotate, nil
}

func (r *recording) run(ctx context.Context, stdout io.Writer, stderr io.Writer) error {
	c, rotate, err := r.config()
	if err != nil {
		return err
	}
	l, err := link.ByName(r.iface)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	if c.Filter, err = r.program(ctx, &l); err != nil {
		return err
	}
	ring, err := afring.Open(l, c)
	if err != nil {
		return err
	}
	defer ring.Close()
	out := &files{path: r.output, stdout: stdout, rotate: rotate, every: r.rotateTime, keep: r.files, link: ring.Interfaces()[0].LinkType}
	if n := c.CaptureLength.Max(out.link); n < filter.Whole {
		out.snaplen = n
	}
	if err := out.open(); err != nil {
		return err
	}
	started := time.Now()
	bar := newProgress(stderr, r.quiet)
	bar.packets("record "+r.iface, r.count, func() uint64 { return ring.Stats().Packets })
	n, octets, err := r.copy(ctx, ring, out)
	bar.done()
	if cerr := out.close(); err == nil {
		err = cerr
	}
	ring.Close()
	s := ring.Stats()
	fmt.Fprintf(stderr, "packets=%d drops=%d bytes=%d files=%d seconds=%.3f\n", n, s.Drops, octets, out.number, time.Since(started).Seconds())
	return err
}

// drainFor is how long packets may take that were on their way when the recording
// was ended: until their block is handed over.
const drainFor = 3 * afring.DefaultRetireTimeout

// copy writes packets until the recording ends.
func (r *recording) copy(ctx context.Context, ring *afring.Ring, out *files) (n, octets uint64, err error) {
	if r.duration > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, r.duration)
		defer stop()
	}
	stop := context.AfterFunc(ctx, func() {
		_ = ring.Refuse() // where it fails, what comes from now on is not read
		time.AfterFunc(drainFor, func() { ring.Unblock() })
	})
	defer stop()
	flushed := time.Now()
	upTo := uint64(math.MaxUint64) // how many packets there are to write
	for n < upTo {
		packets, err := ring.NextBatch()
		if errors.Is(err, capture.ErrUnblocked) {
			// What has arrived by now is written, however slow the disk was.
			s := ring.Stats()
			upTo = s.Received - s.Drops
			continue
		}
		if err != nil {
			return n, octets, err
		}
		if len(packets) == 0 && upTo != math.MaxUint64 {
			break
		}
		for i := range packets {
			if err := out.write(&packets[i]); err != nil {
				return n, octets, err
			}
			octets += uint64(packets[i].WireLen)
			if n++; n == r.count || n == upTo {
				return n, octets, nil
			}
		}
		// Whoever follows the file sees them within a second or so.
		if now := time.Now(); now.Sub(flushed) >= time.Second {
			flushed = now
			if err := out.flush(); err != nil {
				return n, octets, err
			}
		}
	}
	return n, octets, nil
}

// program returns the filter of --filter or --filter-file.
func (r *recording) program(ctx context.Context, l *link.Link) ([]bpf.RawInstruction, error) {
	switch {
	case r.filterFile == "-":
		return filter.ParseDDD(os.Stdin)
	case r.filterFile != "":
		f, err := os.Open(r.filterFile)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return filter.ParseDDD(f)
	case r.filter == "":
		return nil, nil
	}
	t, _, err := l.LinkType()
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", l.Name, err)
	}
	if t != capture.LinkEthernet && t != capture.LinkLoopback {
		return compile(ctx, "-y", "RAW", "--", r.filter)
	}
	// For an interface, tcpdump compiles tests of VLAN tags that find them where the
	// kernel has put them, but has to be permitted to capture itself.
	program, err := compile(ctx, "-i", l.Name, "--", r.filter)
	if err == nil || errors.Is(err, errNoTcpdump) {
		return program, err
	}
	without, werr := compile(ctx, "-y", "EN10MB", "--", r.filter)
	if werr == nil && vlanTest.MatchString(r.filter) {
		return nil, fmt.Errorf("--filter: a test of VLAN tags has to be compiled for the interface, which failed: %w", err)
	}
	return without, werr
}

var (
	vlanTest     = regexp.MustCompile(`\bvlan\b`)
	errNoTcpdump = errors.New("--filter: tcpdump compiles expressions, and is not installed; install it, or bring the output of tcpdump -ddd from elsewhere with --filter-file")
)

// compile has tcpdump compile an expression: libpcap's is the compiler of that
// language, and its program is data to us.
func compile(ctx context.Context, arguments ...string) ([]bpf.RawInstruction, error) {
	text, err := exec.CommandContext(ctx, "tcpdump", append([]string{"-ddd", "-s", fmt.Sprint(filter.Whole)}, arguments...)...).Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return nil, usage("--filter: tcpdump does not take the expression: %s", strings.TrimSpace(string(exit.Stderr)))
	}
	if errors.Is(err, exec.ErrNotFound) {
		return nil, errNoTcpdump
	}
	if err != nil {
		return nil, fmt.Errorf("--filter: run tcpdump: %w", err)
	}
	return filter.ParseDDD(strings.NewReader(string(text)))
}

// files are what a recording writes.
type files struct {
	path    string
	stdout  io.Writer
	link    capture.LinkType
	snaplen uint32
	rotate  uint64        // octets of a file, 0 for no limit
	every   time.Duration // time of a file, 0 for no limit
	keep    int           // files, 0 for all

	number int // of the current file, from 1
	file   *os.File
	w      *pcap.Writer
	size   uint64
	since  time.Time
	names  []string
}

func (f *files) rotates() bool { return f.rotate > 0 || f.every > 0 }

func (f *files) open() (err error) {
	f.number++
	w := f.stdout
	if f.path != "-" {
		name := f.path
		if f.rotates() {
			ext := filepath.Ext(name)
			name = fmt.Sprintf("%s-%06d%s", strings.TrimSuffix(name, ext), f.number, ext)
		}
		if f.file, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
			return err
		}
		f.names = append(f.names, name)
		w = f.file
	}
	f.size, f.since = pcap.FileHeaderLen, time.Now()
	f.w, err = pcap.NewWriter(w, f.link, f.snaplen)
	return err
}

func (f *files) write(p *capture.Packet) error {
	n := f.w.RecordLen(p)
	if f.rotate > 0 && f.size+n > f.rotate && f.size > pcap.FileHeaderLen || f.every > 0 && time.Since(f.since) >= f.every {
		if err := f.close(); err != nil {
			return err
		}
		if f.keep > 0 && len(f.names) >= f.keep {
			// Somebody may have moved it elsewhere meanwhile.
			if err := os.Remove(f.names[0]); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			f.names = f.names[1:]
		}
		if err := f.open(); err != nil {
			return err
		}
	}
	f.size += n
	return f.w.Write(p)
}

func (f *files) flush() error { return f.w.Flush() }

func (f *files) close() error {
	err := f.w.Flush()
	if f.file != nil {
		if cerr := f.file.Close(); err == nil {
			err = cerr
		}
	}
	return err
}

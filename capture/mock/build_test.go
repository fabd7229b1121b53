package mock_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"weir/capture"
	"weir/capture/mock"
	"weir/capture/pcap"
	"weir/internal/lack"
)

// TestBuilder has tshark look at built packets: every length, checksum and protocol.
func TestBuilder(t *testing.T) {
	e, data := mock.Ethernet(), []byte("seven o")
	type built struct {
		packet    capture.Packet
		protocols string
	}
	cases := []built{
		{e.IPv4(a4, b4).TCP(40000, 4433, mock.SYN).Packet(), "eth:ethertype:ip:tcp"},
		{e.IPv4(a4, b4).TCP(40000, 4433, mock.ACK|mock.PSH).Payload(data).Packet(), "eth:ethertype:ip:tcp:data"},
		{e.IPv4(a4, b4, 1, 1, 1).UDP(40000, 4433).Payload(data).Packet(), "eth:ethertype:ip:udp:data"},
		{e.IPv4(a4, b4).ICMP(8, 0).Payload(data).Packet(), "eth:ethertype:ip:icmp:data"},
		{e.IPv6(a6, b6).TCP(40000, 4433, mock.SYN|mock.ACK).Payload(data).Packet(), "eth:ethertype:ipv6:tcp"},
		{e.IPv6(a6, b6).Options(0).Options(60).UDP(40000, 4433).Payload(data).Packet(), "eth:ethertype:ipv6:ipv6.hopopts:ipv6.dstopts:udp:data"},
		{e.IPv6(a6, b6).ICMP(128, 0).Payload(data).Packet(), "eth:ethertype:ipv6:icmpv6:data"},
		{e.VLAN(0x88a8, 5).VLAN(0x8100, 7).IPv4(a4, b4).UDP(40000, 4433).Payload(data).Packet(), "eth:ethertype:ieee8021ad:ethertype:vlan:ethertype:ip:udp:data"},
		{e.MPLS(100).MPLS(200).IPv4(a4, b4).UDP(40000, 4433).Payload(data).Packet(), "eth:ethertype:mpls:ip:udp:data"},
		{e.PPPoE(3).IPv6(a6, b6).UDP(40000, 4433).Payload(data).Packet(), "eth:ethertype:pppoes:ppp:ipv6:udp:data"},
		{e.MAC([6]byte{2, 0, 0, 0, 0, 9}, [6]byte{1, 0, 0x5e, 0, 0, 1}).IPv4(a4, b4).TTL(1).ID(77).TCP(40000, 4433, mock.SYN, 2, 4, 5, 180, 1).Seq(1000, 0).Packet(), "eth:ethertype:ip:tcp"},
		{e.IPv6(a6, b6).IPv4(a4, b4).ICMP(8, 0).Payload(data).Packet(), "eth:ethertype:ipv6:ip:icmp:data"},
		{e.IPv4(a4, b4).IPv6(a6, b6).ICMP(128, 0).Payload(data).Packet(), "eth:ethertype:ip:ipv6:icmpv6:data"},
	}
	long := bytes.Repeat(data, 20)
	for _, ip := range []mock.Builder{e.IPv4(a4, b4).ID(9), e.IPv6(a6, b6).ID(9)} {
		fragments := ip.UDP(40000, 4433).Payload(long).Fragments(64)
		if len(fragments) != 3 {
			t.Fatalf("%d fragments of 148 octets", len(fragments))
		}
		version := []string{"ip", "ipv6:ipv6.fraghdr"}[ip.Packet().Data[12]>>7]
		for i, f := range fragments {
			protocols := "eth:ethertype:" + version + ":data"
			if i == len(fragments)-1 { // where tshark shows what it has put together
				protocols = "eth:ethertype:" + version + ":udp:data"
			}
			cases = append(cases, built{f, protocols})
		}
	}
	path := filepath.Join(t.TempDir(), "built.pcap")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := pcap.NewWriter(f, capture.LinkEthernet, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range cases {
		if n := cases[i].packet.Network(); n.Cause != capture.OK {
			t.Errorf("packet %d: no IP by cause %d", i, n.Cause)
		}
		if err := w.Write(&cases[i].packet); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("tshark", "-nr", path, "-T", "fields", "-e", "frame.protocols", "-e", "_ws.expert.message", "-e", "_ws.malformed",
		"-e", "eth.src", "-e", "eth.dst", "-e", "ip.ttl", "-e", "ip.id", "-e", "tcp.seq_raw", "-e", "tcp.options.mss_val",
		"-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE")
	out, err := cmd.Output()
	if err != nil {
		lack.Of(t, "tshark is needed: "+err.Error())
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != len(cases) {
		t.Fatalf("%d lines: %s", len(lines), out)
	}
	for i, line := range lines {
		fields := strings.Split(line, "\t")
		if !strings.HasPrefix(fields[0], cases[i].protocols) || fields[2] != "" ||
			strings.Contains(strings.ToLower(fields[1]), "checksum") || strings.Contains(strings.ToLower(fields[1]), "bad") {
			t.Errorf("packet %d: %q, want %s", i, line, cases[i].protocols)
		}
	}
	const set = "02:00:00:00:00:09\t01:00:5e:00:00:01\t1\t0x004d\t1000\t1460"
	if !strings.HasSuffix(lines[10], set) {
		t.Errorf("%q, want %q", lines[10], set)
	}
}

package mock_test

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"weir/capture"
	"weir/capture/mock"
	"weir/capture/pcap"
)

// TestBuilder has tshark look at built packets: every length, checksum and protocol.
func TestBuilder(t *testing.T) {
	a4, b4 := netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("10.99.0.2")
	a6, b6 := netip.MustParseAddr("fd99::1"), netip.MustParseAddr("fd99::2")
	e, data := mock.Ethernet(), []byte("seven o")
	cases := []struct {
		packet    capture.Packet
		protocols string
	}{
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
		"-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE")
	out, err := cmd.Output()
	if err != nil {
		if os.Getenv("CI") == "" {
			t.Skip("tshark is not installed")
		}
		t.Fatal(err)
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
}

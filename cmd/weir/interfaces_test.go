package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"weir/capture/capturetest"
	"weir/capture/link"
)

// TestInterfaces lists the interfaces of a namespace that the test has made.
func TestInterfaces(t *testing.T) {
	capturetest.Namespace(t)
	capturetest.Cable(t, "va", "vb")
	capturetest.IP(t, "addr add 192.0.2.1/24 dev va")
	capturetest.IP(t, "addr add 192.0.2.2/24 dev va")
	capturetest.IP(t, "link add br0 type bridge")
	capturetest.IP(t, "link set vb master br0")
	// What would turn a terminal red, and be a command to a shell.
	const odd = "\x1b[31m;$x"
	capturetest.IP(t, "link add "+odd+" type veth peer name peer")

	r := weir(t, nil, "interfaces")
	if r.code != exitOK || r.stderr != "" {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	lines := map[string]string{}
	for line := range strings.Lines(r.stdout) {
		if f := strings.Fields(line); len(f) > 0 {
			lines[f[0]] = strings.Join(f, " ")
		}
	}
	for name, want := range map[string][]string{
		"lo":           {"LOOPBACK up 65536", "yes"},
		"va":           {"EN10MB veth up 1500 192.0.2.1/24 yes"},
		"192.0.2.2/24": {"192.0.2.2/24"},
		"vb":           {"EN10MB veth up 1500 br0", "yes"},
		"br0":          {"EN10MB bridge down 1500 no: interface is down; ip link set br0 up"},
		`\x1b[31m;$x`:  {`down 1500 no: interface is down; ip link set "\\x1b[31m;$x" up`},
	} {
		for _, w := range want {
			if !strings.Contains(lines[name], w) {
				t.Errorf("%s: %q is not in %q", name, w, lines[name])
			}
		}
	}
	if strings.Contains(r.stdout, "\x1b") {
		t.Errorf("%q", r.stdout)
	}

	r = weir(t, nil, "interfaces", "--output", "json", "va", odd)
	var got []map[string]any
	for d := json.NewDecoder(strings.NewReader(r.stdout)); d.More(); {
		var m map[string]any
		if err := d.Decode(&m); err != nil {
			t.Fatal(err)
		}
		got = append(got, m)
	}
	if len(got) != 2 || got[0]["addresses"] != "192.0.2.1/24 192.0.2.2/24" || got[0]["mtu"] != 1500.0 || got[1]["name"] != odd {
		t.Errorf("%q", r.stdout)
	}

	for want, args := range map[int][]string{
		exitFailure: {"vc"}, exitUsage: {"/(/"}, exitOK: {"/none/"},
	} {
		if r := weir(t, nil, append([]string{"interfaces"}, args...)...); r.code != want {
			t.Errorf("%q: exit %d: %s", args, r.code, r.stderr)
		}
	}
	if r := weir(t, nil, "interfaces", "--output", "xml"); r.code != exitUsage {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}

// TestInterfacesWithoutRights runs it as a root who may not capture.
func TestInterfacesWithoutRights(t *testing.T) {
	capturetest.Namespace(t)
	path, err := buildProgram()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("setpriv", "--bounding-set=-net_raw", path, "interfaces")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "LOOPBACK") {
		t.Fatalf("%v: %s%s", err, out, &stderr)
	}
	if s := stderr.String(); !strings.Contains(s, "CAP_NET_RAW") || !strings.Contains(s, "setcap cap_net_raw+ep "+path) {
		t.Error(s)
	}
}

// TestInterfaceRows shows what not every kernel can make.
func TestInterfaceRows(t *testing.T) {
	links := []link.Link{
		{Index: 2, Name: "eth0", Hardware: unix.ARPHRD_ETHER, Up: true, Running: true},
		{Index: 3, Name: "eth0.7", Hardware: unix.ARPHRD_ETHER, Up: true, Kind: "vlan", IsVLAN: true, VLAN: 7, Parent: 2},
		{Index: 4, Name: "v8", Hardware: unix.ARPHRD_ETHER, Kind: "vlan", IsVLAN: true, VLAN: 8},
		{Index: 5, Name: "gre1", Hardware: unix.ARPHRD_IPGRE, Up: true, Running: true, Kind: "gre"},
		{Index: 6, Name: "nlmon0", Hardware: unix.ARPHRD_NETLINK, Up: true, Kind: "nlmon"},
		{Index: 7, Name: "x0", Hardware: 65000, Up: true, Running: true},
	}
	var got strings.Builder
	for _, row := range interfaceRows(links, links, true) {
		for _, c := range row {
			fmt.Fprintf(&got, "%s|", c.shown)
		}
		got.WriteByte('\n')
	}
	const want = `eth0|2|EN10MB||up|0|||yes|
eth0.7|3|EN10MB|vlan|up, no carrier|0|eth0 vlan 7||yes|
v8|4|EN10MB|vlan|down|0|vlan 8 of another namespace||no: interface is down; ip link set v8 up|
gre1|5|IPGRE|gre|up|0|||yes, headers taken off by the kernel|
nlmon0|6|NETLINK|nlmon|up, no carrier|0|||no: unsupported link type NETLINK (824), which carries no IP|
x0|7|65000||up|0|||yes, headers taken off by the kernel|
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

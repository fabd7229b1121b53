package mock

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weir/capture"
	"weir/capture/afring"
	"weir/capture/capturetest"
	"weir/capture/filter"
	"weir/capture/socket"
)

// kernelRing is a ring of the kernel's, of which only the memory is looked at.
func kernelRing(t *testing.T, index, blockSize, blocks int) []byte {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	for option, value := range map[int]int{unix.PACKET_VERSION: unix.TPACKET_V3, unix.PACKET_VNET_HDR: 1} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, option, value); err != nil {
			t.Fatal(err)
		}
	}
	request := unix.TpacketReq3{Block_size: uint32(blockSize), Block_nr: uint32(blocks), Frame_size: uint32(blockSize),
		Frame_nr: uint32(blocks), Retire_blk_tov: 100_000, Feature_req_word: 1}
	if err := unix.SetsockoptTpacketReq3(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &request); err != nil {
		t.Fatal(err)
	}
	memory, err := unix.Mmap(fd, 0, blockSize*blocks, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(memory) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: index, Protocol: socket.HostOrder(unix.ETH_P_IP)}); err != nil {
		t.Fatal(err)
	}
	return memory
}

// fields are all that is not of this very moment, with names for the eye.
func fields(block []byte) (all []string) {
	u16, u32 := native.Uint16, native.Uint32
	all = append(all, fmt.Sprintf("version %d, private area at %d, %d packets from %d on, length %d, number %d",
		u32(block), u32(block[4:]), u32(block[12:]), u32(block[16:]), u32(block[20:]), native.Uint64(block[24:])))
	at := int(u32(block[16:]))
	first, last := block[at+4:at+12], []byte(nil)
	for range u32(block[12:]) {
		f := block[at:]
		mac, snaplen := int(u16(f[24:])), u32(f[12:])
		all = append(all, fmt.Sprintf("next %d, %d of %d octets, status %x, mac %d, net %d, VLAN %x %x, family %d, protocol %x, type %d, vnet % x, data %x",
			u32(f), snaplen, u32(f[16:]), u32(f[20:]), mac, u16(f[26:]), u32(f[32:]), u16(f[36:]), u16(f[48:]), binary.BigEndian.Uint16(f[50:]),
			f[58], f[mac-10:mac], f[mac:mac+int(snaplen)]))
		last = f[4:12]
		at += int(u32(f))
	}
	if len(last) > 0 && !bytes.Equal(block[40:48], last) {
		all = append(all, "the block's last time is not that of its last packet")
	}
	if at := native.Uint32(block[32:]); at == 0 || at > native.Uint32(first) {
		all = append(all, "the block begins after its first packet")
	}
	return all
}

// TestLayout gives the kernel and the mock the same packets: the blocks are the same.
func TestLayout(t *testing.T) {
	capturetest.Namespace(t)
	left, right := capturetest.Cable(t, "left", "right")
	const blockSize, blocks, full = 72 << 10, 8, 6
	memory := kernelRing(t, right.Index, blockSize, blocks)
	m, err := NewRing("right", capture.LinkEthernet, afring.Config{BlockSize: blockSize, Blocks: blocks,
		RetireTimeout: 10 * time.Second, Config: socket.Config{Promiscuous: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Source().Close()
	m.iface.Index = right.Index
	to := []byte{2, 0, 0, 0, 0, 2}
	capturetest.IP(t, "link set right address 02:00:00:00:00:02")
	sender := capturetest.NewSender(t, left)
	rng := rand.New(rand.NewPCG(1, 1))
	handedOver := func(i int) bool { return afring.HandedOver(memory[i*blockSize : (i+1)*blockSize]) }
	for !afring.HandedOver(m.block(full - 1)) {
		size := 34 + rng.IntN(1480)
		if rest := blockSize - m.at - 92; m.at != 0 && rest >= 34 && rest <= 1514 {
			size = rest // it would fill the block to its last octet
		}
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		copy(data, to)
		data[12], data[13], data[14] = 8, 0, 0x45
		kind := capture.PacketHost
		switch rng.IntN(4) {
		case 0:
			copy(data, []byte{2, 9, 9, 9, 9, 9})
			kind = capture.PacketOtherHost
		case 1:
			copy(data, []byte{255, 255, 255, 255, 255, 255})
			kind = capture.PacketBroadcast
		}
		if err := sender.Send(data); err != nil {
			t.Fatal(err)
		}
		p := capture.Packet{Data: data, Type: kind, Time: time.Now().UnixNano()}
		if v := m.Add(&p); v != Queued {
			t.Fatalf("verdict %d", v)
		}
	}
	for end := time.Now().Add(20 * time.Second); !handedOver(full - 1); {
		if time.Now().After(end) {
			t.Fatal("the kernel does not hand over what the mock hands over")
		}
	}
	for i := range full {
		want, got := fields(memory[i*blockSize:(i+1)*blockSize]), fields(m.block(i))
		for n := range want {
			if n >= len(got) || got[n] != want[n] {
				t.Fatalf("block %d, line %d: %.300s\nthe kernel has %.300s", i, n, slices.Concat(got, []string{""})[min(n, len(got))], want[n])
			}
		}
		if len(got) != len(want) {
			t.Fatalf("block %d: %s", i, got[len(want)])
		}
	}
}

// TestOffsets holds the offsets of each kind of ring, as tpacket_rcv computes them.
func TestOffsets(t *testing.T) {
	for _, c := range []struct {
		link     capture.LinkType
		mac, net int
	}{
		{capture.LinkEthernet, 92, 106}, {capture.LinkLoopback, 92, 106}, {capture.LinkNone, 106, 106}, {capture.LinkCooked, 96, 96},
	} {
		m, err := NewRing("mock0", c.link, afring.Config{BlockSize: 4096, Blocks: 2, Config: socket.Config{CaptureLength: filter.Fixed(100), NoFilter: true}})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Source().Close()
		if mac, net := m.place(); mac != c.mac || net != c.net {
			t.Errorf("%v: %d and %d, want %d and %d", c.link, mac, net, c.mac, c.net)
		}
		p := capture.Packet{Data: []byte{0x45, 1, 2, 3}, WireLen: 4, Protocol: 0x0800, Type: capture.PacketHost}
		if v := m.Add(&p); v != Queued {
			t.Fatalf("%v: verdict %d", c.link, v)
		}
		m.Flush()
		packets, err := m.Source().NextBatch()
		if err != nil || len(packets) != 1 || !bytes.Equal(packets[0].Data, p.Data) {
			t.Fatalf("%v: %+v, %v", c.link, packets, err)
		}
		if want := packets[0].Protocol; c.link == capture.LinkCooked && want != 0x0800 {
			t.Fatalf("protocol %x", want)
		}
	}
}

// TestTooLarge adds packets that no block can hold: they are cut, and the empty
// block before the first of them is no stumbling block for the reader.
func TestTooLarge(t *testing.T) {
	const blockSize = 72 << 10
	m, err := NewRing("mock0", capture.LinkEthernet, afring.Config{BlockSize: blockSize, Blocks: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Source().Close()
	p := capture.Packet{Data: make([]byte, 100_000), Type: capture.PacketHost}
	p.Data[12], p.Data[14] = 8, 0x45
	for i, want := range []Verdict{Queued, Queued, Dropped} {
		if v := m.Add(&p); v != want {
			t.Fatalf("packet %d: verdict %d, want %d", i, v, want)
		}
	}
	m.End()
	for i := range 2 {
		packets, err := m.Source().NextBatch()
		if err != nil || len(packets) != 1 || len(packets[0].Data) != blockSize-blockHeaderLen-92 || packets[0].WireLen != 100_000 {
			t.Fatalf("packet %d: %d packets, %v", i, len(packets), err)
		}
	}
}

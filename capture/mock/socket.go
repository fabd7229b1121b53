package mock

import (
	"bytes"

	"weir/capture"
	"weir/capture/afpacket"
)

// Socket plays the kernel for one plain packet socket. Its methods may be called
// from any goroutine.
type Socket struct {
	host
	source *afpacket.Source

	// Under the lock.
	queue []message
	used  int // of size
	size  int
}

// message is a packet in the socket's buffer.
type message struct {
	packet capture.Packet // its data is as much as is captured
	vnet   [capture.VnetHeaderLen]byte
	cost   int
}

// bookkeeping is what a packet takes of a socket's buffer besides its own octets:
// struct sk_buff and the like (skb->truesize of include/linux/skbuff.h).
const bookkeeping = 800

// NewSocket returns a socket for packets of a link type. The configuration counts
// as it would for an interface: filter, capture length, what is ignored, and the
// size of the buffer.
func NewSocket(name string, link capture.LinkType, c afpacket.Config) (m *Socket, err error) {
	m = &Socket{size: c.BufferSize}
	if m.size == 0 {
		m.size = afpacket.DefaultBufferSize
	}
	if err := m.prepare(m, name, link, &c.Config); err != nil {
		return nil, err
	}
	if m.source, err = afpacket.Connect(&socketPort{(*port)(&m.host), m}, m.iface, c); err != nil {
		return nil, err
	}
	return m, nil
}

// Source returns what the program under test reads.
func (m *Socket) Source() *afpacket.Source { return m.source }

// room goes by what is there, not by what comes: so does packet_rcv of
// net/packet/af_packet.c.
func (m *Socket) room(*capture.Packet, int) bool { return m.used < m.size }

func (m *Socket) put(p *capture.Packet, captured int) bool {
	if !m.room(p, captured) {
		return false
	}
	q := message{packet: *p, vnet: m.vnet(p), cost: bookkeeping + int(wireLen(p))}
	q.packet.Data = bytes.Clone(p.Data[:captured])
	q.packet.WireLen = wireLen(p)
	q.packet.Type = capture.PacketType(packetType(p))
	m.queue = append(m.queue, q)
	m.used += q.cost
	m.notify()
	return true
}

func (m *Socket) flush()  {}
func (m *Socket) refill() {}

// socketPort adds to a port what afpacket wants of it.
type socketPort struct {
	*port
	m *Socket
}

var _ afpacket.Port = (*socketPort)(nil)

// Receive implements afpacket.Port.
func (s *socketPort) Receive(packets []capture.Packet, buffers [][]byte) (n int, err error) {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	for n < min(len(packets), len(buffers), len(m.queue)) {
		q, p := &m.queue[n], &packets[n]
		p.Data = buffers[n][:copy(buffers[n], q.packet.Data)]
		p.Type, p.WireLen, p.Time = q.packet.Type, q.packet.WireLen, q.packet.Time
		p.VLANTCI, p.VLANTPID = 0, 0
		if q.packet.VLANTPID != 0 {
			p.VLANTCI, p.VLANTPID = q.packet.VLANTCI, q.packet.VLANTPID
		}
		if m.iface.LinkType == capture.LinkCooked {
			p.Protocol = q.packet.Protocol
		} else {
			p.SetGSO(&q.vnet)
		}
		m.used -= q.cost
		*q = message{}
		n++
	}
	if m.queue = m.queue[n:]; n > 0 {
		m.notify()
	}
	return n, nil
}

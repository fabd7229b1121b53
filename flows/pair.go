package flows

// orientation says which way a packet goes within its conversation: 0 as the
// conversation's key has it, 1 back.
type orientation uint8

// conversation returns the key under which both directions of k's conversation
// are found, and which way k goes in it: the lower endpoint first, or, for ICMP
// messages that come as request and reply, the one who asks. The direction is
// not part of it.
func conversation(k *Key, m marks) (Key, orientation) {
	c := *k
	c.rest &^= keyDirection
	if isICMP(k) {
		if request := requestOf[icmpFamily(k)][icmpType(k)]; request != 0 && m&markICMP != 0 {
			if request == icmpType(k) {
				return c, 0
			}
			c = c.swapAddresses()
			c.setICMPType(request)
			return c, 1
		}
		if c.dstBelowSrc() {
			return c.swapAddresses(), 1
		}
		return c, 0
	}
	if c.dstBelowSrc() || c.srcHi == c.dstHi && c.srcLo == c.dstLo && c.SrcPort() > c.DstPort() {
		return c.swapAddresses().swapPorts(), 1
	}
	return c, 0
}

// answer returns the key of the packets that answer k's on an interface of one
// of the two endpoints, where in answers out.
func (k Key) answer(m marks) Key {
	d := k.Direction().reverse()
	k = k.swapAddresses()
	k.rest = k.rest&^keyDirection | uint64(d)
	if !isICMP(&k) {
		return k.swapPorts()
	}
	family, typ := icmpFamily(&k), icmpType(&k)
	switch request := requestOf[family][typ]; {
	case request == 0 || m&markICMP == 0:
	case request == typ:
		k.setICMPType(replyTo(family, request))
	default:
		k.setICMPType(request)
	}
	return k
}

const (
	keyDirection = 0xff
	keyPorts     = 0xffffffff << 32
	keyICMPType  = 0xff << 40
)

func (k *Key) dstBelowSrc() bool {
	return k.dstHi < k.srcHi || k.dstHi == k.srcHi && k.dstLo < k.srcLo
}

func (k Key) swapAddresses() Key {
	k.srcHi, k.srcLo, k.dstHi, k.dstLo = k.dstHi, k.dstLo, k.srcHi, k.srcLo
	return k
}

func (k Key) swapPorts() Key {
	k.rest = k.rest&^keyPorts | uint64(k.DstPort())<<48 | uint64(k.SrcPort())<<32
	return k
}

func (k *Key) setICMPType(t uint8) { k.rest = k.rest&^keyICMPType | uint64(t)<<40 }

func isICMP(k *Key) bool { return k.Proto() == protoICMP || k.Proto() == protoICMPv6 }

func icmpType(k *Key) uint8 { return uint8(k.rest >> 40) }

// icmpFamily is 0 for ICMP and 1 for ICMPv6.
func icmpFamily(k *Key) int {
	if k.Proto() == protoICMPv6 {
		return 1
	}
	return 0
}

// requestReply lists the ICMP types that come in pairs (IANA "ICMP Type Numbers"
// and "ICMPv6 Parameters"): request, reply.
var requestReply = [2][][2]uint8{
	{{8, 0}, {10, 9}, {13, 14}, {15, 16}, {17, 18}, {35, 36}, {37, 38}, {42, 43}},
	{{128, 129}, {130, 131}, {133, 134}, {135, 136}, {139, 140}, {144, 145}, {146, 147}, {160, 161}},
}

// requestOf gives the request's type for a request or a reply, 0 for any other
// type. No request has type 0.
var requestOf = func() (r [2][256]uint8) {
	for family, pairs := range requestReply {
		for _, p := range pairs {
			r[family][p[0]], r[family][p[1]] = p[0], p[0]
		}
	}
	return r
}()

func replyTo(family int, request uint8) uint8 {
	for _, p := range requestReply[family] {
		if p[0] == request {
			return p[1]
		}
	}
	return request
}

// evidence returns what one cell says about who initiated its conversation: the
// reason, and the orientation of the initiator's packets.
func evidence(conv *Key, u *tally) (Initiator, orientation) {
	switch {
	case u.marks&markSYN != 0:
		return InitiatorSYN, u.way
	case u.marks&markSYNACK != 0:
		return InitiatorSYN, u.way ^ 1
	case isICMP(conv):
		if typ := icmpType(conv); typ != 0 && requestOf[icmpFamily(conv)][typ] == typ {
			return InitiatorICMP, 0 // its key is that of the request
		}
	case isService(conv.SrcPort(), conv.DstPort()):
		return InitiatorPort, 1
	case isService(conv.DstPort(), conv.SrcPort()):
		return InitiatorPort, 0
	}
	return InitiatorFirst, u.way
}

// isService reports whether port is that of a service which peer's owner has
// called: a system port (RFC 6335 section 6) against another, or one below
// Linux's ephemeral range (net.ipv4.ip_local_port_range) against one in it.
func isService(port, peer uint16) bool {
	const system, ephemeral = 1024, 32768
	return port != 0 && (port < system && peer >= system || port < ephemeral && peer >= ephemeral)
}

// report emits the records of one conversation in this interval: nearly always
// one. There are more where the host forwards packets out of the interface that
// they came in by: each packet is then seen twice, and so is each flow.
func (t *Tracker) report(c uint32, v *conv, table *Table, end int64, final bool, emit func(*Record)) {
	var cells [2][3]*cell[tally] // by orientation and direction
	t.update(&t.convs.at(c).key, v, table)
	reason := t.endReason(v, end, final)
	from := v.from
	for i := v.cells; i != 0; {
		cell := table.flows.at(i - 1)
		if t.cfg.Uniflow {
			t.emit(v, cell, nil, reason, emit)
		} else {
			cells[cell.val.way^from][cell.key.Direction()] = cell
		}
		i = cell.val.link
	}
	v.cells = 0
	if !t.cfg.Uniflow {
		t.pair(v, &cells, reason, emit)
	}
	if reason == EndIdle {
		t.drop(c)
	}
}

// pair emits the initiator's cells (cells[0]) each with its answer (cells[1]):
// first those whose directions fit a host at one end, then those that go the same
// way, as on lo or where others' packets are listened to, then what is left.
func (t *Tracker) pair(v *conv, cells *[2][3]*cell[tally], reason EndReason, emit func(*Record)) {
	for d, there := range cells[0] {
		back := &cells[1][Direction(d).reverse()]
		if there != nil && *back != nil {
			t.emit(v, there, *back, reason, emit)
			cells[0][d], *back = nil, nil
		}
	}
	for _, there := range cells[0] {
		if there == nil {
			continue
		}
		var back *cell[tally]
		for d := range cells[1] {
			if cells[1][d] != nil {
				back, cells[1][d] = cells[1][d], nil
				break
			}
		}
		t.emit(v, there, back, reason, emit)
	}
	for _, back := range cells[1] {
		if back != nil {
			t.emit(v, nil, back, reason, emit)
		}
	}
}

// emit makes a record of the packets there and back, either of which may be nil.
func (t *Tracker) emit(v *conv, there, back *cell[tally], reason EndReason, emit func(*Record)) {
	r := &t.record
	*r = Record{Initiator: v.by, EndReason: reason}
	switch {
	case back == nil:
		r.Key, r.Forward, r.First, r.Last = there.key, there.val.counters(), there.val.first, there.val.last
	case there == nil:
		r.Key, r.Reverse, r.First, r.Last = back.key.answer(back.val.marks), back.val.counters(), back.val.first, back.val.last
	default:
		r.Key, r.Forward, r.Reverse = there.key, there.val.counters(), back.val.counters()
		r.First, r.Last = min(there.val.first, back.val.first), max(there.val.last, back.val.last)
	}
	r.Start = v.start
	emit(r)
}

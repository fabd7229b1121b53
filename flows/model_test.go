package flows

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"weir/capture"
)

// model makes records as the rules say it, packet by packet, with no thought of
// speed. It is written from the rules and shares nothing with Tracker but the
// types, so that neither excuses the other.
type model struct {
	idle, active int64
	uniflow      bool
	known        map[string]*modelFlow
	began        int
}

// modelFlow is what is known of a conversation over intervals.
type modelFlow struct {
	start, last int64
	by          Initiator
	initiator   string // endpoint
	seen, fin   map[string]bool
	rst, ended  bool
	straggled   bool // came in the interval after the end
	cut         bool // by the active timeout
}

// modelPacket is a decoded packet as people would note it down.
type modelPacket struct {
	time     int64
	key      Key
	from, to string // endpoints
	octets   uint64
	flags    uint8
	icmp     int // type, -1 where there is none
}

// icmpPairs are the requests that the tests use, and their replies.
var icmpPairs = []struct{ proto, request, reply int }{{1, 8, 0}, {1, 13, 14}, {58, 128, 129}, {58, 135, 136}}

// conversation names the conversation of a packet, and says whether it is a request
// or a reply of ICMP.
func (p *modelPacket) conversation(uniflow bool) (name string, asks, answers bool) {
	if uniflow {
		return fmt.Sprint(p.key), false, false
	}
	for _, pair := range icmpPairs {
		if int(p.key.Proto()) != pair.proto || p.icmp != pair.request && p.icmp != pair.reply {
			continue
		}
		client, server := p.from, p.to
		if answers = p.icmp == pair.reply; answers {
			client, server = p.to, p.from
		}
		return fmt.Sprintf("%v asks %v: %v code %d vlan %d", client, server, pair, p.key.DstPort()&0xff, p.key.VLAN()), !answers, answers
	}
	ends := []string{p.from, p.to}
	slices.Sort(ends)
	return fmt.Sprintf("%v proto %d vlan %d icmp %d", ends, p.key.Proto(), p.key.VLAN(), max(int(p.key.DstPort())*boolInt(isICMP(&p.key)), 0)), false, false
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// note takes a packet down.
func note(p *capture.Packet) modelPacket {
	var h Headers
	if v := h.Decode(p); v != OK {
		panic(v)
	}
	n := modelPacket{time: p.Time, key: h.Key, octets: h.Octets, flags: h.TCPFlags, icmp: -1}
	n.from, n.to = h.Key.Src().String(), h.Key.Dst().String()
	if isICMP(&h.Key) {
		if fragment := p.Data[0]>>4 == 4 && (p.Data[6]&0x1f != 0 || p.Data[7] != 0); !fragment {
			n.icmp = int(h.Key.DstPort() >> 8)
		}
	} else {
		n.from += fmt.Sprintf(" %05d", h.Key.SrcPort())
		n.to += fmt.Sprintf(" %05d", h.Key.DstPort())
	}
	return n
}

// interval makes the records of one interval.
func (m *model) interval(packets []modelPacket, end int64, final bool) (records []Record) {
	// Later fragments of ICMP have the key of an echo reply; where there are both,
	// nobody can tell them apart any more.
	types := map[Key]int{}
	for _, p := range packets {
		if p.icmp >= 0 {
			types[p.key] = p.icmp
		}
	}
	var order []string
	parts := map[string][]modelPacket{}
	for _, p := range packets {
		if typ, ok := types[p.key]; ok {
			p.icmp = typ
		}
		name, _, _ := p.conversation(m.uniflow)
		if parts[name] == nil {
			order = append(order, name)
		}
		parts[name] = append(parts[name], p)
	}
	for _, name := range order {
		records = append(records, m.flow(name, parts[name], end, final)...)
	}
	for name, f := range m.known {
		if m.apart(f, end, end) {
			delete(m.known, name)
		}
	}
	return records
}

// flow makes the records of one conversation in one interval.
func (m *model) flow(name string, packets []modelPacket, end int64, final bool) []Record {
	first, last := slices.MinFunc(packets, byTime).time, slices.MaxFunc(packets, byTime).time
	syn := slices.ContainsFunc(packets, func(p modelPacket) bool { return isSYN(p) })
	f := m.known[name]
	if f == nil || m.apart(f, first, last) || f.ended && syn {
		f = &modelFlow{start: first, last: first, seen: map[string]bool{}, fin: map[string]bool{}}
		m.known[name] = f
		m.began++
	} else if f.cut {
		f.start, f.cut = first, false
		m.began++
	}
	if f.straggled { // more than stragglers: it had not ended
		f.ended, f.straggled, f.rst, f.fin = false, false, false, map[string]bool{}
	}
	f.start, f.last = min(f.start, first), max(f.last, last)
	for _, p := range packets {
		f.seen[side(p)] = true
		if p.flags&flagFIN != 0 {
			f.fin[side(p)] = true
		}
		f.rst = f.rst || p.flags&flagRST != 0
	}
	if by, who := m.initiator(packets); by > f.by && !m.uniflow {
		f.by, f.initiator = by, who
	}
	reason := EndNone
	switch {
	case f.ended:
		f.straggled = true
	case f.rst || len(f.fin) > 0 && len(f.fin) == len(f.seen):
		reason, f.ended = EndEnd, true
	case m.idle > 0 && end-f.last >= m.idle:
		reason = EndIdle
		delete(m.known, name)
	case final:
		reason = EndForced
	case m.active > 0 && end-f.start >= m.active:
		reason, f.cut = EndActive, true
	}
	return m.records(f, packets, reason)
}

// apart reports whether a flow was idle before or, by a clock that goes back, after
// this time.
func (m *model) apart(f *modelFlow, first, last int64) bool {
	return m.idle > 0 && (first-f.last >= m.idle || f.start-last >= m.idle)
}

// side tells the two sides of a conversation apart. Where a host talks to itself
// by ICMP, the one who asks is told from the one who answers.
func side(p modelPacket) string {
	if _, _, answers := p.conversation(false); answers {
		return p.from + " answers"
	} else if p.icmp >= 0 {
		return p.from + " asks"
	}
	return p.from
}

func byTime(a, b modelPacket) int { return cmp.Compare(a.time, b.time) }

func isSYN(p modelPacket) bool { return p.flags&(flagSYN|flagACK) == flagSYN }

func isSYNACK(p modelPacket) bool { return p.flags&(flagSYN|flagACK) == flagSYN|flagACK }

// initiator says whose packets go forward, and why: the best reason, and of equal
// ones that of the direction seen first.
func (m *model) initiator(packets []modelPacket) (Initiator, string) {
	type claim struct {
		by    Initiator
		who   string
		first int64
		order int
	}
	var claims []claim
	var keys []Key
	for i, p := range packets {
		if slices.Contains(keys, p.key) {
			continue
		}
		keys = append(keys, p.key)
		own := slices.DeleteFunc(slices.Clone(packets), func(q modelPacket) bool { return q.key != p.key })
		c := claim{by: InitiatorFirst, who: p.from, first: slices.MinFunc(own, byTime).time, order: i}
		asks := slices.ContainsFunc(own, func(q modelPacket) bool { _, asks, _ := q.conversation(false); return asks })
		answers := slices.ContainsFunc(own, func(q modelPacket) bool { _, _, answers := q.conversation(false); return answers })
		switch s, d := p.key.SrcPort(), p.key.DstPort(); {
		case slices.ContainsFunc(own, isSYN):
			c.by = InitiatorSYN
		case slices.ContainsFunc(own, isSYNACK):
			c.by, c.who = InitiatorSYN, p.to
		case asks:
			c.by = InitiatorICMP
		case answers:
			c.by, c.who = InitiatorICMP, p.to
		case isICMP(&p.key) || s == 0 || d == 0:
		case d < 1024 && s >= 1024, d < 32768 && s >= 32768:
			c.by = InitiatorPort
		case s < 1024 && d >= 1024, s < 32768 && d >= 32768:
			c.by, c.who = InitiatorPort, p.to
		}
		claims = append(claims, c)
	}
	best := slices.MinFunc(claims, func(a, b claim) int {
		return cmp.Or(-cmp.Compare(a.by, b.by), cmp.Compare(a.first, b.first), cmp.Compare(a.order, b.order))
	})
	return best.by, best.who
}

// records pairs the directions of one conversation.
func (m *model) records(f *modelFlow, packets []modelPacket, reason EndReason) (out []Record) {
	type half struct {
		Counters
		key         Key
		first, last int64
		answers     bool
	}
	var there, back [3]*half // by direction
	for _, p := range packets {
		halves := &there
		_, asks, answers := p.conversation(m.uniflow)
		if answers || p.from != f.initiator && !asks && !m.uniflow {
			halves = &back
		}
		h := halves[p.key.Direction()]
		if h == nil {
			h = &half{key: p.key, first: p.time, last: p.time, answers: answers}
			halves[p.key.Direction()] = h
		}
		h.Packets++
		h.Octets += p.octets
		h.TCPFlags |= p.flags
		h.first, h.last = min(h.first, p.time), max(h.last, p.time)
	}
	emit := func(a, b *half) {
		r := Record{Initiator: f.by, EndReason: reason}
		if a != nil {
			r.Key, r.Forward, r.First, r.Last = a.key, a.Counters, a.first, a.last
		}
		if b != nil {
			r.Reverse = b.Counters
		}
		switch {
		case a == nil:
			k := b.key
			d := map[Direction]Direction{DirectionIn: DirectionOut, DirectionOut: DirectionIn}[k.Direction()]
			src, dst := k.DstPort(), k.SrcPort()
			if isICMP(&k) {
				src, dst = 0, k.DstPort()
				for _, pair := range icmpPairs {
					if pair.proto == int(k.Proto()) && b.answers && pair.reply == int(dst>>8) {
						dst = uint16(pair.request)<<8 | dst&0xff
						break
					}
				}
			}
			r.Key, r.First, r.Last = NewKey(k.Dst(), k.Src(), src, dst, k.VLAN(), k.Proto(), d), b.first, b.last
		case b != nil:
			r.First, r.Last = min(a.first, b.first), max(a.last, b.last)
		}
		r.Start = min(f.start, r.First)
		out = append(out, r)
	}
	opposite := [3]int{DirectionIn: int(DirectionOut), DirectionOut: int(DirectionIn)}
	for d := range there {
		if o := opposite[d]; there[d] != nil && back[o] != nil {
			emit(there[d], back[o])
			there[d], back[o] = nil, nil
		}
	}
	for d := range there {
		if there[d] == nil {
			continue
		}
		o := slices.IndexFunc(back[:], func(h *half) bool { return h != nil })
		if o < 0 {
			emit(there[d], nil)
		} else {
			emit(there[d], back[o])
			back[o] = nil
		}
	}
	for _, h := range back {
		if h != nil {
			emit(nil, h)
		}
	}
	return out
}

// somePackets returns traffic in which everything happens often: few hosts and
// ports, all directions, ports used again, time that goes backwards, even to before
// the interval.
func somePackets(r *rand.Rand, n int, start, length int64) (ps []capture.Packet) {
	v4, v6 := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}, []string{"fd00::1", "fd00::2", "fd00::3"}
	ports := []uint16{0, 22, 443, 5000, 33000, 40000}
	flags := []byte{flagSYN, flagSYN | flagACK, flagACK, flagACK, flagACK, flagACK | flagFIN, flagRST}
	types := []capture.PacketType{capture.PacketHost, capture.PacketOutgoing, capture.PacketUnknown}
	only := types[r.IntN(3)]
	for range n {
		hosts, icmp, icmpTypes := v4, uint8(protoICMP), []byte{0, 8, 13, 14, 3}
		if r.IntN(4) == 0 {
			hosts, icmp, icmpTypes = v6, protoICMPv6, []byte{129, 128, 135, 136, 1}
		}
		src, dst := hosts[r.IntN(3)], hosts[r.IntN(3)]
		a, b := ports[r.IntN(len(ports))], ports[r.IntN(len(ports))]
		if src == dst && a == b {
			b = 12345 // or nobody could tell the two sides apart
		}
		var p capture.Packet
		switch r.IntN(7) {
		case 0, 1:
			p = udp(src, dst, a, b)
		case 2, 3:
			p = tcp(src, dst, a, b, flags[r.IntN(len(flags))])
		case 4:
			p = packet(src, dst, icmp, icmpTypes[r.IntN(5)], byte(r.IntN(2)), 0, 0)
		case 5:
			p = packet(src, dst, icmp, icmpTypes[1], 0, 0, 0)
			if p.Data[0]>>4 == 4 {
				p.Data[7] = 185 // a later fragment
			}
		case 6:
			p = packet(hosts[0], hosts[1+r.IntN(2)], 47, 0, 0) // GRE: no ports
			if r.IntN(2) == 0 {
				p = packet(hosts[2], hosts[r.IntN(2)], 47, 0, 0)
			}
		}
		p.Type = only
		if r.IntN(3) == 0 {
			p.Type = types[r.IntN(3)]
		}
		if r.IntN(8) == 0 {
			p.VLANTPID, p.VLANTCI = 0x8100, 7
		}
		p.Time = start + r.Int64N(length)
		if r.IntN(10) == 0 {
			p.Time = max(start-r.Int64N(length), 0)
		}
		ps = append(ps, p)
	}
	return ps
}

// TestTrackerAgainstModel compares every record of random traffic with the model's.
func TestTrackerAgainstModel(t *testing.T) {
	for seed := range uint64(3000) {
		againstModel(t, rand.New(rand.NewPCG(seed, 0)))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// FuzzTracker chooses traffic that the test does not. It takes a seed and not the
// choices themselves: go test would spend all its time on making those shorter.
func FuzzTracker(f *testing.F) {
	for seed := range uint64(5) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { againstModel(t, rand.New(rand.NewPCG(seed, 1))) })
}

func againstModel(t *testing.T, r *rand.Rand) {
	const length = 100
	idle, active := []int64{0, 50, 150, 400}[r.IntN(4)], []int64{0, 250}[r.IntN(2)]
	uniflow := r.IntN(4) == 0
	tracker := NewTracker(TrackerConfig{Idle: time.Duration(idle), Active: time.Duration(active), Max: 1000, Uniflow: uniflow})
	m := model{idle: idle, active: active, uniflow: uniflow, known: map[string]*modelFlow{}}
	table, spare := NewTable(1000), NewTable(1000)
	meter := NewMeter(NewDecoder(nil), table)
	const intervals = 8
	start := int64(0)
	for i := range intervals {
		ps := somePackets(r, r.IntN(40), start, length)
		meter.Add(ps)
		var notes []modelPacket
		for j := range ps {
			notes = append(notes, note(&ps[j]))
		}
		full, ledger := meter.Rotate(spare)
		end, final := start+length, i == intervals-1
		var got []Record
		tracker.Flush(full, end, final, func(r *Record) { got = append(got, *r) })
		full.Reset()
		spare = full
		want := m.interval(notes, end, final)
		for j := range max(len(got), len(want)) {
			if j >= len(got) || j >= len(want) || got[j] != want[j] {
				t.Errorf("idle %d, active %d, uniflow %v, interval %d from %d, record %d:", idle, active, uniflow, i, start, j)
				if j < len(want) {
					t.Errorf(" want %v", describe(&want[j]))
				}
				if j < len(got) {
					t.Errorf(" got  %v", describe(&got[j]))
				}
				return
			}
		}
		if s := sum(got); s.Packets != ledger.Metered || s.Octets != ledger.Octets || ledger.Packets != uint64(len(ps)) {
			t.Errorf("interval %d: records hold %+v, the ledger %+v", i, s, ledger)
		}
		switch r.IntN(5) {
		case 0: // nothing for a while
			start += r.Int64N(6) * length
		case 1: // the clock is set back, or an older capture follows
			start = max(start-r.Int64N(8)*length, 0)
		}
		start += length
	}
	if tracker.Started() != uint64(m.began) {
		t.Errorf("%d flows began, want %d", tracker.Started(), m.began)
	}
}

// sum adds up both directions of all records.
func sum(rs []Record) (c Counters) {
	for i := range rs {
		c.Packets += rs[i].Forward.Packets + rs[i].Reverse.Packets
		c.Octets += rs[i].Forward.Octets + rs[i].Reverse.Octets
	}
	return c
}

func describe(r *Record) string {
	return fmt.Sprintf("%v:%d > %v:%d proto %d %v, %+v, %+v, %d..%d since %d, %v, %v", r.Key.Src(), r.Key.SrcPort(), r.Key.Dst(), r.Key.DstPort(),
		r.Key.Proto(), r.Key.Direction(), r.Forward, r.Reverse, r.First, r.Last, r.Start, r.Initiator, r.EndReason)
}

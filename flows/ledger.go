package flows

// Ledger accounts for every packet of one interval on one interface, so that the
// sums close: Packets = Metered + sum(Causes), and what the kernel dropped stands
// beside it. All are wire packets, but for Drops, which the kernel counts: there a
// super-packet is one.
type Ledger struct {
	Packets  uint64              // handed to the meter
	Metered  uint64              // counted in a record, those in overflow records included
	Octets   uint64              // IP octets of the metered packets
	Overflow uint64              // metered packets whose flow found no room: in overflow records
	Causes   [numVerdicts]uint64 // packets not metered, by cause; index is a Verdict
	Drops    uint64              // lost by the kernel before the meter saw them
	Freezes  uint64              // times that the ring stood still
	Records  uint64              // records made of this interval
	NIC      NIC                 // what the interface has counted itself, if that is known
}

// NIC is what an interface counted in an interval, in the kernel's words (struct
// rtnl_link_stats64, include/uapi/linux/if_link.h). Octets include the link layer, and a
// super-packet may be one packet. On loopback, where each packet is sent and received and
// is metered once, only what was received is there.
type NIC struct {
	PacketsIn, PacketsOut uint64 // rx_packets, tx_packets
	OctetsIn, OctetsOut   uint64 // rx_bytes, tx_bytes
	DropsIn, DropsOut     uint64 // rx_dropped and rx_missed_errors; tx_dropped
}

// Add adds m's counts to n.
func (n *NIC) Add(m *NIC) {
	n.PacketsIn += m.PacketsIn
	n.PacketsOut += m.PacketsOut
	n.OctetsIn += m.OctetsIn
	n.OctetsOut += m.OctetsOut
	n.DropsIn += m.DropsIn
	n.DropsOut += m.DropsOut
}

// NotIP returns the packets that carried no IP.
func (l *Ledger) NotIP() (n uint64) {
	for v := Verdict(1); v < numVerdicts; v++ {
		if !v.IsError() && v != Excluded {
			n += l.Causes[v]
		}
	}
	return n
}

// DecodeErrors returns the packets that could not be decoded.
func (l *Ledger) DecodeErrors() (n uint64) {
	for v := Verdict(1); v < numVerdicts; v++ {
		if v.IsError() {
			n += l.Causes[v]
		}
	}
	return n
}

// Exclude takes a record out of what was metered: it will not be exported.
func (l *Ledger) Exclude(r *Record) {
	packets := r.Forward.Packets + r.Reverse.Packets
	l.Metered -= packets
	l.Octets -= r.Forward.Octets + r.Reverse.Octets
	l.Causes[Excluded] += packets
}

// Add adds m's counts to l.
func (l *Ledger) Add(m *Ledger) {
	l.Packets += m.Packets
	l.Metered += m.Metered
	l.Octets += m.Octets
	l.Overflow += m.Overflow
	for i, n := range m.Causes {
		l.Causes[i] += n
	}
	l.Drops += m.Drops
	l.Freezes += m.Freezes
	l.Records += m.Records
	l.NIC.Add(&m.NIC)
}

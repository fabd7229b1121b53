package flows

// EndReason says why a flow ended in the interval of a record, numbered as IPFIX
// flowEndReason (information element 136, RFC 5102 section 5.11.3). EndNone, the
// value 0 that IPFIX leaves free, means that it had not ended.
type EndReason uint8

// End reasons.
const (
	EndNone   EndReason = 0
	EndIdle   EndReason = 1 // no packet for the idle timeout
	EndActive EndReason = 2 // older than the active timeout; goes on as a new flow
	EndEnd    EndReason = 3 // TCP said so: FIN from both sides, or RST
	EndForced EndReason = 4 // the meter was shut down, or the capture file ended
	EndLack   EndReason = 5 // no room left in the table
)

// String returns the reason as the ClickHouse column names it.
func (r EndReason) String() string {
	return [...]string{"none", "idle", "active", "end", "forced", "lack"}[min(r, EndLack)]
}

// Initiator says how the source of a record was found to be the initiator, in
// ascending order of trust.
type Initiator uint8

// Reasons for an initiator.
const (
	InitiatorNone  Initiator = 0 // not looked for: unpaired records, overflow
	InitiatorFirst Initiator = 1 // its packet was seen first
	InitiatorPort  Initiator = 2 // it has the ephemeral port, the other a service port
	InitiatorICMP  Initiator = 3 // it sent the request, or got the reply
	InitiatorSYN   Initiator = 4 // it sent a SYN, or got a SYN-ACK
)

// String returns the reason as the ClickHouse column names it.
func (i Initiator) String() string {
	return [...]string{"none", "first", "port", "icmp", "syn"}[min(i, InitiatorSYN)]
}

// Counters count one direction of a flow within one interval.
type Counters struct {
	Packets  uint64 // wire packets
	Octets   uint64 // octets of IP, header included
	TCPFlags uint8  // all TCP flags seen (CWR..FIN, RFC 9293 section 3.1), ORed
}

// Record is what was seen of one flow in one interval on one interface. It holds
// no pointers.
type Record struct {
	// Key is that of the initiator's packets: the source is the initiator.
	Key Key
	// Forward counts packets from the initiator, Reverse those to it (RFC 5103).
	// An unpaired record has no Reverse.
	Forward, Reverse Counters
	// First and Last are the times of the earliest and the latest packet in this
	// interval, both directions, in nanoseconds since the Unix epoch,
	// 0..capture.MaxTime.
	First, Last int64
	// Start is the time of the flow's first packet ever, same unit; it stays the
	// same over all intervals of the flow. Start <= First.
	Start     int64
	Initiator Initiator
	EndReason EndReason
}

// Batch is all records of one interval on one interface, or a part of them. The
// records are borrowed: whoever is handed a Batch may use it until it returns.
type Batch struct {
	Host      string // the host that captured
	Interface string // the interface's name
	// Start and End bound the interval, in nanoseconds since the Unix epoch;
	// Start is a multiple of the interval's length unless there is only one.
	Start, End int64
	Records    []Record
	// Flush asks whoever holds records back to write them out; there is nothing else
	// in the batch.
	Flush bool
	// Ledger is what became of every packet of the interval; nil but on the last
	// batch of an interval.
	Ledger *Ledger
}

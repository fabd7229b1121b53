package flows

import "weir/capture"

// Verdict is what became of one packet: decoded, not IP, or malformed. It is an
// integer and not an error because it is made for every packet.
type Verdict uint8

// Verdicts. Those before firstError say that the packet carries no IP, those
// after it that it lies or was cut too short. Up to the IP header they are the
// causes of capture.
const (
	OK = Verdict(capture.OK)

	NotIPARP            = Verdict(capture.NotIPARP)
	NotIPLLDP           = Verdict(capture.NotIPLLDP)
	NotIPLLC            = Verdict(capture.NotIPLLC)
	NotIPPPPoEDiscovery = Verdict(capture.NotIPPPPoEDiscovery)
	NotIPPPP            = Verdict(capture.NotIPPPP)
	NotIPMPLS           = Verdict(capture.NotIPMPLS)
	NotIP80211          = Verdict(capture.NotIP80211)
	NotIPEncrypted      = Verdict(capture.NotIPEncrypted)
	NotIPFamily         = Verdict(capture.NotIPFamily)
	NotIPEtherType      = Verdict(capture.NotIPEtherType)

	ErrorLinkType   = Verdict(capture.ErrorLinkType)
	ErrorLinkHeader = Verdict(capture.ErrorLinkHeader)
	ErrorVersion    = Verdict(capture.ErrorVersion)
	ErrorIPHeader   = Verdict(capture.ErrorIPHeader)
)

// Verdicts about the IP header itself.
const (
	ErrorIHL         = Verdict(capture.NumCauses) + iota // IPv4 header length below 20 octets
	ErrorTotalLength                                     // IPv4 total length below the header's

	// Excluded packets were in a flow that was left out on purpose, after it was
	// metered: see Ledger.Exclude.
	Excluded
	numVerdicts
)

const firstError = ErrorLinkType

// NumVerdicts is the number of verdicts, OK included.
const NumVerdicts = int(numVerdicts)

var verdictNames = [numVerdicts]string{
	"ok", "arp", "lldp", "llc", "pppoe_discovery", "ppp_control", "mpls_payload", "ieee80211_control",
	"ieee80211_encrypted", "family", "ethertype",
	"link_type", "link_header", "ip_version", "ip_header", "ip_ihl", "ip_total_length", "excluded",
}

// String returns the cause as counters and columns name it.
func (v Verdict) String() string { return verdictNames[min(v, numVerdicts-1)] }

// IsError reports whether the packet was malformed, rather than not IP.
func (v Verdict) IsError() bool { return v >= firstError && v != Excluded }

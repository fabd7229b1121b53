package flows

// Verdict is what became of one packet: decoded, not IP, or malformed. It is an
// integer and not an error because it is made for every packet.
type Verdict uint8

// Verdicts. Those before firstError say that the packet carries no IP, those
// after it that it lies or was cut too short.
const (
	OK Verdict = iota

	NotIPARP            // ARP and RARP
	NotIPLLDP           // LLDP (IEEE 802.1AB)
	NotIPLLC            // 802.3 with an LLC header that leads to no EtherType: STP, IS-IS, IPX
	NotIPPPPoEDiscovery // PPPoE discovery
	NotIPPPP            // PPP control protocols: LCP, IPCP, PAP, ...
	NotIPMPLS           // an MPLS payload that is neither IPv4 nor IPv6: pseudowires
	NotIP80211          // 802.11 management, control and null frames, A-MSDU
	NotIPEncrypted      // protected 802.11 frames
	NotIPFamily         // an address family or interface type that is not IP
	NotIPEtherType      // any other EtherType

	ErrorLinkType    // a link type that cannot be decoded
	ErrorLinkHeader  // cut off within the link-layer header or a shim
	ErrorVersion     // IP version against the EtherType, or neither 4 nor 6
	ErrorIPHeader    // cut off within the IP header
	ErrorIHL         // IPv4 header length below 20 octets
	ErrorTotalLength // IPv4 total length below the header's
	numVerdicts
)

const firstError = ErrorLinkType

// NumVerdicts is the number of verdicts, OK included.
const NumVerdicts = int(numVerdicts)

var verdictNames = [numVerdicts]string{
	"ok", "arp", "lldp", "llc", "pppoe_discovery", "ppp_control", "mpls_payload", "ieee80211_control",
	"ieee80211_encrypted", "family", "ethertype",
	"link_type", "link_header", "ip_version", "ip_header", "ip_ihl", "ip_total_length",
}

// String returns the cause as counters and columns name it.
func (v Verdict) String() string { return verdictNames[min(v, numVerdicts-1)] }

// IsError reports whether the packet was malformed, rather than not IP.
func (v Verdict) IsError() bool { return v >= firstError }

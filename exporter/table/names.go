package table

import "strconv"

// protocols are the IP protocols that one meets, by the IANA's keywords in lower case.
var protocols = [256]string{
	0: "hopopt", 1: "icmp", 2: "igmp", 4: "ipip", 6: "tcp", 17: "udp", 33: "dccp", 41: "ipv6", 43: "v6-rt",
	44: "v6-frag", 46: "rsvp", 47: "gre", 50: "esp", 51: "ah", 58: "icmp6", 59: "v6-none", 60: "v6-opts", 88: "eigrp",
	89: "ospf", 94: "ipip", 97: "etherip", 103: "pim", 108: "ipcomp", 112: "vrrp", 115: "l2tp", 132: "sctp",
	135: "mobile", 136: "udplite", 137: "mpls", 139: "hip", 140: "shim6",
}

// Proto returns the name of an IP protocol in at most seven characters, its
// number where it has none here.
func Proto(n uint8) string {
	if s := protocols[n]; s != "" {
		return s
	}
	return strconv.Itoa(int(n))
}

const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
)

// services are registered ports (IANA) that help to read a table; that is all
// they are good for, since nothing keeps other programs from using them.
var services = map[uint16]string{
	20: "ftp-data", 21: "ftp", 22: "ssh", 23: "telnet", 25: "smtp", 53: "domain", 67: "dhcp", 68: "dhcp", 69: "tftp",
	80: "http", 88: "kerberos", 110: "pop3", 111: "sunrpc", 123: "ntp", 137: "netbios", 138: "netbios", 139: "netbios",
	143: "imap", 161: "snmp", 162: "snmp-trap", 179: "bgp", 389: "ldap", 443: "https", 445: "smb", 465: "smtps",
	500: "ike", 514: "syslog", 546: "dhcpv6", 547: "dhcpv6", 587: "submission", 636: "ldaps", 853: "dns-tls",
	993: "imaps", 995: "pop3s", 1194: "openvpn", 1433: "mssql", 1883: "mqtt", 2049: "nfs", 2055: "netflow",
	3306: "mysql", 3389: "rdp", 3478: "stun", 4500: "ipsec-nat", 4739: "ipfix", 4789: "vxlan", 5060: "sip",
	5201: "iperf3", 5353: "mdns", 5432: "postgres", 5672: "amqp", 6081: "geneve", 6379: "redis", 6443: "kube-api",
	8080: "http-alt", 8123: "clickhouse", 9000: "clickhouse", 9090: "prometheus", 9092: "kafka", 9200: "elastic",
	27017: "mongodb", 51820: "wireguard",
}

// Service returns the registered name of a TCP or UDP port, "" if there is none here.
func Service(proto uint8, port uint16) string {
	if proto != protoTCP && proto != protoUDP {
		return ""
	}
	return services[port]
}

// AppendTCPFlags appends the letters of the flags that are set, from CWR down to
// FIN as they stand in the header (RFC 9293 section 3.1): "CEUAPRSF".
func AppendTCPFlags(dst []byte, flags uint8) []byte {
	const letters = "CEUAPRSF"
	for i := range 8 {
		if flags&(0x80>>i) != 0 {
			dst = append(dst, letters[i])
		}
	}
	return dst
}

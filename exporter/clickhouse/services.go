package clickhouse

import (
	"fmt"
	"strings"
)

// The protocols that services are of (IANA "Protocol Numbers").
const (
	tcp  = 6
	udp  = 17
	sctp = 132
)

// service is a well-known port.
type service struct {
	name   string
	port   uint16
	protos []uint8
}

var (
	onTCP  = []uint8{tcp}
	onUDP  = []uint8{udp}
	onBoth = []uint8{tcp, udp}
	onSCTP = []uint8{sctp}
)

// services are the ports that say what is spoken there, under the names of IANA's
// "Service Name and Transport Protocol Port Number Registry", or where that has none or one that
// nobody uses, those of the programs that listen there.
var services = []service{
	{"ftp-data", 20, onTCP}, {"ftp", 21, onTCP}, {"ssh", 22, onTCP}, {"telnet", 23, onTCP}, {"smtp", 25, onTCP},
	{"whois", 43, onTCP}, {"tacacs", 49, onTCP}, {"domain", 53, onBoth}, {"dhcp", 67, onUDP}, {"dhcp", 68, onUDP},
	{"tftp", 69, onUDP}, {"http", 80, onTCP}, {"http3", 80, onUDP}, {"kerberos", 88, onBoth}, {"pop3", 110, onTCP},
	{"sunrpc", 111, onBoth}, {"nntp", 119, onTCP}, {"ntp", 123, onUDP}, {"epmap", 135, onTCP},
	{"netbios-ns", 137, onUDP}, {"netbios-dgm", 138, onUDP}, {"netbios-ssn", 139, onTCP}, {"imap", 143, onTCP},
	{"snmp", 161, onUDP}, {"snmptrap", 162, onUDP}, {"bgp", 179, onTCP}, {"ldap", 389, onBoth},
	{"https", 443, onBoth}, {"microsoft-ds", 445, onTCP}, {"kpasswd", 464, onBoth}, {"submissions", 465, onTCP},
	{"isakmp", 500, onUDP}, {"syslog", 514, onUDP}, {"shell", 514, onTCP}, {"printer", 515, onTCP}, {"rip", 520, onUDP},
	{"dhcpv6-client", 546, onUDP}, {"dhcpv6-server", 547, onUDP}, {"rtsp", 554, onTCP}, {"submission", 587, onTCP},
	{"ipp", 631, onTCP}, {"ldaps", 636, onTCP}, {"ldp", 646, onBoth}, {"domain-s", 853, onBoth}, {"rsync", 873, onTCP},
	{"ftps-data", 989, onTCP}, {"ftps", 990, onTCP}, {"imaps", 993, onTCP}, {"pop3s", 995, onTCP},
	{"socks", 1080, onTCP}, {"openvpn", 1194, onBoth}, {"ms-sql-s", 1433, onTCP}, {"ms-sql-m", 1434, onUDP},
	{"oracle", 1521, onTCP}, {"l2tp", 1701, onUDP}, {"pptp", 1723, onTCP}, {"radius", 1812, onUDP},
	{"radius-acct", 1813, onUDP}, {"mqtt", 1883, onTCP}, {"ssdp", 1900, onUDP}, {"nfs", 2049, onBoth},
	{"gtp-control", 2123, onUDP}, {"gtp-user", 2152, onUDP}, {"zookeeper", 2181, onTCP}, {"docker", 2375, onTCP}, {"docker-s", 2376, onTCP},
	{"etcd-client", 2379, onTCP}, {"etcd-server", 2380, onTCP}, {"m3ua", 2905, onSCTP},
	{"squid", 3128, onTCP}, {"iscsi-target", 3260, onTCP}, {"ldap-gc", 3268, onTCP}, {"mysql", 3306, onTCP},
	{"ms-wbt-server", 3389, onBoth}, {"stun", 3478, onBoth}, {"bfd-control", 3784, onUDP}, {"diameter", 3868, []uint8{tcp, sctp}},
	{"geneve", 6081, onUDP}, {"ipsec-nat-t", 4500, onUDP}, {"vxlan", 4789, onUDP}, {"sip", 5060, []uint8{tcp, udp, sctp}}, {"sips", 5061, onTCP},
	{"xmpp-client", 5222, onTCP}, {"xmpp-server", 5269, onTCP}, {"stuns", 5349, onBoth}, {"mdns", 5353, onUDP}, {"llmnr", 5355, onUDP},
	{"postgresql", 5432, onTCP}, {"amqps", 5671, onTCP}, {"amqp", 5672, onTCP}, {"coap", 5683, onUDP}, {"vnc", 5900, onTCP},
	{"winrm", 5985, onTCP}, {"winrm-s", 5986, onTCP}, {"x11", 6000, onTCP}, {"sflow", 6343, onUDP}, {"redis", 6379, onTCP},
	{"kube-apiserver", 6443, onTCP}, {"irc", 6667, onTCP}, {"ircs", 6697, onTCP}, {"bittorrent", 6881, onBoth},
	{"cassandra", 9042, onTCP}, {"http-alt", 8080, onTCP}, {"clickhouse-http", 8123, onTCP}, {"https-alt", 8443, onTCP}, {"mqtts", 8883, onTCP},
	{"clickhouse", 9000, onTCP}, {"prometheus", 9090, onTCP}, {"kafka", 9092, onTCP}, {"jetdirect", 9100, onTCP},
	{"elasticsearch", 9200, onTCP}, {"clickhouse-s", 9440, onTCP}, {"git", 9418, onTCP}, {"kubelet", 10250, onTCP}, {"zabbix-agent", 10050, onTCP}, {"zabbix-trapper", 10051, onTCP},
	{"memcache", 11211, onBoth}, {"mongodb", 27017, onTCP}, {"iperf3", 5201, onBoth}, {"ngap", 38412, onSCTP}, {"s1ap", 36412, onSCTP}, {"wireguard", 51820, onUDP},
	{"netflow", 2055, onUDP}, {"ipfix", 4739, []uint8{tcp, udp, sctp}},
}

// serviceName returns SQL for the service's name, the empty string for a port that is not well known.
func serviceName(proto, port string) string {
	var keys, names []string
	for _, s := range services {
		for _, p := range s.protos {
			keys = append(keys, fmt.Sprint(uint32(p)<<16|uint32(s.port)))
			names = append(names, literal(s.name))
		}
	}
	return fmt.Sprintf("transform((toUInt32(%s) * 65536) + %s, [%s], [%s], '')", proto, port, strings.Join(keys, ", "), strings.Join(names, ", "))
}

// servicePort returns SQL for the port that says what is spoken, of columns whose names begin with prefix.
func servicePort(prefix string) string {
	return fmt.Sprintf("multiIf(%[1]sproto IN (1, 58), %[1]sdst_port, %[1]sinitiator = 'none', least(%[1]ssrc_port, %[1]sdst_port), %[1]sdst_port)", prefix)
}

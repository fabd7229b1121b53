package clickhouse

import (
	"fmt"
	"strings"
)

// ICMP types of which one answers the other, as the Community ID sees them: the
// tables of its reference implementation (pycommunityid, icmp.py and icmp6.py), which
// are Zeek's. A type without a partner has a code in its place, and a direction.
var (
	icmpPartners   = [][2]uint8{{0, 8}, {8, 0}, {13, 14}, {14, 13}, {15, 16}, {16, 15}, {10, 9}, {9, 10}, {17, 18}, {18, 17}}
	icmpv6Partners = [][2]uint8{{128, 129}, {129, 128}, {130, 131}, {131, 130}, {133, 134}, {134, 133}, {135, 136}, {136, 135},
		{139, 140}, {140, 139}, {144, 145}, {145, 144}}
)

// communityID returns SQL for the Community ID v1 (seed 0) of a flow, by which Zeek, Suricata and
// others name it: base64 of SHA-1 over both endpoints in order, see
// github.com/corelight/community-id-spec. Only TCP, UDP, SCTP and ICMP have ports there.
func communityID() string {
	var types, partners []string
	for family, pairs := range [][][2]uint8{icmpPartners, icmpv6Partners} {
		for _, p := range pairs {
			types = append(types, fmt.Sprint([]int{1, 58}[family]<<8|int(p[0])))
			partners = append(partners, fmt.Sprint(p[1]))
		}
	}
	const icmp = "proto IN (1, 58)"
	typ := "bitShiftRight(dst_port, 8)"
	// 65535 is no type: the flow has a direction.
	partner := fmt.Sprintf("transform((toUInt32(proto) * 256) + %s, [%s], [%s], 65535)", typ, strings.Join(types, ", "), strings.Join(partners, ", "))
	src := fmt.Sprintf("multiIf(%s, %s, proto IN (6, 17, 132), src_port, 0)", icmp, typ)
	dst := fmt.Sprintf("multiIf(NOT (%s), if(proto IN (6, 17, 132), dst_port, 0), (%s) = 65535, bitAnd(dst_port, 255), %s)", icmp, partner, partner)
	ordered := fmt.Sprintf("((%s) AND ((%s) = 65535)) OR ((src_ip, %s) <= (dst_ip, %s))", icmp, partner, src, dst)
	address := func(name string) string {
		return fmt.Sprintf("if(startsWith(reinterpret(%[1]s, 'FixedString(16)'), unhex('00000000000000000000FFFF')), "+
			"substring(reinterpret(%[1]s, 'FixedString(16)'), 13), reinterpret(%[1]s, 'FixedString(16)'))", name)
	}
	port := func(expr string) string {
		return fmt.Sprintf("char(bitShiftRight(%[1]s, 8), bitAnd(%[1]s, 255))", expr)
	}
	there := fmt.Sprintf("concat(%s, %s, char(proto, 0), if(proto IN (1, 6, 17, 58, 132), concat(%s, %s), ''))", address("src_ip"), address("dst_ip"), port(src), port(dst))
	back := fmt.Sprintf("concat(%s, %s, char(proto, 0), if(proto IN (1, 6, 17, 58, 132), concat(%s, %s), ''))", address("dst_ip"), address("src_ip"), port(dst), port(src))
	return fmt.Sprintf("concat('1:', base64Encode(SHA1(concat(char(0, 0), if(%s, %s, %s)))))", ordered, there, back)
}

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
// Lambdas stand for what is used more than once: p is the partner of the ICMP type, s the
// endpoints in order, e an endpoint.
func communityID() string {
	var types, partners []string
	for family, pairs := range [][][2]uint8{icmpPartners, icmpv6Partners} {
		for _, p := range pairs {
			types = append(types, fmt.Sprint([]int{1, 58}[family]<<8|int(p[0])))
			partners = append(partners, fmt.Sprint(p[1]))
		}
	}
	return strings.NewReplacer(
		"$partner", "transform((toUInt32(proto) * 256) + bitShiftRight(dst_port, 8), ["+strings.Join(types, ", ")+"], ["+strings.Join(partners, ", ")+"], 65535)",
		"$src", "(src_ip, multiIf(proto IN (1, 58), bitShiftRight(dst_port, 8), proto IN (6, 17, 132), src_port, 0))",
		"$dst", "(dst_ip, multiIf(proto IN (1, 58), if(p = 65535, bitAnd(dst_port, 255), p), proto IN (6, 17, 132), dst_port, 0))",
		"$bytes", "reinterpret(e.1, 'FixedString(16)')",
	).Replace("concat('1:', base64Encode(SHA1(arrayMap(s -> concat(char(0, 0), " +
		"arrayStringConcat(arrayMap(e -> if(startsWith($bytes, unhex('00000000000000000000FFFF')), substring($bytes, 13), $bytes), s)), char(proto, 0), " +
		"if(proto IN (1, 6, 17, 58, 132), arrayStringConcat(arrayMap(e -> char(bitShiftRight(e.2, 8), bitAnd(e.2, 255)), s)), '')), " +
		"arrayMap(p -> if((proto IN (1, 58)) AND (p = 65535), [$src, $dst], arraySort([$src, $dst])), [$partner]))[1])))")
}

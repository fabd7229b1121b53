-- Schema version 1.
CREATE DATABASE IF NOT EXISTS `DATABASE`;

CREATE TABLE IF NOT EXISTS `DATABASE`.`weir_schema`
(
    version UInt32 COMMENT 'version of the schema',
    applied DateTime('UTC') COMMENT 'when it was applied'
)
ENGINE = MergeTree
ORDER BY version
COMMENT 'versions of the schema that were applied';

CREATE TABLE IF NOT EXISTS `DATABASE`.`flows`
(
    ts DateTime('UTC') COMMENT 'start of the interval' CODEC(ZSTD(1)),
    host LowCardinality(String) COMMENT 'host that captured' CODEC(ZSTD(1)),
    iface LowCardinality(String) COMMENT 'interface that captured' CODEC(ZSTD(1)),
    direction Enum8('unknown' = 0, 'in' = 1, 'out' = 2) COMMENT 'direction of the packets from src_ip, as the host sees them: in = the host was called' CODEC(ZSTD(1)),
    proto UInt8 COMMENT 'IP protocol number' CODEC(ZSTD(1)),
    src_ip IPv6 COMMENT 'address of the initiator; IPv4 is mapped' CODEC(ZSTD(1)),
    dst_ip IPv6 COMMENT 'address of the responder; IPv4 is mapped' CODEC(ZSTD(1)),
    src_port UInt16 COMMENT 'port of the initiator, 0 if there is none' CODEC(ZSTD(1)),
    dst_port UInt16 COMMENT 'port of the responder; ICMP: type * 256 + code' CODEC(ZSTD(1)),
    vlan UInt16 COMMENT 'outermost VLAN id, 0 if untagged' CODEC(ZSTD(1)),
    packets UInt64 COMMENT 'packets from src_ip to dst_ip' CODEC(T64, ZSTD(1)),
    bytes UInt64 COMMENT 'IP octets from src_ip to dst_ip, headers included' CODEC(T64, ZSTD(1)),
    tcp_flags UInt8 COMMENT 'TCP flags from src_ip, ORed' CODEC(ZSTD(1)),
    reverse_packets UInt64 COMMENT 'packets from dst_ip to src_ip' CODEC(T64, ZSTD(1)),
    reverse_bytes UInt64 COMMENT 'IP octets from dst_ip to src_ip' CODEC(T64, ZSTD(1)),
    reverse_tcp_flags UInt8 COMMENT 'TCP flags from dst_ip, ORed' CODEC(ZSTD(1)),
    first_ms Int64 COMMENT 'first packet in the interval, milliseconds after ts' CODEC(T64, ZSTD(1)),
    dur_ms UInt64 COMMENT 'from the first to the last packet in the interval, milliseconds' CODEC(T64, ZSTD(1)),
    start_ms UInt32 COMMENT '0: the flow began in this interval; else from its first packet to the end of ts\'s hour, milliseconds, at most 2^32-1' CODEC(ZSTD(1)),
    initiator Enum8('none' = 0, 'first' = 1, 'port' = 2, 'icmp' = 3, 'syn' = 4) COMMENT 'how src_ip was found to be the initiator' CODEC(ZSTD(1)),
    end_reason Enum8('none' = 0, 'idle' = 1, 'active' = 2, 'end' = 3, 'forced' = 4, 'lack' = 5) COMMENT 'why the flow ended in this interval (IPFIX 136)' CODEC(ZSTD(1)),
    batch UInt64 COMMENT 'the insert that brought the row; also in ledger' CODEC(T64, ZSTD(1)),
    first DateTime64(3, 'UTC') ALIAS fromUnixTimestamp64Milli((toInt64(toUnixTimestamp(ts)) * 1000) + first_ms, 'UTC') COMMENT 'first packet in the interval',
    last DateTime64(3, 'UTC') ALIAS fromUnixTimestamp64Milli((toInt64(toUnixTimestamp(ts)) * 1000) + first_ms + toInt64(dur_ms), 'UTC') COMMENT 'last packet in the interval',
    flow_start DateTime64(3, 'UTC') ALIAS fromUnixTimestamp64Milli(if(start_ms = 0, (toInt64(toUnixTimestamp(ts)) * 1000) + first_ms, (toInt64(toUnixTimestamp(toStartOfHour(ts))) * 1000) + 3600000 - toInt64(start_ms)), 'UTC') COMMENT 'first packet of the flow in any interval',
    icmp_type UInt8 ALIAS if(proto IN (1, 58), toUInt8(bitShiftRight(dst_port, 8)), 0) COMMENT 'ICMP type, 0 for other protocols',
    icmp_code UInt8 ALIAS if(proto IN (1, 58), toUInt8(bitAnd(dst_port, 255)), 0) COMMENT 'ICMP code, 0 for other protocols',
    INDEX ix_src src_ip TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX ix_dst dst_ip TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(ts)
PRIMARY KEY (toStartOfHour(ts), host)
ORDER BY (toStartOfHour(ts), host, src_ip, dst_ip, proto, src_port, dst_port, ts)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'one row for each flow and interval, both directions';

CREATE TABLE IF NOT EXISTS `DATABASE`.`flows_1m`
(
    ts DateTime('UTC') COMMENT 'start of the minute' CODEC(ZSTD(1)),
    host LowCardinality(String) COMMENT 'host that captured' CODEC(ZSTD(1)),
    iface LowCardinality(String) COMMENT 'interface that captured' CODEC(ZSTD(1)),
    direction Enum8('unknown' = 0, 'in' = 1, 'out' = 2) COMMENT 'direction of the packets from src_ip, as the host sees them: in = the host was called' CODEC(ZSTD(1)),
    vlan UInt16 COMMENT 'outermost VLAN id, 0 if untagged' CODEC(ZSTD(1)),
    proto UInt8 COMMENT 'IP protocol number' CODEC(ZSTD(1)),
    src_ip IPv6 COMMENT 'address of the initiator; IPv4 is mapped' CODEC(ZSTD(1)),
    dst_ip IPv6 COMMENT 'address of the responder; IPv4 is mapped' CODEC(ZSTD(1)),
    service_port UInt16 COMMENT 'port of the responder; where nobody knows who that is, the lower one; ICMP: type * 256 + code' CODEC(ZSTD(1)),
    packets UInt64 COMMENT 'packets from src_ip to dst_ip' CODEC(T64, ZSTD(1)),
    bytes UInt64 COMMENT 'IP octets from src_ip to dst_ip, headers included' CODEC(T64, ZSTD(1)),
    reverse_packets UInt64 COMMENT 'packets from dst_ip to src_ip' CODEC(T64, ZSTD(1)),
    reverse_bytes UInt64 COMMENT 'IP octets from dst_ip to src_ip' CODEC(T64, ZSTD(1)),
    records UInt64 COMMENT 'rows of flows that this row sums up' CODEC(T64, ZSTD(1))
)
ENGINE = SummingMergeTree((packets, bytes, reverse_packets, reverse_bytes, records))
PARTITION BY toDate(ts)
PRIMARY KEY (toStartOfHour(ts), host)
ORDER BY (toStartOfHour(ts), host, src_ip, dst_ip, proto, service_port, iface, direction, vlan, ts)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'flows summed by minute, addresses and service';

CREATE MATERIALIZED VIEW IF NOT EXISTS `DATABASE`.`flows_1m_mv` TO `DATABASE`.`flows_1m` AS
SELECT toStartOfMinute(f.ts) AS ts, f.host AS host, f.iface AS iface, f.direction AS direction, f.vlan AS vlan, f.proto AS proto, f.src_ip AS src_ip, f.dst_ip AS dst_ip,
    multiIf(f.proto IN (1, 58), f.dst_port, f.initiator = 'none', least(f.src_port, f.dst_port), f.dst_port) AS service_port, sum(f.packets) AS packets, sum(f.bytes) AS bytes, sum(f.reverse_packets) AS reverse_packets, sum(f.reverse_bytes) AS reverse_bytes, count() AS records
FROM `DATABASE`.flows AS f
GROUP BY ALL;

CREATE TABLE IF NOT EXISTS `DATABASE`.`ledger`
(
    ts DateTime('UTC') COMMENT 'start of the interval' CODEC(ZSTD(1)),
    host LowCardinality(String) COMMENT 'host that captured' CODEC(ZSTD(1)),
    iface LowCardinality(String) COMMENT 'interface that captured' CODEC(ZSTD(1)),
    interval_ms UInt64 COMMENT 'length of the interval, milliseconds' CODEC(ZSTD(1)),
    batch UInt64 COMMENT 'the insert that brought the last rows of the interval' CODEC(T64, ZSTD(1)),
    records UInt64 COMMENT 'rows of flows made of the interval' CODEC(ZSTD(1)),
    packets UInt64 COMMENT 'packets handed to the meter' CODEC(T64, ZSTD(1)),
    metered UInt64 COMMENT 'packets counted in flows, those of overflow rows included' CODEC(ZSTD(1)),
    octets UInt64 COMMENT 'IP octets of the metered packets' CODEC(ZSTD(1)),
    overflow UInt64 COMMENT 'metered packets that lost their detail because the flow table was full' CODEC(ZSTD(1)),
    not_ip Map(LowCardinality(String), UInt64) COMMENT 'packets that carried no IP, by cause' CODEC(ZSTD(1)),
    decode_errors Map(LowCardinality(String), UInt64) COMMENT 'packets that could not be decoded, by cause' CODEC(ZSTD(1)),
    drops UInt64 COMMENT 'packets lost by the kernel before the meter saw them' CODEC(ZSTD(1)),
    freezes UInt64 COMMENT 'times that the ring stood still' CODEC(ZSTD(1)),
    version LowCardinality(String) COMMENT 'version of the program' CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(ts)
ORDER BY (ts, host, iface)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'what became of every packet: one row for each host, interface and interval';

INSERT INTO `DATABASE`.`weir_schema` (version, applied)
SELECT toUInt32(1), now('UTC') WHERE 1 NOT IN (SELECT version FROM `DATABASE`.`weir_schema`);

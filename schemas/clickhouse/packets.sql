-- Each packet, for a short time; made by streams where storage.packets says so. Sorted by the minute and then by connection: one of a
-- minute is found in few granules, and addresses take next to nothing.
CREATE TABLE IF NOT EXISTS {database}.packets{local} {on_cluster}
(
    time            DateTime64(9, 'UTC')   COMMENT 'When it passed; of a coalesced entry, its first packet' CODEC(Delta, ZSTD(1)),
    node            LowCardinality(String) COMMENT 'Node that saw it',
    interface       LowCardinality(String) COMMENT 'Interface',
    direction       Enum8('ingress' = 0, 'egress' = 1) COMMENT 'Whether the interface received or sent it',
    primary         Bool                   COMMENT 'Whether totals count it',
    protocol        UInt8                  COMMENT 'IANA protocol number',
    src_addr        IPv6                   COMMENT 'Sender; IPv4 as ::ffff:a.b.c.d' CODEC(ZSTD(1)),
    dst_addr        IPv6                   COMMENT 'Receiver' CODEC(ZSTD(1)),
    src_port        UInt16                 COMMENT 'Port of the sender, or 0' CODEC(ZSTD(1)),
    dst_port        UInt16                 COMMENT 'Port of the receiver, or 0' CODEC(ZSTD(1)),
    vlan_id         UInt16                 COMMENT 'Outer 802.1Q tag, or 0' CODEC(ZSTD(1)),
    packets         UInt32                 COMMENT 'Packets on the wire: of a super-packet its segments, of a coalesced entry all' CODEC(T64, ZSTD(1)),
    bytes           UInt64                 COMMENT 'Their bytes, layer 2 without FCS' CODEC(T64, ZSTD(1)),
    duration_ns     UInt64                 COMMENT 'Of a coalesced entry, to its last packet; else 0' CODEC(T64, ZSTD(1)),
    tcp_flags       UInt16                 COMMENT 'TCP flags' CODEC(T64, ZSTD(1)),
    ttl             UInt8                  COMMENT 'TTL or hop limit' CODEC(ZSTD(1)),
    tos             UInt8                  COMMENT 'Type of service or traffic class' CODEC(ZSTD(1)),
    kafka_partition Int32                  COMMENT 'Partition of the packets topic' CODEC(ZSTD(1)),
    received        DateTime('UTC')        COMMENT 'When Kafka took its message' CODEC(Delta, ZSTD(1))
)
ENGINE = {merge_tree}
PARTITION BY toStartOfInterval(received, INTERVAL 10 MINUTE)
ORDER BY (toStartOfMinute(time), dst_addr, src_addr, dst_port, src_port, time)
TTL received + INTERVAL {seconds} SECOND
SETTINGS ttl_only_drop_parts = 1, {deduplication_window} = 100000

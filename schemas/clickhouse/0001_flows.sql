-- Raw windows. One insert a window and partition of Kafka; `revision` > 0 rows are packets that came late: sums stay right.
-- Sorted by the hour and then by address: addresses compress, and an address is found in few granules of an hour (docs/decisions/0019).
-- No window_begin in the key: the planner would take it for the one that a time range is about. first/last are offsets from
-- window_begin, which compress; ALIAS shows them as times.
CREATE TABLE IF NOT EXISTS {database}.flows{local} {on_cluster}
(
    window_begin      DateTime('UTC')            COMMENT 'Start of the window' CODEC(T64, ZSTD(1)),
    window_seconds    UInt16                     COMMENT 'Length of the window' CODEC(ZSTD(1)),
    node              LowCardinality(String)     COMMENT 'Node that saw the flow',
    interface         LowCardinality(String)     COMMENT 'Interface on which it was seen',
    direction         Enum8('ingress' = 0, 'egress' = 1) COMMENT 'Direction in which packets from src to dst passed the interface' CODEC(ZSTD(1)),
    primary           Bool DEFAULT true          COMMENT 'Whether totals count these packets: of several passages of a packet on a node one is primary' CODEC(ZSTD(1)),
    protocol          UInt8                      COMMENT 'IANA protocol number' CODEC(ZSTD(1)),
    src_addr          IPv6                       COMMENT 'Initiator; IPv4 as ::ffff:a.b.c.d' CODEC(ZSTD(3)),
    dst_addr          IPv6                       COMMENT 'Responder' CODEC(ZSTD(3)),
    src_port          UInt16                     COMMENT 'Port of the initiator, or 0' CODEC(Delta, ZSTD(1)),
    dst_port          UInt16                     COMMENT 'Port of the responder, or 0' CODEC(Delta, ZSTD(1)),
    vlan_id           UInt16                     COMMENT 'Outer 802.1Q tag, or 0' CODEC(ZSTD(1)),
    icmp_type         Int16                      COMMENT 'ICMP type from src to dst; -1: none, as in later fragments' CODEC(ZSTD(1)),
    icmp_code         UInt8                      COMMENT 'ICMP code from src to dst, or 0' CODEC(ZSTD(1)),
    tunnel_type       Enum8('none' = 0, 'vxlan' = 1, 'geneve' = 2, 'gre' = 3, 'ipip' = 4, 'gtpu' = 5) DEFAULT 'none' COMMENT 'Tunnel that the packets were taken out of' CODEC(ZSTD(1)),
    tunnel_id         UInt32                     COMMENT 'VNI, GRE key or TEID, or 0' CODEC(ZSTD(1)),
    outer_src_addr    IPv6                       COMMENT 'Tunnel: its source address, of packets from src to dst; :: without one' CODEC(ZSTD(1)),
    outer_dst_addr    IPv6                       COMMENT 'Tunnel: its destination address' CODEC(ZSTD(1)),
    packets           UInt64                     COMMENT 'Packets from src to dst, as on the wire' CODEC(T64, ZSTD(1)),
    bytes             UInt64                     COMMENT 'Bytes from src to dst, layer 2 without FCS' CODEC(T64, ZSTD(1)),
    packets_rev       UInt64                     COMMENT 'Packets from dst to src' CODEC(T64, ZSTD(1)),
    bytes_rev         UInt64                     COMMENT 'Bytes from dst to src' CODEC(T64, ZSTD(1)),
    tcp_flags         UInt16                     COMMENT 'All TCP flags from src to dst' CODEC(ZSTD(1)),
    tcp_flags_rev     UInt16                     COMMENT 'All TCP flags from dst to src' CODEC(ZSTD(1)),
    min_ttl           UInt8                      COMMENT 'Lowest TTL or hop limit from src to dst, or 0 without a packet' CODEC(ZSTD(1)),
    max_ttl           UInt8                      COMMENT 'Highest TTL or hop limit from src to dst' CODEC(ZSTD(1)),
    min_ttl_rev       UInt8                      COMMENT 'Lowest TTL or hop limit from dst to src' CODEC(ZSTD(1)),
    max_ttl_rev       UInt8                      COMMENT 'Highest TTL or hop limit from dst to src' CODEC(ZSTD(1)),
    dscp              UInt8                      COMMENT 'DSCP of the first packet from src to dst' CODEC(ZSTD(1)),
    dscp_rev          UInt8                      COMMENT 'DSCP of the first packet from dst to src' CODEC(ZSTD(1)),
    min_packet_bytes  UInt32                     COMMENT 'Smallest packet from src to dst, or 0 without one' CODEC(T64, ZSTD(1)),
    max_packet_bytes  UInt32                     COMMENT 'Largest packet from src to dst' CODEC(T64, ZSTD(1)),
    min_packet_bytes_rev UInt32                  COMMENT 'Smallest packet from dst to src, or 0 without one' CODEC(T64, ZSTD(1)),
    max_packet_bytes_rev UInt32                  COMMENT 'Largest packet from dst to src' CODEC(T64, ZSTD(1)),
    first_offset_us   UInt32                     COMMENT 'First packet, microseconds after window_begin' CODEC(T64, ZSTD(1)),
    last_offset_us    UInt32                     COMMENT 'Last packet, microseconds after window_begin' CODEC(T64, ZSTD(1)),
    domain            LowCardinality(String)     COMMENT 'Name that the client asked for, or empty' CODEC(ZSTD(3)),
    domain_source     Enum8('' = 0, 'sni' = 1, 'http' = 2, 'quic' = 3, 'dns' = 4, 'reverse' = 5) COMMENT 'Where it was read' CODEC(ZSTD(9)),
    domain_count      UInt16                     COMMENT 'Names that the client was given for the address of the server, or 0' CODEC(T64, ZSTD(1)),
    ja4               LowCardinality(String)     COMMENT 'JA4 fingerprint of the TLS of the client, or empty' CODEC(ZSTD(1)),
    alpn              LowCardinality(String)     COMMENT 'First protocol that the client offered by ALPN, or empty' CODEC(ZSTD(9)),
    topic_id          UInt64                     COMMENT 'Identity of the packets topic, from its id in Kafka: when its data is deleted, offsets begin at 0 again' CODEC(ZSTD(1)),
    kafka_partition   Int32                      COMMENT 'Partition of the packets topic' CODEC(ZSTD(1)),
    kafka_offset_end  Int64                      COMMENT 'All that lies before this offset and belongs to this window is in this or an earlier revision. It stands in some rows of an insert, 0 in the others: read max()' CODEC(ZSTD(1)),
    revision          UInt32                     COMMENT '0: written at the close of the window; 1, 2, ...: packets that came later; from 1073741824 on: made again by ayaflow rewindow, of a window that had no such revision' CODEC(ZSTD(1)),
    inserted          DateTime('UTC') DEFAULT now() COMMENT 'When the row was stored, by the clock of ClickHouse' CODEC(T64, ZSTD(1)),
    first_seen        DateTime64(6, 'UTC') ALIAS addMicroseconds(toDateTime64(window_begin, 6, 'UTC'), first_offset_us) COMMENT 'First packet in the window',
    last_seen         DateTime64(6, 'UTC') ALIAS addMicroseconds(toDateTime64(window_begin, 6, 'UTC'), last_offset_us) COMMENT 'Last packet in the window',
    community_id      String ALIAS
        {community_id}
        COMMENT 'Community ID v1, seed 0',
    record_id         String ALIAS
        {record_id}
        COMMENT 'Identity of the row; the record in the flows topic has the same',
    INDEX window_range window_begin TYPE minmax GRANULARITY 1,
    INDEX src_addr_bloom src_addr TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX dst_addr_bloom dst_addr TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX domain_bloom domain TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {merge_tree}
PARTITION BY toDate(window_begin)
ORDER BY (toStartOfHour(window_begin), dst_addr, src_addr, protocol, dst_port, src_port, node)
TTL window_begin + INTERVAL {flows_retention_days} DAY
SETTINGS ttl_only_drop_parts = 1, {deduplication_window} = 100000;

-- What names were asked for: DNS transactions and handshakes, added up by window. An insert holds what the messages of one partition
-- from kafka_offset_start to kafka_offset_end brought, whatever their times: so it is one part, and there or not (see names_ledger).
CREATE TABLE IF NOT EXISTS {database}.names{local} {on_cluster}
(
    window_begin       DateTime('UTC')          COMMENT 'Start of the window' CODEC(Delta, ZSTD(1)),
    window_seconds     UInt16                   COMMENT 'Length of the window' CODEC(ZSTD(1)),
    node               LowCardinality(String)   COMMENT 'Node that saw it',
    kind               Enum8('dns' = 0, 'mdns' = 1, 'llmnr' = 2, 'tls' = 3, 'quic' = 4, 'http' = 5) COMMENT 'DNS transaction, or handshake' CODEC(ZSTD(1)),
    status             Enum8('named' = 0, 'incomplete' = 1, 'malformed' = 2, 'encrypted' = 3, 'nameless' = 4) COMMENT 'Whether the name was read, and why not' CODEC(ZSTD(1)),
    protocol           UInt8                    COMMENT 'IANA protocol number' CODEC(ZSTD(1)),
    client             IPv6                     COMMENT 'Who asked; IPv4 as ::ffff:a.b.c.d' CODEC(ZSTD(1)),
    server             IPv6                     COMMENT 'Who was asked' CODEC(ZSTD(1)),
    server_port        UInt16                   COMMENT 'Its port' CODEC(ZSTD(1)),
    name               String                   COMMENT 'What was asked for, in lower case without a final dot; empty: no name was read' CODEC(ZSTD(3)),
    qtype              UInt16                   COMMENT 'IANA DNS type; 0 of handshakes' CODEC(T64, ZSTD(1)),
    rcode              Int16                    COMMENT 'IANA DNS response code; -1: no answer was seen, and of handshakes' CODEC(T64, ZSTD(1)),
    ja4                LowCardinality(String)   COMMENT 'JA4 fingerprint of the TLS of the client, or empty',
    alpn               LowCardinality(String)   COMMENT 'First protocol that the client offered by ALPN, or empty',
    ech                Enum8('none' = 0, 'offered' = 1, 'real' = 2) COMMENT 'Encrypted ClientHello' CODEC(ZSTD(1)),
    count              UInt64                   COMMENT 'Transactions or handshakes' CODEC(T64, ZSTD(1)),
    latency_count      UInt64                   COMMENT 'Of these, those whose question and answer were seen' CODEC(T64, ZSTD(1)),
    latency_us_sum     UInt64                   COMMENT 'Microseconds from their questions to their answers, added up' CODEC(T64, ZSTD(1)),
    latency_us_max     UInt32                   COMMENT 'The longest' CODEC(T64, ZSTD(1)),
    ttl                UInt32                   COMMENT 'Lowest time to live of the last answer, seconds' CODEC(T64, ZSTD(1)),
    answers            Array(String)            COMMENT 'The last answer: addresses and names in their order' CODEC(ZSTD(3)),
    copies             UInt64                   COMMENT 'Packets of which it was read' CODEC(T64, ZSTD(1)),
    received           DateTime('UTC')          COMMENT 'When Kafka took the first message of this insert' CODEC(Delta, ZSTD(1)),
    topic_id           UInt64                   COMMENT 'Identity of the names topic, as in flows' CODEC(ZSTD(1)),
    kafka_partition    Int32                    COMMENT 'Partition of the names topic' CODEC(ZSTD(1)),
    kafka_offset_start Int64                    COMMENT 'First message of this insert' CODEC(Delta, ZSTD(1)),
    kafka_offset_end   Int64                    COMMENT 'The message behind its last one' CODEC(Delta, ZSTD(1))
)
ENGINE = {merge_tree}
PARTITION BY toDate(received)
ORDER BY (window_begin, node, kind, name, qtype, client)
TTL received + INTERVAL {names_retention_days} DAY
SETTINGS ttl_only_drop_parts = 1, {deduplication_window} = 100000;

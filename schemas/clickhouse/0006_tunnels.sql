-- The tunnel of flows that were taken out of one (capture.decapsulate). Rollups add up over tunnels.
-- The second statement is for the Distributed table of a cluster; on one server it finds the columns there.
ALTER TABLE {database}.flows{local} {on_cluster}
    ADD COLUMN IF NOT EXISTS tunnel_type Enum8('none' = 0, 'vxlan' = 1, 'geneve' = 2, 'gre' = 3, 'ipip' = 4, 'gtpu' = 5) DEFAULT 'none' COMMENT 'Tunnel that the packets were taken out of' CODEC(ZSTD(1)) AFTER icmp_code,
    ADD COLUMN IF NOT EXISTS tunnel_id UInt32 COMMENT 'VNI, GRE key or TEID, or 0' CODEC(ZSTD(1)) AFTER tunnel_type,
    ADD COLUMN IF NOT EXISTS outer_src_addr IPv6 COMMENT 'Tunnel: its source address, of packets from src to dst; :: without one' CODEC(ZSTD(1)) AFTER tunnel_id,
    ADD COLUMN IF NOT EXISTS outer_dst_addr IPv6 COMMENT 'Tunnel: its destination address' CODEC(ZSTD(1)) AFTER outer_src_addr;

ALTER TABLE {database}.flows {on_cluster}
    ADD COLUMN IF NOT EXISTS tunnel_type Enum8('none' = 0, 'vxlan' = 1, 'geneve' = 2, 'gre' = 3, 'ipip' = 4, 'gtpu' = 5) DEFAULT 'none' COMMENT 'Tunnel that the packets were taken out of' AFTER icmp_code,
    ADD COLUMN IF NOT EXISTS tunnel_id UInt32 COMMENT 'VNI, GRE key or TEID, or 0' AFTER tunnel_type,
    ADD COLUMN IF NOT EXISTS outer_src_addr IPv6 COMMENT 'Tunnel: its source address, of packets from src to dst; :: without one' AFTER tunnel_id,
    ADD COLUMN IF NOT EXISTS outer_dst_addr IPv6 COMMENT 'Tunnel: its destination address' AFTER outer_src_addr;

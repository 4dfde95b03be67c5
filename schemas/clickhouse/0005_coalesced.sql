-- Packets that the kernel added up by flow. The second statement is for the Distributed table of a cluster; on one server it finds the columns there.
ALTER TABLE {database}.ledger{local} {on_cluster}
    ADD COLUMN IF NOT EXISTS coalesced_packets UInt64 COMMENT 'Added up by flow in the kernel, and recorded as that' CODEC(T64, ZSTD(1)) AFTER emitted_bytes,
    ADD COLUMN IF NOT EXISTS coalesced_bytes UInt64 CODEC(T64, ZSTD(1)) AFTER coalesced_packets;

ALTER TABLE {database}.ledger {on_cluster}
    ADD COLUMN IF NOT EXISTS coalesced_packets UInt64 COMMENT 'Added up by flow in the kernel, and recorded as that' AFTER emitted_bytes,
    ADD COLUMN IF NOT EXISTS coalesced_bytes UInt64 AFTER coalesced_packets;

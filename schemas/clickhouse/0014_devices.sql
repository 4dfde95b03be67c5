-- Packets of devices whose link header we do not know, and what the devices' own counters say beside ours.
ALTER TABLE {database}.ledger{local} {on_cluster}
    ADD COLUMN IF NOT EXISTS unknown_link_packets UInt64 COMMENT 'Counted, not recorded: of a device whose link header is not known' CODEC(T64, ZSTD(1)) AFTER malformed_bytes,
    ADD COLUMN IF NOT EXISTS unknown_link_bytes UInt64 CODEC(T64, ZSTD(1)) AFTER unknown_link_packets,
    ADD COLUMN IF NOT EXISTS device_epochs UInt64 COMMENT 'Epochs up to this one that the next three are of; 0: the device was not asked at its end' CODEC(T64, ZSTD(1)) AFTER ring_full_bytes,
    ADD COLUMN IF NOT EXISTS device_packets UInt64 COMMENT 'By the own counters of the device, all passages together' CODEC(T64, ZSTD(1)) AFTER device_epochs,
    ADD COLUMN IF NOT EXISTS device_bytes UInt64 CODEC(T64, ZSTD(1)) AFTER device_packets,
    ADD COLUMN IF NOT EXISTS unseen_packets UInt64 COMMENT 'Of these, what the hooks did not see' CODEC(T64, ZSTD(1)) AFTER device_bytes;

ALTER TABLE {database}.ledger {on_cluster}
    ADD COLUMN IF NOT EXISTS unknown_link_packets UInt64 COMMENT 'Counted, not recorded: of a device whose link header is not known' AFTER malformed_bytes,
    ADD COLUMN IF NOT EXISTS unknown_link_bytes UInt64 AFTER unknown_link_packets,
    ADD COLUMN IF NOT EXISTS device_epochs UInt64 COMMENT 'Epochs up to this one that the next three are of; 0: the device was not asked at its end' AFTER ring_full_bytes,
    ADD COLUMN IF NOT EXISTS device_packets UInt64 COMMENT 'By the own counters of the device, all passages together' AFTER device_epochs,
    ADD COLUMN IF NOT EXISTS device_bytes UInt64 AFTER device_packets,
    ADD COLUMN IF NOT EXISTS unseen_packets UInt64 COMMENT 'Of these, what the hooks did not see' AFTER device_bytes;

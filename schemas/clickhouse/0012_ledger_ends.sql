-- When a row was written, by the server's clock and not the node's; and where a ring ended, so that nothing is waited for.
-- The second statement is for the Distributed table of a cluster; on one server it finds the columns there.
ALTER TABLE {database}.ledger{local} {on_cluster}
    ADD COLUMN IF NOT EXISTS ended Bool DEFAULT false COMMENT 'The producer ended and sent all: the ring has no epoch behind this one' AFTER closed,
    ADD COLUMN IF NOT EXISTS recorded DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When this row was written, by the clock of ClickHouse' CODEC(Delta, ZSTD(1));

ALTER TABLE {database}.ledger {on_cluster}
    ADD COLUMN IF NOT EXISTS ended Bool DEFAULT false COMMENT 'The producer ended and sent all: the ring has no epoch behind this one' AFTER closed,
    ADD COLUMN IF NOT EXISTS recorded DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When this row was written, by the clock of ClickHouse';

-- Whether the kernel's counters of an epoch came. When a ring is given up, its last epoch is never closed: the row then has only what was consumed.
ALTER TABLE {database}.ledger{local} {on_cluster}
    ADD COLUMN IF NOT EXISTS closed Bool DEFAULT true COMMENT 'Whether the counters of the kernel came; without them they are 0' AFTER end_time;

ALTER TABLE {database}.ledger {on_cluster}
    ADD COLUMN IF NOT EXISTS closed Bool DEFAULT true COMMENT 'Whether the counters of the kernel came; without them they are 0' AFTER end_time;

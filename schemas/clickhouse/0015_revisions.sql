-- A node whose clock stands still has every packet in one window: a revision a second, for as long as it lasts.
ALTER TABLE {database}.flows{local} {on_cluster}
    MODIFY COLUMN revision UInt32;

ALTER TABLE {database}.flows {on_cluster}
    MODIFY COLUMN revision UInt32;

-- When a row was stored, by the server's clock: how long its insert's name is known. Rows from before say "now".
ALTER TABLE {database}.flows{local} {on_cluster}
    ADD COLUMN IF NOT EXISTS inserted DateTime('UTC') DEFAULT now() COMMENT 'When the row was stored' CODEC(Delta, ZSTD(1)) AFTER revision;

ALTER TABLE {database}.flows {on_cluster}
    ADD COLUMN IF NOT EXISTS inserted DateTime('UTC') DEFAULT now() COMMENT 'When the row was stored' AFTER revision;

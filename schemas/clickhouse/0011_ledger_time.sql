-- The ledger is sorted by node and epoch; this finds the epochs of an hour without reading the times of a month.
ALTER TABLE {database}.ledger{local} {on_cluster}
    ADD INDEX IF NOT EXISTS end_time_range end_time TYPE minmax GRANULARITY 1;

ALTER TABLE {database}.ledger{local} {on_cluster}
    MATERIALIZE INDEX end_time_range;

-- On a cluster, the plain names are Distributed tables. A partition of Kafka always goes to the same shard, so that the
-- deduplication token of an insert that is tried again meets the first one.
CREATE TABLE IF NOT EXISTS {database}.flows {on_cluster} AS {database}.flows_local
ENGINE = Distributed('{cluster}', '{database}', 'flows_local', kafka_partition);

CREATE TABLE IF NOT EXISTS {database}.flows_1h {on_cluster} AS {database}.flows_1h_local
ENGINE = Distributed('{cluster}', '{database}', 'flows_1h_local', rand());

CREATE TABLE IF NOT EXISTS {database}.flows_1d {on_cluster} AS {database}.flows_1d_local
ENGINE = Distributed('{cluster}', '{database}', 'flows_1d_local', rand());

CREATE TABLE IF NOT EXISTS {database}.services_1m {on_cluster} AS {database}.services_1m_local
ENGINE = Distributed('{cluster}', '{database}', 'services_1m_local', rand());

CREATE TABLE IF NOT EXISTS {database}.hosts_1h {on_cluster} AS {database}.hosts_1h_local
ENGINE = Distributed('{cluster}', '{database}', 'hosts_1h_local', rand());

CREATE TABLE IF NOT EXISTS {database}.ledger {on_cluster} AS {database}.ledger_local
ENGINE = Distributed('{cluster}', '{database}', 'ledger_local', cityHash64(node));

CREATE TABLE IF NOT EXISTS {database}.losses {on_cluster} AS {database}.losses_local
ENGINE = Distributed('{cluster}', '{database}', 'losses_local', kafka_partition);

CREATE TABLE IF NOT EXISTS {database}.dropped {on_cluster} AS {database}.dropped_local
ENGINE = Distributed('{cluster}', '{database}', 'dropped_local', cityHash64(table, day));

CREATE TABLE IF NOT EXISTS {database}.refused {on_cluster} AS {database}.refused_local
ENGINE = Distributed('{cluster}', '{database}', 'refused_local', kafka_partition);

CREATE TABLE IF NOT EXISTS {database}.names {on_cluster} AS {database}.names_local
ENGINE = Distributed('{cluster}', '{database}', 'names_local', kafka_partition);

CREATE TABLE IF NOT EXISTS {database}.names_ledger {on_cluster} AS {database}.names_ledger_local
ENGINE = Distributed('{cluster}', '{database}', 'names_ledger_local', kafka_partition);

CREATE TABLE IF NOT EXISTS {database}.losses {on_cluster} AS {database}.losses_local
ENGINE = Distributed('{cluster}', '{database}', 'losses_local', kafka_partition);

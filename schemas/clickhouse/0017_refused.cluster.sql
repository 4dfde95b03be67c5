CREATE TABLE IF NOT EXISTS {database}.refused {on_cluster} AS {database}.refused_local
ENGINE = Distributed('{cluster}', '{database}', 'refused_local', kafka_partition);

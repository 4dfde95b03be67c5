CREATE TABLE IF NOT EXISTS {database}.packets {on_cluster} AS {database}.packets_local
ENGINE = Distributed('{cluster}', '{database}', 'packets_local', kafka_partition)

CREATE TABLE IF NOT EXISTS {database}.rewindows {on_cluster} AS {database}.rewindows_local
ENGINE = Distributed('{cluster}', '{database}', 'rewindows_local', cityHash64(id));

CREATE TABLE IF NOT EXISTS {database}.rewindow_progress {on_cluster} AS {database}.rewindow_progress_local
ENGINE = Distributed('{cluster}', '{database}', 'rewindow_progress_local', cityHash64(id));

CREATE TABLE IF NOT EXISTS {database}.rewindowed {on_cluster} AS {database}.rewindowed_local
ENGINE = Distributed('{cluster}', '{database}', 'rewindowed_local', kafka_partition);

-- A time in which a node's kernel program counted nothing, because no producer had told it that one lives.
ALTER TABLE {database}.losses{local} {on_cluster}
    MODIFY COLUMN kind Enum8('messages' = 0, 'events' = 1, 'entries' = 2, 'idle' = 3) COMMENT 'Messages of a partition, events of a node''s ring, coalesced entries of it; idle: its kernel program counted nothing',
    MODIFY COLUMN gap_start Int64 COMMENT 'Where it begins: an offset, a position of the ring in bytes, a number of an entry; of idle, ns since the Unix epoch';

ALTER TABLE {database}.losses {on_cluster}
    MODIFY COLUMN kind Enum8('messages' = 0, 'events' = 1, 'entries' = 2, 'idle' = 3) COMMENT 'Messages of a partition, events of a node''s ring, coalesced entries of it; idle: its kernel program counted nothing';

-- Addresses that end in zeros had a wrong one.
ALTER TABLE {database}.flows{local} {on_cluster}
    MODIFY COLUMN community_id String ALIAS {community_id};

ALTER TABLE {database}.flows {on_cluster}
    MODIFY COLUMN community_id String ALIAS {community_id};

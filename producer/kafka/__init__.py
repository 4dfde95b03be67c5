"""From batches to acknowledged messages: encoding, order, the spool on disk, the tail of an earlier run."""

"""The Avro schemas, and columns to and from their messages."""

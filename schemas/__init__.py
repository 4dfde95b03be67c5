"""What crosses a boundary, defined once: Avro schemas, their Python columns and codec, the ClickHouse DDL."""

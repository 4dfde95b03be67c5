"""The ClickHouse clients that people have, in five languages, against the embedded ClickHouse (`make test-clients`)."""

"""`ayaflow clickhouse`: ClickHouse's HTTP interface over chDB."""

"""Reading ClickHouse."""

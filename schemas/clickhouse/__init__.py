"""The ClickHouse DDL as numbered migrations."""

"""What ClickHouse's disk has room for: a cap in bytes, and the ledger of the past made small."""

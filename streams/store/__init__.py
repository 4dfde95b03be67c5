"""Flows and ledger into ClickHouse."""

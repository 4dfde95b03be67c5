"""Fixtures that more than one folder of tests uses."""

from tests.fix_local import clickhouse_server, kafka_broker

__all__ = ["clickhouse_server", "kafka_broker"]

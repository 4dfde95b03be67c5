"""The worker that reads partition 0 looks after ClickHouse's disk, and says so. Real Kafka and ClickHouse."""

import pytest

from tests.integration.fix_streams import pipeline

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]


def test_the_worker_of_partition_0_looks_after_the_disk(kafka_broker: str, clickhouse_server: str) -> None:
    with pipeline(kafka_broker, clickhouse_server, clickhouse_reserve_bytes=str(1 << 60)) as p:
        p.start()
        p.until(lambda: bool(p.health().get("disk")))
        told = p.health()
        assert told["disk"]["stored_bytes"] > 0
        assert any("no day goes for it" in warning for warning in told["warnings"])
        assert told["ok"] is True

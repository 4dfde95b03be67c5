"""ClickHouse's tables keep the contract that streams' tests rely on where a store in memory stands for them."""

import time
from collections.abc import Callable, Iterator

import pytest

from common.settings import ClickHouseSettings
from streams.partition.storing import KafkaPartition
from streams.store.clickhouse import ClickHouseStore
from streams.worker.neighbours import FlowStore
from tests.unit.streams.store_contract import CONTRACT

pytestmark = pytest.mark.clickhouse


@pytest.fixture(scope="module")
def store(clickhouse_server: str) -> Iterator[ClickHouseStore]:
    settings = ClickHouseSettings(
        url=clickhouse_server, database=f"db_{time.time_ns()}", flows_retention_days=int(time.time()) // 86_400 - 1
    )
    made = ClickHouseStore(settings, "packets")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("number", "promise"), list(enumerate(CONTRACT)), ids=[promise.__name__ for promise in CONTRACT]
)
def test_clickhouse_keeps_the_contract(
    store: ClickHouseStore, number: int, promise: Callable[[FlowStore, KafkaPartition], None]
) -> None:
    promise(store, KafkaPartition(100 * number + 1, number))

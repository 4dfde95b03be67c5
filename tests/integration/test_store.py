"""ClickHouse's tables keep the contract that streams' tests rely on where a store in memory stands for them."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import hypothesis
import pytest

from common.clickhouse import connect
from common.settings import ClickHouseSettings
from schemas.community_id import community_ids
from schemas.flows import FlowColumns
from schemas.record_id import record_ids
from streams.partition.storing import KafkaPartition
from streams.store.clickhouse import ClickHouseStore
from streams.worker.neighbours import FlowStore
from tests.fix_local import WRITER
from tests.unit.schemas.strategies import flow_columns
from tests.unit.streams.store_contract import CONTRACT

pytestmark = pytest.mark.clickhouse


@pytest.fixture(scope="module")
def settings(clickhouse_server: str) -> ClickHouseSettings:
    return ClickHouseSettings(
        url=clickhouse_server,
        **WRITER,
        database=f"ayaflow_{time.time_ns()}",
        flows_retention_days=int(time.time()) // 86_400 - 1,
    )


@pytest.fixture(scope="module")
def store(settings: ClickHouseSettings) -> Iterator[ClickHouseStore]:
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


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(flows=flow_columns())
def test_the_table_has_the_ids_and_icmp_types_of_the_messages(
    settings: ClickHouseSettings, store: ClickHouseStore, flows: FlowColumns
) -> None:
    partition, flows = KafkaPartition(time.time_ns(), 3), replace(flows, window_begin=1_800_000_000)
    store.insert(flows, partition, 2, 9)
    client = connect(settings, database=settings.database, timeout_seconds=60)
    try:
        (found,) = client.query(
            "SELECT arraySort(groupArray((community_id, icmp_type))), arraySort(groupArray(record_id))"
            " FROM flows WHERE topic_id = %(topic_id)s",
            parameters={"topic_id": partition.topic_id},
        ).result_rows
    finally:
        client.close()
    names = ("protocol", "src_addr", "dst_addr", "src_port", "dst_port", "icmp_type", "icmp_code")
    ids = community_ids(**{name: getattr(flows, name) for name in names})
    assert found[0] == sorted(zip(ids, flows.icmp_type.tolist(), strict=True))
    identities = record_ids(flows, topic_id=partition.topic_id, kafka_partition=3, revision=2)
    assert found[1] == sorted(each.decode() for each in identities.tolist())

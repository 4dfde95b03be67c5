"""ClickHouse's tables keep the contract that streams' tests rely on where a store in memory stands for them."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import hypothesis
import pytest

from common.clickhouse import connect
from common.settings import ClickHouseSettings
from schemas.community_id import community_ids
from schemas.flows import FlowColumns, LedgerRow
from schemas.packets import EpochCounters
from schemas.record_id import record_ids
from streams.partition.accounting import Accounts
from streams.partition.ledger import EpochId
from streams.partition.storing import KafkaPartition
from streams.store.clickhouse import ClickHouseStore
from streams.worker.neighbours import FlowStore
from tests.fix_local import WRITER
from tests.unit.schemas.strategies import flow_columns
from tests.unit.streams.batches import SECOND, batch
from tests.unit.streams.store_contract import CONTRACT, START

pytestmark = pytest.mark.clickhouse


@pytest.fixture(scope="module")
def settings(clickhouse_server: str) -> ClickHouseSettings:
    return ClickHouseSettings(
        url=clickhouse_server,
        **WRITER,
        database=f"ayaflow_{time.time_ns()}",
        flows_retention_days=int(time.time()) // 86_400 - 1,
        rollup_retention_days=int(time.time()) // 86_400 - 1,
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


def epochs(node: str, ends: Sequence[int]) -> list[LedgerRow]:
    """Of a ring, that ended at these seconds since the Unix epoch."""
    rows = [
        EpochCounters.nothing(epoch=10**9 + number, start_ns=end * SECOND, end_ns=end * SECOND)
        for number, end in enumerate(ends)
    ]
    made = batch([], node=node, counters=rows)
    accounts = Accounts()
    accounts.count(made, [], 0, 10)
    return [row for epoch in accounts.closed() for row in epoch.rows]


def test_epochs_of_more_days_than_an_insert_may_have_partitions_are_stored_at_once(store: ClickHouseStore) -> None:
    day, now = 86_400, int(time.time())
    rows = epochs("days", range(now - 700 * day, now, day))
    store.insert_ledger(rows)
    names = [EpochId("days", 7, row.counters.epoch) for row in rows]
    assert store.stored_epochs(names).keys() == {*names}


def test_a_hundred_thousand_epochs_are_asked_for_at_once(store: ClickHouseStore) -> None:
    """More than a URL may hold."""
    store.insert_ledger(epochs("many", [START] * 3))
    asked = [EpochId("many", 7, 10**9 + number) for number in range(100_000)]
    assert store.stored_epochs(asked) == dict.fromkeys(asked[:3], ())


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

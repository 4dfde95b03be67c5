"""The tables names and names_ledger of ClickHouse, over HTTP (clickhouse-connect). Blocking; used from a thread."""

import base64
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from common.settings import ClickHouseSettings
from schemas.clickhouse.horizon import Horizon
from schemas.flows import Loss
from schemas.names import NAME_STATUSES
from streams.names.partition import Block, Extents
from streams.names.storing import Aside
from streams.partition.storing import KafkaPartition
from streams.store.arrow import loss_table
from streams.store.aside import name_rows_of, names_aside_table
from streams.store.connection import Connection
from streams.store.turned import PARTITION

_BLOCK = f"{PARTITION} AND kafka_offset_start = {{start:Int64}}"
_ASIDE = f"refused_by = 'names' AND {_BLOCK}"


class ClickHouseNames:
    """A NameStore of streams.names.storing. Connects and migrates as ClickHouseStore does."""

    def __init__(
        self,
        settings: ClickHouseSettings,
        topic: str,
        horizon: Horizon | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`horizon`: how far back the server is to know the names of inserts; None: as far as it does."""
        self._topic, self._clock = topic, clock
        self._connection = Connection(settings, horizon)

    def blocks(self, partition: KafkaPartition, offset: int) -> list[Extents]:
        """Those that names_ledger has and that end behind an offset, by offset."""
        return self._connection.query(
            f"SELECT kafka_offset_start, any(kafka_offset_end) FROM names_ledger WHERE {PARTITION} "  # noqa: S608  constants
            "AND kafka_offset_end > {offset:Int64} GROUP BY kafka_offset_start ORDER BY kafka_offset_start",
            lambda rows: [Extents(int(start), int(end)) for start, end in rows],
            **_named(partition),
            offset=offset,
        )

    def stored_until(self, partition: KafkaPartition) -> int:
        """The offset behind the last block of the last week; 0: there is none."""
        return self._connection.number(
            f"SELECT max(kafka_offset_end) FROM names_ledger WHERE {PARTITION} AND received > now() - INTERVAL 7 DAY",  # noqa: S608  constants
            **_named(partition),
        )

    def decide(self, block: Block) -> None:
        """Write what a block is made of, unless something has its name."""
        self._connection.insert("names_ledger", _ledger(block), {"insert_deduplication_token": self._token(block)})

    def end(self, partition: KafkaPartition, start: int) -> int | None:
        """Where the block that begins with a message ends; None: names_ledger has none."""
        return self._connection.query(
            f"SELECT any(kafka_offset_end) FROM names_ledger WHERE {_BLOCK} HAVING count() > 0",  # noqa: S608  constants
            lambda rows: int(rows[0][0]) if rows else None,
            **_named(partition),
            start=start,
        )

    def has(self, block: Block) -> bool:
        """Whether the rows of a block are there."""
        return self._connection.query(
            f"SELECT count() FROM names WHERE received = toDateTime({{received:UInt32}}, 'UTC') AND {_BLOCK}",  # noqa: S608  constants
            lambda rows: int(rows[0][0]) > 0,
            **_named(block.partition),
            start=block.messages.start,
            received=block.received_s,
        )

    def insert(self, block: Block) -> None:
        """Store the rows of a block, unless something has its name."""
        assert block.rows is not None
        table = _with(block, block.rows, len(block.rows))
        self._connection.insert("names", table, {"insert_deduplication_token": self._token(block)})

    def set_aside(self, block: Block, error: str) -> None:
        """Keep rows that the table refuses in the table `refused`, under their name."""
        self._connection.insert("refused", names_aside_table(block, error, self._clock()))

    def all_aside(self, partition: int) -> list[Aside]:
        """What is set aside of a partition and not in the table yet, the oldest first."""
        return self._connection.query(
            "SELECT topic_id, kafka_offset_start, kafka_offset_end, toUnixTimestamp(window_begin) FROM refused FINAL "
            "WHERE refused_by = 'names' AND kafka_partition = {partition:Int32} AND NOT brought_in "
            "ORDER BY window_begin, kafka_offset_start",
            lambda rows: [
                Aside(KafkaPartition(topic_id, partition), Extents(start, end), received_s)
                for topic_id, start, end, received_s in rows
            ],
            partition=partition,
        )

    def rows_aside(self, aside: Aside) -> pa.Table:
        """What was set aside under a name."""
        return self._connection.query(
            f"SELECT base64Encode(flows) FROM refused FINAL WHERE {_ASIDE}",  # noqa: S608  constants
            lambda rows: name_rows_of(base64.b64decode(rows[0][0])),
            **_named(aside.partition),
            start=aside.messages.start,
        )

    def brought_in(self, aside: Aside) -> None:
        """The table has it now."""
        self._connection.command(
            f"INSERT INTO refused SELECT * REPLACE ('' AS flows, 1 AS brought_in) FROM refused FINAL WHERE {_ASIDE}",  # noqa: S608  constants
            **_named(aside.partition),
            start=aside.messages.start,
        )

    def insert_losses(self, losses: Sequence[Loss], partition: KafkaPartition) -> None:
        """Store losses; one that is there already is replaced by its like."""
        self._connection.insert("losses", loss_table(losses, partition))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _token(self, block: Block) -> str:
        return f"{self._topic}/{block.partition.topic_id:x}/{block.partition.number}/{block.messages.start}"


def _named(partition: KafkaPartition) -> dict[str, Any]:
    return {"partition": partition.number, "topic": partition.topic_id}


def _with(block: Block, table: pa.Table, count: int) -> pa.Table:
    """With the name of the block in each row."""
    for name, value, kind in (
        ("received", block.received_s, np.uint32),
        ("topic_id", block.partition.topic_id, np.uint64),
        ("kafka_partition", block.partition.number, np.int32),
        ("kafka_offset_start", block.messages.start, np.int64),
        ("kafka_offset_end", block.messages.end, np.int64),
    ):
        table = table.append_column(name, pa.array(np.full(count, value, kind)))
    return table


def _ledger(block: Block) -> pa.Table:
    accounts = block.accounts
    epochs = [sorted(account.by_epoch.items()) for account in accounts]
    columns: dict[str, Any] = {
        "node": pa.array([account.ring.node for account in accounts], pa.string()),
        "ring_id": pa.array([account.ring.ring_id for account in accounts], pa.int64()),
        "clock": pa.array([account.clock_ns // 1000 for account in accounts], pa.timestamp("us", "UTC")),
        "epochs": pa.array([[epoch for epoch, _ in each] for each in epochs], pa.list_(pa.int64())),
        "epoch_copies": pa.array([[copies for _, copies in each] for each in epochs], pa.list_(pa.uint64())),
        "transactions": pa.array([account.transactions for account in accounts], pa.uint64()),
        **{
            f"{status}_copies": pa.array([account.by_status[status] for account in accounts], pa.uint64())
            for status in NAME_STATUSES
        },
    }
    for name in ("copies", "unused", "lost", "missing", "open_before", "open"):
        column = name if name == "copies" else f"{name}_copies"
        columns[column] = pa.array([getattr(account, name) for account in accounts], pa.int64())
    return _with(block, pa.table(columns), len(accounts))

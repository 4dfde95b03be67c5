"""How a block of names gets into its table exactly once. Pure apart from the Store it is given.

1. What the block is made of is written to names_ledger, under the name (topic, its id, partition, first offset). The
   server keeps the first of a name: so it is decided there up to which message the block goes, whoever else believes to
   own the partition. It is read back.
2. The rows are written under the same name, all in one part: they are there or not.
3. Then the offsets are acknowledged. Who reads on from an offset asks names_ledger which blocks begin there or later:
   these are made again of the same messages, and stored if their rows are not there.

Rows that the table refuses for good are set aside in the table `refused`, as those of flows are: to the protocol they
are stored, and from there they are stored indeed as soon as they are taken.
"""

from typing import NamedTuple, Protocol

import pyarrow as pa

from common.errors import ServiceUnavailable
from streams.names.partition import Block, Extents
from streams.partition.storing import KafkaPartition, Refused


class Aside(NamedTuple):
    """A block that was set aside."""

    partition: KafkaPartition
    messages: Extents
    received_s: int  # as the block has it


class NameStore(Protocol):
    """The tables names and names_ledger, as the protocol needs them. All raise ServiceUnavailable."""

    def blocks(self, partition: KafkaPartition, offset: int) -> list[Extents]:
        """Those that names_ledger has and that end behind an offset, by offset."""

    def decide(self, block: Block) -> None:
        """Write what a block is made of, unless something has its name."""

    def end(self, partition: KafkaPartition, start: int) -> int | None:
        """Where the block that begins with a message ends; None: names_ledger has none."""

    def has(self, block: Block) -> bool:
        """Whether the rows of a block are there."""

    def insert(self, block: Block) -> None:
        """Store the rows of a block, unless something has its name. Raises Refused."""

    def set_aside(self, block: Block, error: str) -> None:
        """Keep rows that the table refuses beside it, under their name."""

    def all_aside(self, partition: int) -> list[Aside]:
        """What is set aside of a partition and not in the table yet."""

    def rows_aside(self, aside: Aside) -> pa.Table:
        """What was set aside under a name."""

    def brought_in(self, aside: Aside) -> None:
        """The table has it now."""


class Stored(NamedTuple):
    """What came of a block."""

    end: int  # where it ends; if it is not the one that was given, nothing was stored
    rows: int  # inserted
    aside: int = 0  # set aside
    error: str = ""  # why


def store_block(block: Block, store: NameStore) -> Stored:
    """Store it. Can be repeated after any failure."""
    if not block.decided:
        store.decide(block)
        end = store.end(block.partition, block.messages.start)
        if end is None:
            raise ServiceUnavailable("ClickHouse took rows of the table names_ledger and does not show them")
        if end != block.messages.end:
            return Stored(end, 0)
    if block.rows is None or (block.decided and store.has(block)):
        return Stored(block.messages.end, 0)
    try:
        store.insert(block)
    except Refused as error:
        store.set_aside(block, str(error))
        return Stored(block.messages.end, 0, len(block.rows), str(error))
    return Stored(block.messages.end, len(block.rows))


def bring_in(aside: Aside, store: NameStore) -> int:
    """Store what was set aside, under its name -> its rows. Raises Refused when the table still does not take it."""
    rows = store.rows_aside(aside)
    block = Block(
        partition=aside.partition,
        messages=aside.messages,
        decided=True,
        received_s=aside.received_s,
        accounts=(),
        rows=rows,
    )
    if not store.has(block):
        store.insert(block)
    store.brought_in(aside)
    return len(rows)

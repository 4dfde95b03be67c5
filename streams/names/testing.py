"""A fake of the tables names and names_ledger, for tests: it obeys NameStore and can be as bad as the real one."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from common.backlog import PartitionBacklog
from common.errors import ServiceUnavailable
from schemas.flows import Loss
from streams.names.accounts import Account
from streams.names.partition import Block, Extents
from streams.names.storing import Aside
from streams.partition.storing import KafkaPartition, Refused

Name = tuple[KafkaPartition, int]  # of a block: its partition, its first message


class MemoryNames:
    """Keeps the first of a name. `away`: it raises; `lose_answer`: once, after the work."""

    def __init__(self) -> None:
        self.ledger: dict[Name, tuple[int, tuple[Account, ...]]] = {}  # where it ends, what it is made of
        self.rows: dict[Name, pa.Table] = {}
        self.losses: set[Loss] = set()
        self.away = self.lose_answer = False
        self.refuses: str | None = None  # a name of which no row is taken
        self.set_aside_rows: dict[Aside, pa.Table] = {}

    def blocks(self, partition: KafkaPartition, offset: int) -> list[Extents]:
        """Those that end behind an offset."""
        self._ask()
        known = [(start, end) for (place, start), (end, _) in self.ledger.items() if place == partition]
        return [Extents(start, end) for start, end in sorted(known) if end > offset]

    def stored_until(self, partition: KafkaPartition) -> int:
        """Behind the last of them."""
        return max((block.end for block in self.blocks(partition, 0)), default=0)

    def decide(self, block: Block) -> None:
        """The first of a name counts."""
        self._ask()
        if block.accounts:
            self.ledger.setdefault(_name(block), (block.messages.end, block.accounts))
        self._answer()

    def end(self, partition: KafkaPartition, start: int) -> int | None:
        """Where it ends."""
        self._ask()
        known = self.ledger.get((partition, start))
        return known[0] if known else None

    def has(self, block: Block) -> bool:
        """Whether its rows are there."""
        self._ask()
        return _name(block) in self.rows

    def insert(self, block: Block) -> None:
        """The first of a name counts."""
        self._ask()
        assert block.rows is not None
        if self.refuses in block.rows.column("name").to_pylist():
            raise Refused(f"no row may have {self.refuses}")
        self.rows.setdefault(_name(block), block.rows)
        self._answer()

    def set_aside(self, block: Block, _error: str) -> None:
        """Under its name."""
        self._ask()
        assert block.rows is not None
        self.set_aside_rows[Aside(block.partition, block.messages, block.received_s)] = block.rows
        self._answer()

    def all_aside(self, partition: int) -> list[Aside]:
        """By offset."""
        self._ask()
        return sorted(each for each in self.set_aside_rows if each.partition.number == partition)

    def rows_aside(self, aside: Aside) -> pa.Table:
        """What was set aside."""
        self._ask()
        return self.set_aside_rows[aside]

    def brought_in(self, aside: Aside) -> None:
        """It is no longer."""
        self._ask()
        self.set_aside_rows.pop(aside, None)
        self._answer()

    def insert_losses(self, losses: Sequence[Loss], _: KafkaPartition) -> None:
        """Each once."""
        self._ask()
        self.losses |= {*losses}

    def _ask(self) -> None:
        if self.away:
            raise ServiceUnavailable("ClickHouse is away")

    def _answer(self) -> None:
        if self.lose_answer:
            self.lose_answer = False
            raise ServiceUnavailable("the answer was lost")


class MemoryBehind:
    """Obeys streams.names.worker.Behind: each partition that has messages is told with its end."""

    def __init__(self) -> None:
        self.ends: dict[int, int] = {}
        self.away = False

    def look(self, stored: Mapping[int, int]) -> Sequence[PartitionBacklog]:
        """What `ends` says; what is not stored came at the beginning of time."""
        if self.away:
            raise ServiceUnavailable("Kafka is away")
        return [
            PartitionBacklog(
                partition=number,
                begin=0,
                committed=-1,
                first=stored.get(number, 0),
                end=end,
                oldest_unix_s=0.0,
                read=True,
            )
            for number, end in self.ends.items()
        ]


def _name(block: Block) -> Name:
    return block.partition, block.messages.start

"""What the worker needs of its neighbours: Protocols, which the real parts obey and their fakes for tests too.

All of it but Message and Member is blocking, and used from a thread. ServiceUnavailable, from any of them, says
that the same call may work later.
"""

from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple, Protocol

from common.backlog import PartitionBacklog
from schemas.flows import FlowColumns, LedgerRow, Loss
from schemas.packets import PacketBatch
from streams.partition.blocks import Block
from streams.partition.ledger import EpochId
from streams.partition.opening import Begin
from streams.partition.storing import Aside, KafkaPartition, Store
from streams.windowing.initiators import Connections


class Message(Protocol):
    """A message of the packets topic."""

    partition: int
    offset: int
    timestamp: float  # when Kafka took it, seconds since the Unix epoch
    key: bytes | None
    value: bytes | None


class Member(Protocol):
    """Our membership in the consumer group. Does not block."""

    def pause(self, partition: int) -> None:
        """Fetch no more messages of it for now; what is on its way still comes."""

    def resume(self, partition: int) -> None:
        """Fetch them again."""

    def assigned(self) -> Set[int]:
        """The partitions that the group gave us."""

    def acknowledge(self, partition: int, offset: int) -> None:
        """Everything of its messages below this offset is stored: it may be committed."""


class Decoder(Protocol):
    """Reads the values of messages."""

    def at_hand(self, message: bytes) -> bool:
        """Whether it can be decoded without asking the registry."""

    def decode_packet_batch(self, message: bytes) -> PacketBatch:
        """Raises DecodeError; ServiceUnavailable when the registry that knows its schema does not answer."""


class FlowStore(Store, Protocol):
    """The flows, losses and ledger tables."""

    def all_aside(self, partition: int) -> list[Aside]:
        """What is set aside of a partition and not in the table yet."""

    def other_lengths(self, partition: KafkaPartition, window_seconds: int, offset: int) -> tuple[int, int] | None:
        """The window length that our predecessor used, and the offset up to which it stored; None: the same as ours."""

    def stored_until(self, partition: KafkaPartition) -> int:
        """The highest offset below which something is stored; 0: nothing, or nothing lately."""

    def turned(self, partition: KafkaPartition, window_seconds: int) -> Sequence[Connections]:
        """Rows of the last windows, oldest first, of which Initiators learns what our predecessor knew."""

    def insert_losses(self, losses: Sequence[Loss], partition: KafkaPartition) -> None:
        """Store losses; one that is there already is replaced by its like."""

    def stored_epochs(self, epochs: Sequence[EpochId]) -> dict[EpochId, tuple[LedgerRow, ...]]:
        """Those of some epochs that are in the ledger, with their rows where these lack the kernel's counters."""

    def insert_ledger(self, rows: Sequence[LedgerRow]) -> None:
        """Store ledger rows; one that is there already is replaced, but by one that goes up to an earlier message."""


class PacketTable(Protocol):
    """The table packets."""

    def insert(self, block: Block, source: KafkaPartition) -> None:
        """Store a block, unless something has its name. Raises Refused when the table does not take it."""


class Publisher(Protocol):
    """The flows, live and dead-letter topics."""

    def flows(self, flows: FlowColumns, partition: KafkaPartition, revision: int) -> None:
        """Send one message a row, stored under these names, and wait until all are delivered."""

    def dead_letter(
        self,
        value: bytes | None,
        key: bytes | None,
        *,
        partition: int,
        offset: int,
        error: str,
        topic: str | None = None,
    ) -> None:
        """Set a message aside, and wait until it is delivered. `topic`: that it is of; None: the packets."""

    def live(self, stats: dict[str, Any]) -> None:
        """Send a node's live statistics, or lose them."""

    def check(self) -> str | None:
        """What is wrong with Kafka, as far as is known."""


class Offsets(Protocol):
    """The offsets of the consumer group in the packets topic."""

    def begin(self, partition: int) -> Begin:
        """Where a partition stands."""

    def next_message(self, partition: int, offset: int) -> int | None:
        """The offset of the first message at or after one; None: there is none."""


class Look(NamedTuple):
    """The packets topic, as the broker sees it."""

    topic_id: int  # of common.kafka.topic_id
    partitions: Sequence[PartitionBacklog]  # all of them


class Broker(Protocol):
    """Who knows how far all partitions are read."""

    def look(self, stored: Mapping[int, int]) -> Look:
        """Ask. `stored`: partition -> the offset below which everything is stored, acknowledged or not."""

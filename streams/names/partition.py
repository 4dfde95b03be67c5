"""All that is known of one partition of the names topic, between its consumer and the table. Pure; no I/O, no clock.

Messages are put together to blocks: what those from one offset to another brought, whatever its times. Which ones a
block holds is decided by the table names_ledger, once for all workers (streams.names.storing).
"""

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from common.errors import DecodeError
from schemas.batches import Extent, RingId
from schemas.fields import MOST_NAME
from schemas.flows import Loss
from schemas.names import NameBatch
from streams.names.accounts import Account, Accounts, Place
from streams.names.rows import added_up, check_times, packed, rows, unpacked
from streams.partition.losses import Losses
from streams.partition.progress import committable
from streams.partition.rings import Rings
from streams.partition.steady import Steady
from streams.partition.storing import KafkaPartition

INSERT_SECONDS = 5.0  # that messages wait for others of their block
MOST_BYTES = 16 << 20  # of a block; where nothing can be stored, a partition takes no more than twice as much
_PART_BYTES, _EPOCH_BYTES = 2048, 128  # of a message besides its rows


class Extents(NamedTuple):
    """The messages of a block."""

    start: int  # offset of the first
    end: int  # offset behind the last


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one message brought."""

    offset: int
    received_s: int  # when Kafka took it, seconds since the Unix epoch
    account: Account
    rows: pa.Buffer | None  # of streams.names.rows.packed; None: there are none

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return _PART_BYTES + _EPOCH_BYTES * len(self.account.by_epoch) + (self.rows.size if self.rows else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What is to be stored at once."""

    partition: KafkaPartition
    messages: Extents
    decided: bool  # names_ledger has it already
    received_s: int
    accounts: tuple[Account, ...]  # one a ring
    rows: pa.Table | None  # of streams.names.rows.added_up; None: there are none


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a message brought; for the metrics."""

    rows: int  # new ones
    repeated: int
    gap_bytes: int  # of the ring of copies, that never came
    missing: int  # copies of which nobody says why they are in no row


class NamePartition:
    """The state of one partition, from `position` on."""

    def __init__(self, number: int, *, position: int, window_seconds: int, topic_id: int = 0) -> None:
        self.number, self.topic_id = number, topic_id
        self.position = self.acked = position
        self._seconds = window_seconds
        self._begin = position  # what comes before is stored
        self._decided: deque[Extents] = deque()
        self._parts: deque[Part] = deque()
        self._since: float | None = None  # when the first of them came
        self._rings, self._accounts, self._steady = Rings(), Accounts(), Steady()
        self.losses = Losses("names")
        self.nbytes = 0

    @property
    def source(self) -> KafkaPartition:
        """Where its offsets are from."""
        return KafkaPartition(self.topic_id, self.number)

    def expect(self, blocks: list[Extents]) -> None:
        """Blocks that names_ledger has beyond where we begin to read, by offset; their rows may not be stored yet."""
        begun = [block.end for block in blocks if block.start < self.position]  # what is committed is stored
        self._begin = max([self._begin, *begun])
        self._decided.extend(block for block in blocks if block.start >= self.position)

    def take(self, offset: int, received_s: int, batch: NameBatch, now: float) -> Taken:
        """Add a message. Raises DecodeError, with nothing changed, when it cannot be right."""
        check_times(batch)
        if max(map(len, (batch.node, *batch.interface_names))) > MOST_NAME:
            raise DecodeError("a NameBatch with the name of a node or an interface that is too long")
        wall, now = now, self._steady.time(now)
        extent = Extent(batch.node, batch.ring_id, batch.ring_start, batch.ring_end, 0, 0, 0)
        verdict = self._rings.judge(extent, offset, now)
        for replaced in self._rings.replaced(now):
            self._accounts.give_up(replaced)
        self.position = offset + 1
        if verdict.gap_bytes:
            self._note(batch, verdict.gap_bytes, offset if verdict.anchor is None else verdict.anchor, wall)
        places = batch.ring_start + batch.ring_offset
        known = batch.ring_end <= verdict.seen_until if extent.end > extent.start else self._accounts.repeats(batch)
        chosen = np.flatnonzero(places >= verdict.seen_until) if not known else np.zeros(0, np.intp)
        if known and self._accounts.repeats(batch):
            return Taken(rows=0, repeated=len(batch), gap_bytes=verdict.gap_bytes, missing=0)
        account = self._accounts.take(batch, verdict, chosen, Place(offset, received_s, now))
        if offset >= self._begin:
            made = packed(rows(batch, chosen, self._seconds)) if len(chosen) else None
            part = Part(offset=offset, received_s=received_s, account=account, rows=made)
            self._parts.append(part)
            self.nbytes += part.nbytes
            self._since = now if self._since is None else self._since
        return Taken(
            rows=len(chosen), repeated=len(batch) - len(chosen), gap_bytes=verdict.gap_bytes, missing=account.missing
        )

    def _note(self, batch: NameBatch, gap: int, anchor: int, wall: float) -> None:
        now_ns = int(wall * 1e9)
        start, end = batch.ring_start - gap, batch.ring_start
        time_ns = min(batch.clock_ns or now_ns, now_ns)
        loss = Loss(
            time_ns=time_ns, kind="copies", node=batch.node, ring_id=batch.ring_id, start=start, end=end, lost=None
        )
        self.losses.note(loss, anchor)

    def skip(self, offset: int) -> None:
        """A message that is no NameBatch was read, and set aside."""
        self.position = max(self.position, offset + 1)

    @property
    def full(self) -> bool:
        """Whether so much waits that no more should be taken; never while a block that is decided lacks messages."""
        return self.nbytes > 2 * MOST_BYTES and not (self._decided and self.position < self._decided[0].end)

    def due(self, now: float) -> Block | None:
        """What is to be stored now."""
        now = self._steady.time(now)
        if self._decided:
            first = self._decided[0]
            return self._block(first, decided=True) if self.position >= first.end else None
        if self._since is None or (now - self._since < INSERT_SECONDS and self.nbytes <= MOST_BYTES):
            return None
        return self._block(Extents(self._parts[0].offset, self.position), decided=False)

    def _block(self, messages: Extents, *, decided: bool) -> Block:
        parts = [part for part in self._parts if messages.start <= part.offset < messages.end]
        accounts: dict[RingId, Account] = {}
        for part in parts:
            ring = part.account.ring
            if ring not in accounts:
                accounts[ring] = Account(ring=ring, clock_ns=0, open_before=part.account.open_before)
            accounts[ring].add(part.account)
        made = [unpacked(part.rows) for part in parts if part.rows]
        return Block(
            partition=self.source,
            messages=messages,
            decided=decided,
            received_s=parts[0].received_s if parts else 0,
            accounts=tuple(accounts.values()),
            rows=added_up(made) if made else None,
        )

    def stored(self, block: Block, end: int) -> None:
        """What lies below `end` from the block's start on is decided; and stored, if that is where the block ends."""
        if self._decided and self._decided[0].start == block.messages.start:
            self._decided.popleft()
        if end != block.messages.end:  # a rival was first
            self._decided.appendleft(Extents(block.messages.start, end))
            return
        while self._parts and self._parts[0].offset < end:
            self.nbytes -= self._parts.popleft().nbytes
        self._begin = max(self._begin, end)
        self._since = self._since if self._parts else None

    def committable(self, now: float) -> int:
        """The offset from which a successor must read; never goes back."""
        now = self._steady.time(now)
        needed = [self.position, *self._rings.anchors(now), *self._accounts.needed(now)]
        needed += self.losses.needed
        needed += [part.offset for part in [*self._parts][:1]] + [block.start for block in [*self._decided][:1]]
        spans = self._rings.spans() | self._accounts.spans
        self.acked = max(self.acked, committable(self.position, needed, spans))
        self._rings.forget_below(self.acked)
        self._accounts.forget_below(self.acked)
        return self.acked

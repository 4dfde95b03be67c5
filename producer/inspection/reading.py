"""Copies to rows, rows to messages and to flows: what watching a node and replaying a capture have in common.

Pure but for its log: the clock is that of the copies.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from common import logs
from common.outages import Outages
from producer.inspection.flow_names import Table, of_batch
from producer.inspection.pending import Encode, Origin, Pending
from producer.kafka.outbox import Message
from producer.kernel.ring import Copies
from producer.names.columns import Names, Rows, no_names
from producer.names.join import FlowNames
from schemas.packets import I64, PacketBatch

MOST_BYTES = 900_000  # of a message
TOLD_NS = 60_000_000_000  # so long a fault is told after it happened
OnRead = Callable[[Rows, Mapping[str, int]], None]


def tell_nobody(_rows: Rows, _discarded: Mapping[str, int]) -> None:
    """An OnRead."""


log = logs.get("producer")


class Reader(Protocol):
    """What we use of names.reader.NameReader."""

    @property
    def open(self) -> int:
        """Copies that are in no row yet."""

    @property
    def unused(self) -> int:
        """Copies that will be in none."""

    @property
    def discarded(self) -> Counter[str]:
        """What was given up because there was too much of it, by what it was."""

    def read(self, heads: Any, payload: memoryview, offsets: I64) -> Names:
        """The rows that these copies complete."""

    def expire(self, now_ns: int) -> Names:
        """Rows of what was waited for too long."""


class Hides(Protocol):
    """What we use of names.redact.Redaction."""

    def names(self, names: Names) -> Names:
        """As they may leave the node."""

    def flows(self, found: FlowNames) -> FlowNames:
        """Likewise, those of flows."""


class NameReading:
    """The names of one ring of copies."""

    def __init__(
        self, reader: Reader, table: Table, redaction: Hides, *, position: int = 0, on_read: OnRead = tell_nobody
    ) -> None:
        """`position`: of the ring, where reading begins. `on_read`: told of all rows, of names.columns.ROW, and of what
        was discarded meanwhile, by what it was.
        """
        self._reader, self._table, self._redaction, self._on_read = reader, table, redaction, on_read
        self._outages, self._discarded = Outages(log), Counter[str]()
        self.fault: str | None = None  # of ours, in the last minute
        self._faulty_ns = 0  # on the copies' clock
        self.pending = Pending(start=position, end=position)

    def add(self, copies: Copies) -> None:
        """Read them."""
        names = self._learnt(self._read(copies))
        self.pending.add(copies, names)

    def expire(self, now_ns: int) -> None:
        """It is that late on the copies' clock: some is waited for no longer."""
        if self.fault and now_ns - self._faulty_ns > TOLD_NS:
            self.fault = None
        self.pending.expired(self._learnt(self._reader.expire(now_ns)))

    def again(self, found: Iterable[Copies], until_ns: int) -> None:
        """Read what an earlier process has read and sent, up to that moment: for what it leaves open."""
        for copies in found:
            self._table.learn(self._read(copies))
            self.pending.start = self.pending.end = copies.end
        self._reader.expire(until_ns)
        self.pending.open, self.pending.unused = self._reader.open, self._reader.unused

    def named(self, batch: PacketBatch, offset_ns: int) -> PacketBatch:
        """The batch with names on its flows. `offset_ns`: from the copies' clock to that of the batch."""
        return of_batch(batch, offset_ns, self._table, self._redaction.flows)

    def take(self, origin: Origin, encode: Encode) -> list[Message]:
        """All that is pending, as messages. Raises ServiceUnavailable, and then it still is."""
        return self.pending.take(
            origin, encode, open_now=self._reader.open, unused_now=self._reader.unused, most_bytes=MOST_BYTES
        )

    def _read(self, copies: Copies) -> Names:
        """What others put on the wire must not end us: a fault of ours is said, and the ledger shows the copies."""
        try:
            names = self._reader.read(copies.heads, copies.octets, copies.offsets)
        except Exception as error:  # noqa: BLE001
            self._outages.away(
                "the reader of names",
                "cannot read copies, which get no names; this is a fault of ayaflow: please report it",
                severe=True,
                copies=len(copies.heads),
                error=repr(error),
            )
            said = "a fault of ayaflow, please report it"
            self.fault = f"some copies of packets cannot be read, and get no names ({error!r}): {said}"
            self._faulty_ns = int(copies.heads["ktime_ns"].max())
            return no_names()
        self._outages.back("the reader of names")
        return names

    def _learnt(self, names: Names) -> Names:
        """What is left of them for messages."""
        before, self._discarded = self._discarded, self._reader.discarded
        self._on_read(names.rows, self._discarded - before)
        self._table.learn(names)
        return self._redaction.names(names)

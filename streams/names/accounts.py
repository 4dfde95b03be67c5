"""The ledger of names: of the copies of a ring, how many came to which end. Pure.

What a message says holds within one run of its producer: open before + copies = in rows + unused + open. Between two
runs what was open is lost with the producer that knew of it; a new one reads again what Kafka may already have. How
many copies it has sent before is known of the messages themselves: so those of the last seconds of a ring are read
again by whoever reads on.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from common.recent import Recent
from schemas.batches import RingId
from schemas.names import NAME_STATUSES, NameBatch
from streams.partition.rings import ANCHOR_SECONDS, MOST_NODES, Verdict

REPEATED_SECONDS = (
    10  # so long before its last message a killed producer may have sent what it does not know to be there
)
_MOST_MESSAGES = 256  # of a ring, that may be repeated after a kill


@dataclass(slots=True, kw_only=True)
class Account:
    """What messages say of one ring; two of one ring can be added."""

    ring: RingId
    clock_ns: int
    copies: int = 0
    by_epoch: Counter[int] = field(default_factory=Counter)
    by_status: Counter[str] = field(default_factory=Counter)
    transactions: int = 0  # and handshakes, in rows
    unused: int = 0
    lost: int = 0
    missing: int = 0
    open_before: int = 0
    open: int = 0

    def add(self, later: "Account") -> None:
        """Take in what came after it."""
        self.clock_ns = max(self.clock_ns, later.clock_ns)
        self.copies += later.copies
        self.by_epoch.update(later.by_epoch)
        self.by_status.update(later.by_status)
        self.transactions += later.transactions
        self.unused += later.unused
        self.lost += later.lost
        self.missing += later.missing
        self.open = later.open


class Place(NamedTuple):
    """Where a message is in Kafka."""

    offset: int
    received_s: int  # when Kafka took it, seconds since the Unix epoch
    read: float  # when we did, seconds


class _Message(NamedTuple):
    place: Place
    start: int  # in the ring
    copies: int
    by_epoch: Mapping[int, int]


@dataclass(slots=True)
class _Ring:
    sequence: int
    open: int
    messages: deque[_Message]


class Accounts:
    """The rings of the nodes of one partition."""

    def __init__(self) -> None:
        self._rings: Recent[RingId, _Ring] = Recent(MOST_NODES)
        self.spans: dict[
            int, int
        ] = {}  # as of streams.partition.rings: who counts a repeated message knows what it repeats

    def repeats(self, batch: NameBatch) -> bool:
        """Whether a message about no copies came before: its place in the ring does not say so."""
        known = self._rings.get(RingId(batch.node, batch.ring_id))
        return known is not None and 0 < batch.sequence <= known.sequence

    def needed(self, now: float) -> Iterator[int]:
        """Offsets of messages that a successor must know: one a ring that is not long silent."""
        for _, ring in self._rings.newest_first():
            last = ring.messages[-1].place
            if now - last.read > ANCHOR_SECONDS:
                return
            yield next(
                each.place.offset
                for each in ring.messages
                if last.received_s - each.place.received_s <= REPEATED_SECONDS
            )

    def forget_below(self, offset: int) -> None:
        """Offsets below this one are acknowledged."""
        self.spans = {first: last for first, last in self.spans.items() if last >= offset}

    def give_up(self, ring: RingId) -> None:
        """Nothing more comes of it."""
        self._rings.forget(ring)

    def take(self, batch: NameBatch, verdict: Verdict, chosen: npt.NDArray[np.intp], place: Place) -> Account:
        """What a message adds. `chosen`: its rows that are new."""
        ring = RingId(batch.node, batch.ring_id)
        known = self._rings.get(ring)
        before = known.open if known else 0
        repeated = batch.ring_start < verdict.seen_until
        account = Account(ring=ring, clock_ns=batch.clock_ns, open_before=before, open=batch.open_copies)
        epochs = Counter(dict(zip(batch.epoch.tolist(), batch.epoch_copies.tolist(), strict=True)))
        copies = batch.copies
        if repeated and known:
            for each in known.messages:
                if each.start >= batch.ring_start:
                    copies -= each.copies
                    epochs.subtract(each.by_epoch)
                    self.spans[each.place.offset] = place.offset
        account.copies, account.by_epoch = max(0, copies), +epochs
        in_rows = np.bincount(batch.status[chosen], batch.row_copies[chosen], len(NAME_STATUSES)).astype(np.int64)
        account.by_status = Counter(dict(zip(NAME_STATUSES, in_rows.tolist(), strict=True)))
        account.transactions = int(batch.row_count[chosen].sum())
        rest = before + account.copies - int(in_rows.sum()) - batch.open_copies
        if known and not repeated and batch.sequence == known.sequence + 1 and not verdict.gap_bytes:
            account.unused, account.missing = batch.unused_copies, rest - batch.unused_copies
        else:
            account.unused = min(batch.unused_copies, max(0, rest))
            account.lost = rest - account.unused
        messages = known.messages if known else deque[_Message](maxlen=_MOST_MESSAGES)
        start = max(batch.ring_start, verdict.seen_until)
        messages.append(_Message(place, start, account.copies, account.by_epoch))
        self._rings.use(ring, _Ring(batch.sequence, batch.open_copies, messages))
        return account

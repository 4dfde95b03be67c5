"""Names that are read and not sent, and the messages of them. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from producer.kafka.outbox import Message
from producer.kernel.abi import MAX_INTERFACES
from producer.kernel.ring import Copies
from producer.names.columns import Names, joined
from schemas.names import NameBatch
from schemas.packets import I64

_INDEXES = {"name": "names", "answers": "answer_sets", "ja4": "ja4s", "alpn": "alpns"}
"""Columns of rows, and the lists that they are places in."""
_AS_THEY_ARE = ("kind", "status", "direction", "protocol", "client_port", "server_port", "qtype", "rcode", "latency_us")
MOST_ROWS = 8_192  # of a message
_NONE = np.zeros(0, np.int64)

Encode = Callable[[NameBatch], Message]
"""Raises ServiceUnavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Whose names they are."""

    node: str
    ring_id: int
    interfaces: Mapping[int, str]  # by slot
    offset_ns: int  # from the clock of the copies to the wall clock
    clock_ns: int  # now, Unix epoch


@dataclass(slots=True, kw_only=True)
class Pending:
    """What was read of a ring since the last message."""

    start: int  # position: all copies before it are in earlier messages
    end: int
    open: int = 0  # copies before `start` that are in no row
    unused: int = 0  # copies before `start` that never will be
    sequence: int = 0
    parts: list[Names] = field(default_factory=list)
    places: list[I64] = field(default_factory=list)  # of each row's last copy
    copies: list[I64] = field(default_factory=list)  # where each copy begins
    epochs: list[I64] = field(default_factory=list)

    def __len__(self) -> int:
        """Copies and rows that are kept."""
        return sum(map(len, (*self.places, *self.copies)))

    def add(self, copies: Copies, names: Names) -> None:
        """What a span of the ring had, and the rows that came of it."""
        self.copies.append(copies.places)
        self.epochs.append(copies.heads["epoch"].astype(np.int64))
        self.end = copies.end
        self._add(
            names, np.append(copies.places, copies.end - 1)[names.rows["copy"]]
        )  # -1, the last: of an earlier read

    def expired(self, names: Names) -> None:
        """Rows of what waited too long."""
        self._add(names, np.full(len(names.rows), max(self.start, self.end - 1), np.int64))

    def _add(self, names: Names, places: I64) -> None:
        if len(places):
            self.parts.append(names)
            self.places.append(places)

    def take(self, origin: Origin, encode: Encode, *, open_now: int, unused_now: int, most_bytes: int) -> list[Message]:
        """All as messages of at most so many octets, and forget it. `open_now`, `unused_now`: of all copies so far.

        Raises ServiceUnavailable, and forgets nothing.
        """
        whole = _Whole(self, origin, encode, most_bytes)
        found = whole.messages(open_now, unused_now)
        self.sequence += len(found)
        self.start, self.open, self.unused = self.end, open_now, unused_now
        self.forget()
        return found

    def forget(self) -> None:
        """All rows and copies that are pending."""
        for each in (self.parts, self.places, self.copies, self.epochs):
            each.clear()


class _Whole:
    """All that is pending, in the order of the ring."""

    def __init__(self, pending: Pending, origin: Origin, encode: Encode, most_bytes: int) -> None:
        self._pending, self._origin, self._encode, self._most = pending, origin, encode, most_bytes
        names, places = joined(pending.parts), np.concatenate([_NONE, *pending.places])
        order = np.argsort(places, kind="stable")
        self._names, self._rows, self._places = names, names.rows[order], places[order]
        self._copies = np.concatenate([_NONE, *pending.copies])
        self._epochs = np.concatenate([_NONE, *pending.epochs])

    def messages(self, open_now: int, unused_now: int) -> list[Message]:
        """Divided where one would be too large. What was not used is told with the last of them."""
        found: list[Message] = []
        pending, left = self._pending, [(0, len(self._places), self._pending.start, self._pending.end)]
        before = pending.open
        while left:
            first, last, start, end = left.pop()
            used = int(self._rows["copies"][first:last].sum(dtype=np.int64))
            copies = slice(*np.searchsorted(self._copies, (start, end)).tolist())
            after, unused = before + copies.stop - copies.start - used, 0
            if not left:
                after, unused = open_now, unused_now - pending.unused
            message = None
            if last - first <= MOST_ROWS:
                message = self._encode(
                    self._batch(slice(first, last), copies, (start, end), len(found), open_copies=after, unused=unused)
                )
            if last - first > 1 and (message is None or len(message.value) > self._most):
                middle, place = self._middle(first, last, end)
                left += [(middle, last, place, end), (first, middle, start, place)]
                continue
            assert message is not None
            found.append(message)
            before = after
        return found

    def _middle(self, first: int, last: int, end: int) -> tuple[int, int]:
        """A row at which they can be divided, and its place in the ring: not that of the one before.

        Where all have one place, as what was waited for in vain has, the rest lies at the end of the ring.
        """
        middle = (first + last) // 2
        for at in (*range(middle, last), *range(middle, first, -1)):
            if first < at and self._places[at - 1] < self._places[at]:
                return int(at), int(self._places[at])
        return middle, end

    def _batch(
        self, chosen: slice, copies: slice, span: tuple[int, int], number: int, *, open_copies: int, unused: int
    ) -> NameBatch:
        origin, rows, (start, end) = self._origin, self._rows[chosen], span
        base = int(rows["time_ns"].min()) if len(rows) else origin.clock_ns - origin.offset_ns
        epochs, epoch_copies = np.unique(self._epochs[copies], return_counts=True)
        names = (*origin.interfaces.values(), "")
        place = np.full(MAX_INTERFACES, len(names) - 1, np.int32)  # of one that has gone meanwhile: no name
        place[list(origin.interfaces)] = np.arange(len(names) - 1)
        clients, client = _distinct(rows["client"])
        servers, server = _distinct(rows["server"])
        columns, lists = {}, {}
        for column, texts in _INDEXES.items():
            columns[column], lists[texts] = _used(rows[column], getattr(self._names, texts))
        return NameBatch(
            node=origin.node,
            ring_id=origin.ring_id,
            ring_start=start,
            ring_end=end,
            sequence=self._pending.sequence + number,
            clock_ns=origin.clock_ns,
            base_ns=base + origin.offset_ns,
            copies=copies.stop - copies.start,
            open_copies=open_copies,
            unused_copies=unused,
            epoch=epochs,
            epoch_copies=epoch_copies.astype(np.int64),
            interface_names=names,
            clients=clients,
            servers=servers,
            time_offset_ns=rows["time_ns"] - base,
            ring_offset=np.maximum(self._places[chosen] - start, 0),
            interface=place[rows["interface"]],
            client=client,
            server=server,
            ttl=rows["ttl"].clip(0, 2**32 - 1).astype(np.uint32),
            row_count=rows["count"],
            row_copies=rows["copies"],
            **{name: rows[name] for name in _AS_THEY_ARE},
            ech=rows["ech"],
            **columns,
            **lists,
        )


def _distinct(addresses: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Each address once, shape (k, 16), and the place of each of all, shape (n,)."""
    whole = np.ascontiguousarray(addresses).view("V16").reshape(-1)
    known: dict[bytes, int] = {}
    places = np.fromiter((known.setdefault(each, len(known)) for each in whole.tolist()), np.int32, len(whole))
    return np.frombuffer(b"".join(known), np.uint8).reshape(-1, 16), places


def _used(places: npt.NDArray[np.int32], texts: Sequence[Any]) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Those of the texts that these are places of, each once, and the places in them; -1 stays: none."""
    known: dict[str, int] = {}
    found = np.full(len(places), -1, np.int32)
    for at, place in enumerate(places.tolist()):
        if place >= 0:
            text = texts[place]
            found[at] = known.setdefault(text if isinstance(text, str) else " ".join(text), len(known))
    return found, tuple(known)

"""Which day of which table goes when there is no more room, and when that will be. Pure.

Days go in the order in which they have used up the retention of their table: with flows kept for 90 days and rollups
for 730, a day of flows of 45 days ago goes before one of a rollup of 300 days ago, and that before one of flows of 30
days ago. So a cap works as if all retentions were shorter by one factor. The day that is under way stays, and what is
of a day to come (a clock that is ahead).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

from schemas.clickhouse.stored import STORED, stored

_NEAR = 0.9  # of the cap: from then on it is announced
_ORDER = {each.name: number for number, each in enumerate(STORED)}
_RESERVE_BYTES, _RESERVE_PART = 1 << 30, 20  # the least of a GiB and a twentieth of the disk


class Why(StrEnum):
    """Why something goes; symbols of the table dropped."""

    CAP = "cap"  # clickhouse.max_bytes
    DISK = "disk"  # clickhouse.reserve_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A partition of a table on one server."""

    host: str
    table: str
    day: date | None  # None: the table has no days, or they may not go
    rows: int
    bytes: int  # on disk


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A server's disk."""

    host: str
    free: int  # bytes
    total: int
    going: int = 0  # of what was dropped or merged, and is not removed yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What there was at one moment."""

    today: date  # by ClickHouse's clock
    pieces: tuple[Piece, ...]
    rooms: tuple[Room, ...]
    held: frozenset[date] = frozenset()  # days that somebody holds (ayaflow repair, rewindow): they cannot go


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """A day of a table, on all servers."""

    table: str
    day: date
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """One that was decided."""

    table: str
    day: date
    ms: int  # when, milliseconds since the Unix epoch
    why: Why

    @property
    def named(self) -> dict[str, Any]:
        """Its identity, as parameters."""
        return {"table": self.table, "day": str(self.day), "ms": self.ms}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The settings, in bytes."""

    cap: int = 0  # 0: none
    reserve: int | None = None  # 0: none; None: what is usual

    def reserved(self, room: Room, ours: int) -> int:
        """What stays free of a disk of which our tables have so much.

        What it could not have free without any of our rows (a unit that is wrong, a disk that others filled) is not
        kept: every day would go, in vain. Then it is what is usual.
        """
        if self.reserve is None or self.in_vain(room, ours):
            return min(_RESERVE_BYTES, room.total // _RESERVE_PART)
        return self.reserve

    def in_vain(self, room: Room, ours: int) -> bool:
        """Whether the setting asks for more than that."""
        return self.reserve is not None and self.reserve > room.free + room.going + ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done, and what is to be said."""

    used: int  # bytes of our tables, where there are most
    left: int | None  # bytes until something goes; None: nothing ever does
    next: Day | None  # goes first; None: there is nothing that may
    why: Why | None  # it goes now
    limit: Why | None = None  # what `left` is of
    near: bool = False  # it is to be announced
    held: tuple[date, ...] = ()  # that would go otherwise
    in_vain: bool = False  # clickhouse.reserve_bytes is more than could be free


def plan(seen: Seen, limits: Limits, retention: Mapping[str, int], *, coming: float = 0) -> Plan:
    """`retention`: days by setting; `coming`: bytes until the next look."""
    used: Counter[str] = Counter()
    for piece in seen.pieces:
        used[piece.host] += piece.bytes
    most = max(used.values(), default=0)
    rooms: list[tuple[int, Why, bool]] = []  # bytes that are left, near
    if limits.cap:
        rooms.append((limits.cap - most, Why.CAP, most >= _NEAR * limits.cap))
    for room in seen.rooms:
        if reserved := limits.reserved(room, used[room.host]):
            free = room.free + room.going
            rooms.append((free - reserved, Why.DISK, free < 2 * reserved))
    left, limit, _ = min(rooms, default=(None, None, False))
    return Plan(
        used=most,
        left=left,
        next=next(iter(_in_order(seen, retention)), None),
        why=limit if left is not None and left < coming else None,
        limit=limit,
        near=any(near for _, _, near in rooms),
        held=tuple(sorted(day for day in seen.held if day < seen.today)),
        in_vain=any(limits.in_vain(room, used[room.host]) for room in seen.rooms),
    )


def _in_order(seen: Seen, retention: Mapping[str, int]) -> list[Day]:
    rows: Counter[tuple[str, date]] = Counter()
    size: Counter[tuple[str, date]] = Counter()
    for piece in seen.pieces:
        if piece.day is not None and piece.day < seen.today and piece.day not in seen.held:
            rows[piece.table, piece.day] += piece.rows
            size[piece.table, piece.day] += piece.bytes
    days = [Day(table=table, day=day, rows=rows[table, day], bytes=size[table, day]) for table, day in rows]

    def due(one: Day) -> tuple[float, int, str]:
        table = stored(one.table)
        assert table is not None
        used_up = (seen.today - one.day).days / retention[table.retention]
        return -used_up, _ORDER.get(one.table, -1), one.table

    return sorted(days, key=due)


class Growth:
    """How fast it grows, from what was looked at within an hour."""

    _SECONDS, _NOW_SECONDS = 3600.0, 10.0

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []
        self._gone = 0

    def look(self, now: float, used: int) -> None:
        """`now`: seconds of a clock that does not step; `used`: bytes."""
        self._seen = [each for each in self._seen if now - each[0] <= self._SECONDS] + [(now, used + self._gone)]

    def went(self, size: int) -> None:
        """So many bytes were dropped."""
        self._gone += size

    @property
    def rate(self) -> float | None:
        """Bytes a second; None: it is not known."""
        return self._slope(self._seen)

    @property
    def rate_now(self) -> float:
        """Of the last seconds, two looks at least."""
        recent = [each for each in self._seen[:-2] if self._seen[-1][0] - each[0] <= self._NOW_SECONDS]
        return self._slope(recent + self._seen[-2:]) or 0.0

    @staticmethod
    def _slope(seen: list[tuple[float, int]]) -> float | None:
        if len(seen) < 2 or seen[-1][0] <= seen[0][0]:
            return None
        return max(0.0, (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0]))


def announcement(found: Plan, limits: Limits, rate: float | None) -> Iterable[str]:
    """What people are to know before it happens, in sentences."""
    if found.in_vain:
        yield (
            f"clickhouse.reserve_bytes ({limits.reserve:,}) is more than ClickHouse's disk could have free without all "
            "our tables: no day goes for it. Lower it, or make room; meanwhile what is usual is kept free"
        )
    if not found.near:
        return
    if found.held:
        yield (
            f"{', '.join(map(str, found.held))}: held by ayaflow repair or rewindow, so others go before. If that was "
            "killed, give its command again"
        )
    what = _limit(found, limits)
    if found.next is None:
        what_helps = "raise it" if found.limit is Why.CAP else "make room there, lower it"
        yield f"{what}, and there is no day before today that could go: {what_helps}, or shorten what is kept"
        return
    left = max(found.left or 0, 0)
    soon = "now" if not left else "at a time that is not known yet" if not rate else f"in about {_span(left / rate)}"
    yield f"{what}: the day {found.next.day} of {found.next.table} goes next, {soon}"


def _limit(found: Plan, limits: Limits) -> str:
    if found.limit is Why.CAP:
        return f"our tables take {found.used:,} of {limits.cap:,} bytes (clickhouse.max_bytes)"
    return "ClickHouse's disk has little more free than clickhouse.reserve_bytes keeps"


def _span(seconds: float) -> str:
    for size, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds"

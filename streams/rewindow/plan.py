"""What is asked of `ayaflow rewindow`, whether it can be done, and which messages that takes. Pure."""

import hashlib
import math
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from common.errors import QueryError
from common.settings import ClickHouseSettings
from common.times import iso
from schemas.clickhouse.ddl import made
from schemas.clickhouse.stored import OPERATOR_PREFIX
from streams.kafka.log import Ends
from streams.partition.again import Span
from streams.store.repair import REMADE
from streams.store.rewindow.making import Stored

WARM_SECONDS = 600
"""Before the first window: whoever reads must know the rings before it meets what was sent twice."""
LATE_SECONDS = 3_600
"""After the last window: so late a packet may come where flows does not say how far it has them."""
_NAME = re.compile(r"[A-Za-z_]\w{0,62}", re.ASCII)
_OUR_PREFIXES = ("going_", "gone_", "rewindow_", OPERATOR_PREFIX, *REMADE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A request."""

    span: Span
    window_seconds: int
    into: str = ""  # the table that is made; empty: flows gets the windows
    filter: str = ""  # as it was written
    where: str = ""  # SQL of it, about `f`
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def id_prefix(self, topic_id: int) -> str:
        """What the jobs of this request have in common."""
        text = repr((topic_id, *self.span, self.window_seconds, self.into, self.filter))
        return f"{hashlib.sha256(text.encode()).hexdigest()[:10]}_"


def check(wanted: Wanted, *, now: float, retention_days: int, tables: Set[str]) -> None:
    """Raise QueryError with what to ask instead."""
    if wanted.span.begin >= wanted.span.until:
        raise QueryError("--from is not before --to")
    if wanted.span.until > now:
        raise QueryError(f"--to is after now ({iso(int(now))}): windows that have not ended cannot be made again")
    oldest = int(now) - retention_days * 86_400 + 86_400
    if wanted.span.begin < oldest:
        raise QueryError(
            f"windows from before {iso(oldest)} are removed as soon as they are stored "
            f"(clickhouse.flows_retention_days: {retention_days})"
        )
    if wanted.filter and not wanted.into:
        raise QueryError(
            "with --filter the other flows would be gone from the table flows: name a table for those that match "
            "(--into NAME)"
        )
    if wanted.into and not _NAME.fullmatch(wanted.into):
        raise QueryError(f"--into {wanted.into!r} is no name of a table: letters, digits and _ are")
    if _is_ours(wanted.into):
        raise QueryError(f"--into {wanted.into}: tables of this name are ayaflow's own; name another one")
    if wanted.into in tables:
        raise QueryError(
            f"there is a table {wanted.into} already: name another one, or drop it (DROP TABLE {wanted.into})"
        )


def _is_ours(name: str) -> bool:
    """Whether we have, or make, tables that are called so: whoever finds one takes it for ours."""
    tables = made(ClickHouseSettings())
    return name.startswith(_OUR_PREFIXES) or name.removesuffix("_local") in {*tables, "packets", "schema_migrations"}


def bucket(wanted: Wanted, lengths: Set[int]) -> int:
    """The period that windows of all lengths add up to, in seconds. Raises QueryError where the span is not of such."""
    seconds = math.lcm(wanted.window_seconds, *lengths)
    begin, until = wanted.span.begin // seconds * seconds, -(-wanted.span.until // seconds) * seconds
    if (begin, until) != wanted.span:
        stored = ", ".join(f"{each} s" for each in sorted(lengths)) or "none"
        raise QueryError(
            f"windows of {wanted.window_seconds} s and those of flows ({stored}) begin together every {seconds} s "
            f"only: ask for --from {iso(begin)} --to {iso(until)}"
        )
    return seconds


def offsets(
    wanted: Wanted,
    *,
    ends: Mapping[int, Ends],
    warm: Mapping[int, int],
    late: Mapping[int, int],
    stored: Mapping[int, Stored],
) -> dict[int, tuple[int, int]]:
    """Which messages of each partition are read: the first one, and the one behind the last.

    `warm`, `late`: the first messages that Kafka took WARM_SECONDS before the span, LATE_SECONDS after it. flows says
    up to which message it has the windows; where it may have more to come, and flows is not replaced, later ones are
    read, too.
    """
    found = {}
    for number, (low, high) in ends.items():
        begin = max(low, warm[number])
        known = stored.get(number)
        end = known.offset_end if known else (begin if not wanted.into else 0)
        if wanted.into and not (known and known.beyond):
            end = max(end, late[number])
        found[number] = begin, max(begin, min(end, high))
    return found


def earliest(
    wanted: Wanted, *, ends: Mapping[int, Ends], first_ms: Mapping[int, int | None], stored: Mapping[int, Stored]
) -> str:
    """Why the span is no longer in the topic, and from when on it is possible; empty: it is there.

    `first_ms`: when Kafka took the first message that it has of each partition; None: it has none.
    """
    gone = []
    for number, each in ends.items():
        if not each.low:
            continue  # nothing was ever removed
        first = first_ms[number]
        if first is None and number in stored:
            gone.append(math.inf)
        elif first is not None and first > wanted.span.begin * 1000:
            gone.append(first / 1000)
    if not gone:
        return ""
    if math.inf in gone:
        return "the packets topic no longer has these packets: it is empty (kafka.packets_retention_hours)"
    possible = datetime.fromtimestamp(math.ceil(max(gone) / 60) * 60, UTC)
    return (
        f"the packets topic no longer has packets from {iso(wanted.span.begin)}: it is possible from "
        f"{iso(int(possible.timestamp()))} on (kafka.packets_retention_hours)"
    )

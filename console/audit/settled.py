"""Up to which moment the audit may speak. Pure.

A node is settled up to a moment when all that it saw until then is consumed, stored and in the ledger, so that it can
be compared. That moment is the earliest of

    the end of its newest epoch in the ledger   each epoch has a row, also one that saw nothing, so this moves on as
                                                long as something comes; it is bounded by when the row was recorded, on
                                                ClickHouse's clock: a node's clock may be years ahead. Where devices
                                                are read, of the newest with a reading: it tells what hooks did not see
    the epoch before one that is not there      epochs of a ring are numbered without a gap
    the start of a window that is in flight     consumed and not stored, or stored and not yet in the ledger

A node that ended (its ring has a last epoch) is settled for good, but for what is in flight. One that is silent is not
settled since its newest epoch: whether it is switched off, or cannot send what it sees, the ledger cannot tell. After
`GONE_SECONDS` of silence it is taken to be gone: it is named with its moment, and holds back the audit no longer.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from schemas.unseen import READ_SECONDS

GRACE_SECONDS = 60
"""Beyond a window and the time-out of nodes, what is on its way may take so long."""
GONE_SECONDS = 86_400
_READ_AGAIN_SECONDS = 3 * READ_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Epochs of a ring that are not in the ledger, although later ones are."""

    since: float  # the end of the epoch before
    first: int  # number of the first that is missing
    epochs: int  # how many are, up to the newest


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far a node has come; seconds since the Unix epoch, 0: not begun."""

    node: str
    kafka_partition: int | None = None  # of its newest window; None: none is stored
    stored_until: float = 0  # end of the last window stored for its partition
    begun: float = 0  # the end of its first epoch that was looked at
    inside: bool = True  # it has epochs in the range of the audit
    ledger_until: float = 0  # beginning of the newest epoch in the ledger
    closed_until: float = 0  # end of the newest epoch, by the node's clock
    read_until: float = 0  # likewise, of the newest at whose end devices were read; 0: none were
    recorded: float = 0  # when its newest row was written, by ClickHouse's clock; 0: the ledger has none
    ended: bool = False  # its producer ended, and sent all
    window_seconds: int = 10  # of its newest epoch
    gap: Gap | None = None


class Standing(StrEnum):
    """What can be expected of a node."""

    LIVE = "live"
    ENDED = "ended"
    GONE = "gone"


class Reason(StrEnum):
    """Why a node is settled no further."""

    NONE = ""
    NEWEST = "newest"  # its newest epoch ended then
    FLIGHT = "flight"
    GAP = "gap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Up to when a node is settled, and why not further."""

    reach: Reach
    standing: Standing
    until: float  # seconds since the Unix epoch; infinite: for good
    reason: Reason = Reason.NONE
    silent: bool = False  # nothing was recorded of it for longer than it may be

    @property
    def node(self) -> str:
        """Its name."""
        return self.reach.node


def settle(
    reaches: Iterable[Reach], flights: dict[str, float], *, until: float | None, now: float, node_timeout_seconds: float
) -> tuple[Settled, ...]:
    """Judge each node of which the audit speaks: also those without an epoch in the range that still live.

    `flights`: the earliest start of a window in flight, by node; `until`, `now`: seconds since the Unix epoch.
    """
    judged = (
        _settle(reach, flights.get(reach.node), now, node_timeout_seconds)
        for reach in reaches
        if reach.inside or until is None or reach.begun <= until
    )
    return tuple(node for node in judged if node.reach.inside or node.standing is Standing.LIVE)


def patience(window_seconds: int, node_timeout_seconds: float) -> float:
    """Seconds by which what is well may be behind."""
    return window_seconds + node_timeout_seconds + GRACE_SECONDS


def _settle(reach: Reach, flight: float | None, now: float, node_timeout_seconds: float) -> Settled:
    in_ledger = reach.recorded > 0
    newest = min(reach.closed_until, reach.recorded if in_ledger else now, now)
    silent = in_ledger and now - reach.recorded > patience(reach.window_seconds, node_timeout_seconds)
    standing = Standing.LIVE
    if reach.ended:
        standing = Standing.ENDED
    elif silent and now - reach.recorded > GONE_SECONDS:
        standing = Standing.GONE
    limits = [(newest, Reason.NEWEST)] if standing is Standing.LIVE else []
    if flight is not None:
        limits.append((flight, Reason.FLIGHT))
    if reach.gap is not None:
        limits.append((reach.gap.since, Reason.GAP))
    until, reason = min(limits, default=(math.inf, Reason.NONE))
    if until - _READ_AGAIN_SECONDS < reach.read_until < until:  # earlier: no device of its can be read any more
        until = reach.read_until
    return Settled(reach=reach, standing=standing, until=until, reason=reason, silent=silent)


def behind(
    nodes: Iterable[Settled], *, until: float | None, now: float, node_timeout_seconds: float
) -> tuple[Settled, ...]:
    """Those that are not settled up to `until`; None: as near to now as a node that is well is."""
    return tuple(
        node
        for node in nodes
        if node.until
        < (now - patience(node.reach.window_seconds, node_timeout_seconds) if until is None else min(until, now))
    )

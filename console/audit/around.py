"""What is known besides the ledger of packets that are not stored: the broker's backlog, a producer on this machine
that holds some, what streams tries in vain. Pure.

It explains what the ledger shows, and names what the ledger cannot know. A producer or streams on another machine is
not asked, and nothing is said of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from console import health
from console.audit.settled import Settled
from console.health import Verdict

STAGES = ("storing", "producer", "streams")
"""Whose verdicts are wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a producer on this machine has not sent, and what else is wrong with it."""

    node: str
    spool_bytes: int
    batches: int  # handed to Kafka's client, and not acknowledged
    error: str  # in its own words; empty: nothing

    @property
    def unsent(self) -> bool:
        """Whether there is something that it has not sent."""
        return bool(self.spool_bytes or self.batches)


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """The neighbours at one moment."""

    backlog: Mapping[str, Any] | None = None  # as console.audit.storing tells it; None: Kafka did not answer
    backlog_said: str = ""  # which partitions stand still; without a backlog, why it is not known
    held: Held | None = None
    troubles: tuple[str, ...] = ()  # what streams cannot do, or that it does not answer
    open_since: float | None = None  # start of the first window of which streams has what it has not stored yet

    @classmethod
    def of(cls, verdicts: Mapping[str, Verdict], place: str) -> "Around":
        """From the verdicts of STAGES. `place`: how sentences name the topic."""
        storing = verdicts["storing"]
        return cls(
            backlog=storing.details or None,
            backlog_said=storing.sentence(place),
            held=_held(verdicts["producer"]),
            troubles=tuple(_troubles(verdicts["streams"])),
            open_since=_open_since(verdicts["streams"].details),
        )

    def late(self) -> list[Mapping[str, Any]]:
        """Partitions that stand still."""
        return [each for each in (self.backlog or {}).get("partitions", ()) if each["late"]]

    @property
    def kafka_unknown(self) -> bool:
        """Whether the broker was asked and did not say what it holds."""
        return self.backlog is None and bool(self.backlog_said)

    def holds_back(self, node: str) -> bool:
        """Whether the producer of a node is on this machine, and is not well, and has what it has not sent."""
        return self.held is not None and self.held.node == node and self.held.unsent and bool(self.held.error)

    @property
    def nothing_waits(self) -> bool:
        """Kafka holds nothing that should be stored by now, and no producer here holds anything."""
        if self.backlog is None or (self.held and self.held.unsent):
            return False
        return not any(each["slow"] for each in self.backlog["partitions"])

    def stuck_since(self, nodes: Iterable[Settled], node: str, now: float) -> float | None:
        """Since when something waits that the ledger cannot know of; seconds since the Unix epoch.

        `node`: the one that is audited, or empty for all. What stands still may be anybody's, but a node of which all
        is settled in another partition is not concerned.
        """
        known = {each.node: each.reach.kafka_partition for each in nodes}
        moments = [
            now - each["oldest_age_seconds"]
            for each in self.late()
            if not node or known.get(node) in {None, each["partition"]}
        ]
        held = self.held
        if held and held.error and held.unsent and held.node not in known and node in {"", held.node}:
            moments.append(now)
        return min(moments, default=None)


def _held(verdict: Verdict) -> Held | None:
    told = verdict.details
    spool_bytes, batches = _number(told.get("spool_bytes")), _number(told.get("queue"))
    if not told.get("node") or (verdict.ok and not spool_bytes):
        return None
    return Held(
        node=str(told["node"]),
        spool_bytes=spool_bytes,
        batches=batches,
        error="" if verdict.ok else verdict.sentence("it"),
    )


def _troubles(streams: Verdict) -> list[str]:
    if streams.ok:
        return []
    return health.troubles(streams.details) or [streams.sentence("it")]


def _open_since(streams: Mapping[str, Any]) -> float | None:
    """Of one worker, or the earliest of several."""
    parts = streams.get("parts")
    told = [part.get("details") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else [streams]
    moments = [each.get("oldest_open_window") for each in told if isinstance(each, Mapping)]
    return min((float(moment) for moment in moments if isinstance(moment, int | float)), default=None)


def _number(value: Any) -> int:
    return int(value) if isinstance(value, int | float) else 0

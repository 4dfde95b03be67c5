"""How complete a range is, in a few figures of the ledger: what stands beside every other figure of it. Pure.

The audit proves; this only adds up what the ledger says, so that nobody reads a hole as silence.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness:
    """Of all traffic of a range, whatever is filtered out of it; packets."""

    seen_packets: int = 0  # by the kernel's hooks; 0: nobody watched, or nothing of it is stored yet
    recorded_packets: int = 0  # as events, or coalesced
    coalesced_packets: int = 0  # of these, those that the kernel added up by flow
    dropped_packets: int = 0  # no room in the ring
    unread_packets: int = 0  # not IP, malformed, or of an unknown link: counted, not recorded
    unstored_packets: int = 0  # recorded, and not read from Kafka: on their way, or missing
    unclosed_epochs: int = 0  # of which the kernel's counters never came
    losses: int = 0  # gaps between the kernel and the ledger


def of(epochs: Iterable[Mapping[str, Any]], losses: Iterable[object]) -> Completeness:
    """From the rows of console.audit.sql.epochs and of LOSSES."""
    rows = list(epochs)

    def total(*names: str) -> int:
        return sum(int(row[f"{name}_packets"]) for row in rows for name in names)

    return Completeness(
        seen_packets=total("seen"),
        recorded_packets=total("emitted", "coalesced"),
        coalesced_packets=total("coalesced"),
        dropped_packets=total("ring_full"),
        unread_packets=total("non_ip", "malformed", "unknown_link"),
        unstored_packets=max(0, total("kafka_missing")),
        unclosed_epochs=sum(int(row["unclosed_epochs"]) for row in rows),
        losses=len(list(losses)),
    )

"""What /health of the producer tells. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from producer.capture.devices import Hole
from producer.interfaces.troubles import Trouble
from producer.kafka.progress import Progress

STALLED_SECONDS = 10
MOST_TROUBLES = 20  # that are told one by one


@dataclass(slots=True)
class Status:
    """What the producer's parts tell of themselves."""

    node: str
    interfaces: tuple[str, ...] = ()  # that are watched
    unknown_links: tuple[str, ...] = ()  # of these, whose packets are counted only
    troubles: tuple[Trouble, ...] = ()  # what is wanted and is not
    packets: int = 0  # acknowledged


def health(
    status: Status, progress: Progress, *, ring_fill: float, coalescing: bool, holes: Sequence[Hole], now_ns: int
) -> dict[str, Any]:
    """The answer of /health. `now_ns`: on the monotonic clock."""
    last = progress.acknowledged_ns
    stalled = progress.waiting_ns(now_ns) > STALLED_SECONDS * 1_000_000_000
    error = progress.disk_error or progress.error
    if error is None and stalled:
        error = f"Kafka has not answered for {STALLED_SECONDS} s"
    if error is None and holes:
        error = "; ".join(map(_unseen, holes))
    if error is None and status.troubles:
        more = f" ({len(status.troubles) - 1} more in `unwatched`)" if len(status.troubles) > 1 else ""
        error = f"{status.troubles[0].error}{more}"
    return {
        "ok": not (stalled or progress.error or holes or status.troubles),
        "stage": "producer",
        "node": status.node,
        "interfaces": list(status.interfaces),
        "unwatched": [asdict(trouble) for trouble in status.troubles[:MOST_TROUBLES]],
        "unwatched_interfaces": len(status.troubles),
        "unknown_links": list(status.unknown_links),
        "unseen": [asdict(hole) for hole in holes],
        "packets": status.packets,
        "last_ack_age_seconds": None if last is None else round((now_ns - last) / 1e9, 3),
        "ring_fill": round(ring_fill, 4),
        "coalescing": coalescing,
        "spool_bytes": progress.spool_bytes,
        "queue": progress.in_flight,
        "error": error,
    }


def _unseen(hole: Hole) -> str:
    return (
        f"{hole.interface} {hole.direction}: {hole.device_packets:,} packets in a minute by the device's own counters,"
        f" {hole.unseen_packets:,} of them unseen: the hook is not there, or something before it (XDP, TCX, a full"
        " backlog) takes them"
    )

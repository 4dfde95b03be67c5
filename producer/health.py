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
    quiet_seconds: float = 1.0  # between two messages of a producer that sees nothing


def health(
    status: Status,
    progress: Progress,
    *,
    encoding_error: str | None,
    helper_error: str | None,
    names_fault: str | None,
    ring_fill: float,
    coalescing: bool,
    holes: Sequence[Hole],
    now_ns: int,
) -> dict[str, Any]:
    """The answer of /health. `now_ns`: on the monotonic clock. `encoding_error`: why nothing can be encoded.

    `helper_error`: why nothing can be attached. `names_fault`: why no names are read."""
    last, since = progress.acknowledged_ns, progress.waiting_since_ns
    wrong = progress.error or encoding_error or _silence(status, progress, now_ns) or helper_error
    wrong = wrong or names_fault
    if wrong is None and holes:
        wrong = "; ".join(map(_unseen, holes))
    if wrong is None and status.troubles:
        more = f" ({len(status.troubles) - 1} more in `unwatched`)" if len(status.troubles) > 1 else ""
        wrong = f"{status.troubles[0].error}{more}"
    return {
        "ok": wrong is None,
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
        "waiting_batches": progress.unacknowledged,
        "waiting_bytes": progress.waiting_bytes,
        "waiting_seconds": None if since is None else round((now_ns - since) / 1e9, 3),
        "silent_seconds": round(progress.silent_ns(now_ns) / 1e9, 3),
        "error": progress.disk_error or wrong,
    }


def _silence(status: Status, progress: Progress, now_ns: int) -> str | None:
    """What is wrong when nothing says what is: somebody does not answer. What nobody sends is not waited for."""
    stuck, silent = (now_ns - progress.looked_ns) / 1e9, progress.silent_ns(now_ns) / 1e9
    if stuck > STALLED_SECONDS:
        return (
            f"the producer has waited for {stuck:.0f} s for something that does not answer: its disk or the kernel; "
            "packets are counted meanwhile. Restart it if that does not end"
        )
    if silent > STALLED_SECONDS + status.quiet_seconds or progress.waiting_ns(now_ns) > STALLED_SECONDS * 1e9:
        return (
            f"Kafka has acknowledged nothing for {silent:.0f} s. See whether it is well (`ayaflow doctor`), "
            "or correct kafka.bootstrap_servers"
        )
    return None


def _unseen(hole: Hole) -> str:
    return (
        f"{hole.interface} {hole.direction}: {hole.device_packets:,} packets in a minute by the device's own counters,"
        f" {hole.unseen_packets:,} of them unseen: the hook is not there, or something before it (XDP, TCX, a full"
        " backlog) takes them"
    )

"""What /health of the producer tells."""

import time
from dataclasses import dataclass
from typing import Any

from producer.capture.capture import Capture
from producer.kafka.publisher import Publisher

STALLED_SECONDS = 10.0


@dataclass(slots=True)
class State:
    """What is not asked of the parts."""

    node: str
    interfaces: tuple[str, ...] = ()
    packets: int = 0
    finishing: bool = False


def health(state: State, publisher: Publisher, capture: Capture) -> dict[str, Any]:
    """The answer of /health."""
    last = publisher.last_ack_ns
    stalled = publisher.waiting_ns() > STALLED_SECONDS * 1e9
    error = publisher.disk_error or publisher.error
    if error is None and stalled:
        error = f"Kafka has not answered for {STALLED_SECONDS:.0f} s"
    return {
        "ok": not stalled and publisher.error is None,
        "stage": "producer",
        "node": state.node,
        "interfaces": list(state.interfaces),
        "packets": state.packets,
        "last_ack_age_seconds": None if last is None else round((time.monotonic_ns() - last) / 1e9, 3),
        "ring_fill": round(capture.ring_fill, 4),
        "coalescing": capture.detail.coalescing,
        "spool_bytes": publisher.spool_bytes,
        "queue": publisher.outbox.in_flight,
        "error": error,
    }

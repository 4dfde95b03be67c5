"""Two of three brokers are stopped by SIGSTOP and go on: connections stay, nobody answers, no message can be acked."""

import contextlib
import itertools
import random
import signal
import time
from collections.abc import Iterator

from tests.faults import check, cluster
from tests.faults.installation import CONSOLE, PRODUCER, STREAMS, Installation


@contextlib.contextmanager
def two_brokers(system: Installation, dice: random.Random) -> Iterator[None]:
    """Frozen during the block, and thawed one after the other. One of them at least leads a partition."""
    leaders = set(cluster.leaders(system.kafka).values())
    pairs = [pair for pair in itertools.combinations(range(1, cluster.BROKERS + 1), 2) if leaders & {*pair}]
    two = [system.parts[f"kafka-{number}"] for number in dice.choice(pairs)]
    for part in two:
        part.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        dice.shuffle(two)
        for part in two:
            part.signal(signal.SIGCONT)
            time.sleep(dice.uniform(0, 3))


class Outcry:
    """Who has said that something is wrong."""

    def __init__(self, system: Installation) -> None:
        self._system = system
        self._silent = {
            "the producer": (PRODUCER, "/health"),
            "the console": (CONSOLE, "/api/health"),
            **{f"worker {i} of streams": (STREAMS + i, "/health") for i in range(len(system.streams))},
        }

    @property
    def silent(self) -> list[str]:
        """Who has not said so yet; asks them."""
        for name, (port, path) in [*self._silent.items()]:
            if self._system.health(port, path).get("ok") is False:
                del self._silent[name]
        return [*self._silent]


def audit_speaks_of_kafka(system: Installation) -> bool:
    """Whether the audit says that it does not know all, and why. It may raise no alarm."""
    _, report = check.audit(system)
    assert not report["differs"], report["message"]
    return "is not known" in report["message"] and "Kafka" in report["message"]

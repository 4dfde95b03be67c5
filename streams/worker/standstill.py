"""Partitions with which Kafka's client does not get on, though Kafka answers and we wait for it. Pure.

Faust and aiokafka are known to stop fetching a partition, or committing, after a rebalance or the absence of a broker:
without a word, and for good (faust#629, aiokafka#625, robinhood/faust#736). Who starts again is given all that is not
committed. So that is told, and then done.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from common.backlog import PartitionBacklog

TOLD_LOOKS = 3  # at Kafka in a row without any progress, from which on that is trouble
MOST_LOOKS = 12  # and from which on it is not waited for any longer; a client may need half a minute after an outage


class Stand(NamedTuple):
    """How far a partition came here."""

    position: int  # the next offset to come
    told: int  # that everything below may be committed; -1: nothing was told
    waiting: bool  # something came and is not taken yet: it is we who do not get on


@dataclass(slots=True)
class _Still:
    what: str
    looks: int = 0


class Standstill:
    """Compares each look at Kafka with the one before."""

    def __init__(self) -> None:
        self._still: dict[int, _Still] = {}

    def look(self, partitions: Iterable[PartitionBacklog], stands: Mapping[int, Stand]) -> None:
        """`partitions`: those that we are to read; `stands`: of those of which something came."""
        still = {}
        for each in partitions:
            if what := _not_done(each, stands.get(each.partition)):
                before = self._still.get(each.partition)
                still[each.partition] = _Still(what, before.looks + 1 if before and before.what == what else 0)
        self._still = still

    def forget(self) -> None:
        """Kafka did not answer: nobody can get on."""
        self._still.clear()

    def told(self, partition: int) -> str | None:
        """What is not done with a partition for too long."""
        still = self._still.get(partition)
        return still.what if still and still.looks >= TOLD_LOOKS else None

    @property
    def hopeless(self) -> str | None:
        """What will not be done any more; None: there may be hope."""
        for partition, still in self._still.items():
            if still.looks >= MOST_LOOKS:
                return f"partition {partition}: {still.what}"
        return None


def _not_done(each: PartitionBacklog, stand: Stand | None) -> str | None:
    """What Kafka's client has to do now. The same words as before: it did nothing of it."""
    if stand and each.committed < stand.told:
        return f"what is stored is not committed beyond {each.committed}"
    if each.oldest_unix_s is None or (stand and (stand.waiting or each.first < stand.position)):
        return None  # there is nothing more, or what came is not stored yet
    return (
        f"Kafka has messages from {each.first} on, and {'they are not fetched' if each.read else 'nobody reads them'}"
    )

"""A look at Kafka every few seconds: how far each partition is behind, also those that nobody reads.

What came and is not stored is too old when it has waited for longer than a window is open: that is trouble, whatever
the reason is. A partition that another worker reads is its matter, unless that does not get on at all. One with which
our own client of Kafka does not get on is trouble sooner (streams.worker.standstill).
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Set
from concurrent.futures import Executor
from functools import partial
from typing import Any

from common.backlog import PartitionBacklog
from common.errors import ServiceUnavailable
from streams.metrics import Metrics
from streams.partition.rings import ANCHOR_SECONDS
from streams.partition.state import Partition
from streams.partition.watermark import laggard_seconds
from streams.worker.clock import Clock
from streams.worker.neighbours import Broker
from streams.worker.retrying import OFFSETS, PACKETS
from streams.worker.standstill import Stand, Standstill
from streams.worker.troubles import Place, Troubles

LOOK_SECONDS = 5.0  # between two looks
_KNOWN_SECONDS = 60.0  # for so long a look is worth something; one takes as long when nobody answers
_MOST_TOLD = 20


class Watch:
    """What the last look saw."""

    def __init__(
        self,
        broker: Broker,
        metrics: Metrics,
        troubles: Troubles,
        clock: Clock,
        executor: Executor,
        *,
        window_seconds: float,
        node_timeout_seconds: float,
    ) -> None:
        """The settings say for how long a window is open when all is well."""
        self._broker, self._metrics, self._troubles, self._clock = broker, metrics, troubles, clock
        self._executor = executor
        grace = laggard_seconds(window_seconds, node_timeout_seconds)  # a node whose clock is behind holds them open
        self._limit = window_seconds + node_timeout_seconds + grace
        self._ours: list[PartitionBacklog] = []  # and those that nobody reads
        self._late: set[int] = set()
        self._at: float | None = None  # of the last look that was answered
        self._ends: dict[int, int] = {}
        self._standstill = Standstill()
        self.topic_id: int | None = None

    async def look(
        self,
        states: Mapping[int, Partition],
        assigned: Callable[[], Set[int]],
        stands: Callable[[], Mapping[int, Stand]],
    ) -> None:
        """Ask. `states`: the partitions of which something came; `assigned`: all that the group gave us."""
        try:
            ask = partial(self._broker.look, {number: state.stored_until for number, state in states.items()})
            ours, here = {*states} | assigned(), stands()
            seen = await asyncio.get_running_loop().run_in_executor(self._executor, ask)
        except Exception as error:  # noqa: BLE001  who does not see says so, and looks again
            self._troubles.report(OFFSETS, str(error) if isinstance(error, ServiceUnavailable) else repr(error))
            self._standstill.forget()
            self._measure(states)
            return
        self._troubles.report(OFFSETS, None)
        self._at, self.topic_id = self._clock.monotonic(), seen.topic_id
        # behind the last message may be offsets without one
        self._ends = {each.partition: each.end for each in seen.partitions if each.oldest_unix_s is not None}
        self._ours = [each for each in seen.partitions if each.partition in ours or not each.read]
        self._standstill.look(self._ours, here)
        told = self._standstill.told
        self._judge({each.partition: told(each.partition) or self._too_late(each, ours) for each in seen.partitions})
        self._measure(states)

    def _too_late(self, each: PartitionBacklog, ours: Set[int]) -> str | None:
        age = self._age(each)
        another = each.read and each.partition not in ours
        # of another's partition only the acknowledged offset is known, which may stay behind for so long
        if age is None or age <= self._limit + (ANCHOR_SECONDS if another else 0):
            return None
        who = "nobody reads it" if not each.read else "another worker reads it" if another else "we read it"
        return f"{each.messages} messages are not stored, the oldest for {age:.0f} s; {who}"

    def _judge(self, late: Mapping[int, str | None]) -> None:
        for partition in self._late - {*late}:  # the topic has fewer partitions now
            self._troubles.report(PACKETS, None, Place(partition))
        for partition, error in late.items():
            self._troubles.report(PACKETS, error, Place(partition), retried=False)
        self._late = {partition for partition, error in late.items() if error}

    def _age(self, each: PartitionBacklog) -> float | None:
        return None if each.oldest_unix_s is None else max(0.0, self._clock.time() - each.oldest_unix_s)

    def _measure(self, states: Mapping[int, Partition]) -> None:
        lag, oldest = self.told(states)["lag_messages"], self._metrics.oldest_unstored_seconds
        self._metrics.lag_messages.set(math.nan if lag is None else lag)
        oldest.clear()
        for each in self._ours if self.known else ():
            oldest.labels(str(each.partition)).set(self._age(each) or 0.0)

    @property
    def known(self) -> bool:
        """Whether Kafka answered lately."""
        return self._at is not None and self._clock.monotonic() - self._at <= _KNOWN_SECONDS

    @property
    def standstill(self) -> str | None:
        """Why our client of Kafka is to be made anew; None: there is no reason."""
        return self._standstill.hopeless

    def behind(self, partition: int, position: int) -> int:
        """Messages of a partition at or after a position, as of the last look."""
        return max(0, self._ends.get(partition, 0) - position)

    def told(self, states: Mapping[int, Partition]) -> dict[str, Any]:
        """For /health. `states`: the partitions of which something came. None: not known."""
        if not self.known:
            return {"lag_messages": None, "oldest_unstored_seconds": None, "partitions_unread": None, "backlog": []}
        waiting = sorted(
            ((age, each) for each in self._ours if (age := self._age(each)) is not None), key=lambda pair: -pair[0]
        )
        return {
            "lag_messages": sum(
                max(0, each.end - (states[each.partition].position if each.partition in states else each.first))
                for each in self._ours
                if each.oldest_unix_s is not None
            ),
            "oldest_unstored_seconds": round(waiting[0][0], 3) if waiting else 0.0,
            "partitions_unread": [each.partition for _, each in waiting if not each.read],
            "backlog": [
                {
                    "partition": each.partition,
                    "stored_until": each.first,
                    "end": each.end,
                    "messages": each.messages,
                    "oldest_seconds": round(age, 3),
                    "read": each.read,
                }
                for age, each in waiting[:_MOST_TOLD]
            ],
        }

    def close(self) -> None:
        """Nothing more is asked; what runs is not waited for."""
        self._executor.shutdown(wait=False, cancel_futures=True)

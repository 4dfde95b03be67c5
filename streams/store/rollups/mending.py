"""Rollups are given what they lack of flows, after a server died between the two. Blocking.

What a rollup lacks of a window's nodes, where it knows nodes, is nobody else's. Where it does not (flows_1d), it may be
of an insert of others into the same day, which is there a moment later: whoever adds it adds it twice. So that day is
held first (streams.store.repair), for a second or so, and only when it still lacks something after a few looks.

A worker that is killed while it holds a day leaves its constraint. Its messages were not acknowledged: whoever has its
partition next completes the same window, finds the hold by the partition in its name, and takes it over.
"""

import contextlib
import math
import time
import uuid
from collections.abc import Callable, Mapping, Sequence

from common import logs
from common.settings import ClickHouseSettings
from schemas.clickhouse.rollups import ROLLUPS
from streams.partition.storing import KafkaPartition
from streams.store.connection import Connection
from streams.store.repair import Days, HeldByOthers, day_of, holding
from streams.store.rollups import sql

log = logs.get("streams")

_LOOKS = 3
_TRIES = 10
_PAUSE_SECONDS = 1.0
_ONCE_MORE = {"insert_deduplicate": 0}  # the same may have been lacking before


class Mending:
    """Every method raises ServiceUnavailable when ClickHouse cannot do its work now."""

    def __init__(
        self, connection: Connection, settings: ClickHouseSettings, pause: Callable[[float], None] = time.sleep
    ) -> None:
        """`pause`: waits for some seconds."""
        self._connection, self._pause = connection, pause
        self._days = Days(connection, settings)
        self._whole: dict[tuple[str, int], float] = {}  # when which period was held and lacked nothing, monotonic

    def lacks(self, rollup: str, window_begin: int, nodes: Sequence[str]) -> bool:
        """Whether the period of a window, of some nodes or of all, has not the sums of flows."""
        return self._connection.number(sql.lacks(rollup), **_period(rollup, window_begin, nodes)) > 0

    def take_over(self, partition: KafkaPartition, window_begin: int) -> None:
        """Let go of a window's day, should a worker that had the partition before have been killed while it held it.

        It is held anew for that, so that nothing which the other left behind is still under way.
        """
        if self._is_left(partition, window_begin):
            for rollup in ROLLUPS:
                if not sql.by_node(rollup):
                    self._hold_and_mend(rollup, partition, window_begin)

    def mend(self, rollup: str, partition: KafkaPartition, window_begin: int, nodes: Sequence[str], age: int) -> None:
        """Put into the period of a window what it lacks. `age`: whole seconds since the window was stored."""
        period = _period(rollup, window_begin, nodes)
        if sql.by_node(rollup):
            self._connection.command(sql.mend(rollup), _ONCE_MORE, **period)
            self._say(rollup, window_begin)
            return
        if age > time.monotonic() - self._whole.get((rollup, _start(rollup, window_begin)), -math.inf) + 1:
            return  # what seems to lack now is of others
        for _ in range(_LOOKS):
            self._pause(_PAUSE_SECONDS)
            if not self._missing(rollup, period):
                return
        self._hold_and_mend(rollup, partition, window_begin)

    def _hold_and_mend(self, rollup: str, partition: KafkaPartition, window_begin: int) -> None:
        period, day, own = _period(rollup, window_begin), day_of(window_begin), _owner(partition)
        for _ in range(_TRIES):
            owner = f"{own}{uuid.uuid4().hex[:8]}"
            with contextlib.suppress(HeldByOthers), holding(self._days, day, owner, own) as hold:
                if self._missing(rollup, period):
                    self._connection.command(sql.mend(rollup), _ONCE_MORE, **period, hold=hold)
                    if self._missing(rollup, period):
                        continue  # the hold was taken over
                    self._say(rollup, window_begin)
                self._whole[rollup, _start(rollup, window_begin)] = time.monotonic()
                return
            self._pause(_PAUSE_SECONDS * (1 + partition.number % 8 / 8))  # so that two do not always meet
            if not self._missing(rollup, period) and not self._is_left(partition, window_begin):
                return  # who holds a day makes its rollups what flows is
        log.warning(
            "a rollup lacks rows of a day that somebody else holds; see ayaflow audit --rollups", rollup=rollup, day=day
        )

    def _is_left(self, partition: KafkaPartition, window_begin: int) -> bool:
        return bool(self._days.left(day_of(window_begin), _owner(partition)))

    def _missing(self, rollup: str, period: Mapping[str, object]) -> bool:
        return self._connection.number(sql.missing(rollup), **period) > 0

    def _say(self, rollup: str, window_begin: int) -> None:
        log.warning("a rollup lacked rows of flows; it has them now", rollup=rollup, window_begin=window_begin)


def _period(rollup: str, window_begin: int, nodes: Sequence[str] = ()) -> dict[str, object]:
    of_nodes = {"nodes": list(nodes)} if sql.by_node(rollup) else {}
    return {"start": _start(rollup, window_begin), **of_nodes}


def _start(rollup: str, window_begin: int) -> int:
    seconds = ROLLUPS[rollup].seconds
    return window_begin // seconds * seconds


def _owner(partition: KafkaPartition) -> str:
    """What the names of a partition's workers begin with."""
    return f"{partition.topic_id:x}_{partition.number}_"

"""A partition of packets as it is opened: what it is made of, and what the tables say that a predecessor knew of it."""

from collections.abc import Callable
from functools import partial

from common import logs
from common.settings import StreamsSettings
from streams.partition.state import Partition
from streams.worker.lane import Lane
from streams.worker.neighbours import FlowStore

log = logs.get("streams")


class Recovery:
    """Questions block, and raise ServiceUnavailable."""

    def __init__(self, settings: StreamsSettings, store: FlowStore, acknowledge: Callable[[int, int], None]) -> None:
        """`acknowledge`: called with a partition and the offset below which all is stored."""
        self._settings, self._store, self._acknowledge = settings, store, acknowledge

    def made(self, partition: int, offset: int) -> Lane:
        """A partition of which nothing is known."""
        state = Partition(
            partition,
            position=offset,
            window_seconds=self._settings.window_seconds,
            node_timeout_seconds=self._settings.node_timeout_seconds,
        )
        return Lane(state, partial(self._acknowledge, partition))

    def prepare(self, lane: Lane, offset: int) -> None:
        """Windows of another length up to an offset, and who began connections that live on."""
        state, seconds = lane.state, self._settings.window_seconds
        other = self._store.other_lengths(state.source, seconds, offset)
        for rows in self._store.turned(state.source, seconds):
            state.initiators.learn(rows)
        if other:
            log.info("window length changed", partition=state.number, before=other[0], until_offset=other[1])
            state.window_seconds_before(*other)

    def stored_until(self, lane: Lane) -> int:
        """The highest offset below which something is stored; 0: none is known."""
        return self._store.stored_until(lane.state.source)

"""Adds up what is settled of the ledger: by the minute after an hour, by the hour after a day. Blocking.

What was taken back stays until nobody reads those messages of Kafka again, and is then removed.
"""

import time
from collections.abc import Callable, Iterator

from common.settings import ClickHouseSettings, KafkaSettings
from streams.disk.condense_sql import HOURS, LEFT, condense
from streams.store.connection import ONE_BLOCK, Connection

_HOUR = 3600
_STAGES = ((60, _HOUR, 120), (_HOUR, 26 * _HOUR, 1))
"""Seconds of a span, how old its hour is at least, and so many rows of a ring's hour are none too many."""
_MOST_EPOCHS = 50_000  # of all nodes of one statement


class Condenser:
    """Of one ledger. Methods raise ServiceUnavailable."""

    def __init__(
        self, settings: ClickHouseSettings, kafka: KafkaSettings, clock: Callable[[], float] = time.time
    ) -> None:
        """`kafka`: how long messages can be read again."""
        self._settings, self._clock = settings, clock
        self._connection = Connection(settings, None)
        self._again = kafka.packets_retention_hours * _HOUR
        self._done: dict[int, int] = {}  # of a stage: hours before are done
        self._cleaned: set[str] = set()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def look(self) -> int:
        """Add up what can be -> statements that were run. What came late is seen when its hour is a day older."""
        now, count = int(self._clock()), 0
        for span, age, few in _STAGES:
            until = (now - age) // _HOUR * _HOUR
            since = self._done.get(span, 0)
            if until > since:
                for hour, nodes in self._worth(since, until, few):
                    self._condense(span, hour, nodes)
                    count += 1
                self._done[span] = until
        for day in self._left(now):
            self._clean(day)
        return count

    def _worth(self, since: int, until: int, few: int) -> Iterator[tuple[int, list[str]]]:
        found = self._connection.query(
            HOURS,
            lambda rows: [(int(hour), node, int(runs)) for hour, node, runs in rows],
            since=since,
            until=until,
            few=few,
        )
        bunch: list[str] = []
        size, at = 0, 0
        for hour, node, runs in found:
            if bunch and (hour != at or size + runs > _MOST_EPOCHS):
                yield at, bunch
                bunch, size = [], 0
            bunch.append(node)
            size, at = size + runs, hour
        if bunch:
            yield at, bunch

    def _condense(self, span: int, hour: int, nodes: list[str]) -> None:
        self._connection.command(
            condense(span),
            ONE_BLOCK,
            **{"from": hour, "to": hour + _HOUR, "nodes": nodes, "version": int(self._clock() * 1e6)},
        )

    def _left(self, now: int) -> list[str]:
        until = int(now - self._again) // 86_400 * 86_400 - 86_400
        days = self._connection.query(LEFT, lambda rows: [str(row[0]) for row in rows], until=max(until, 0))
        return [day for day in days if day not in self._cleaned]

    def _clean(self, day: str) -> None:
        settings = self._settings
        table = f"{settings.database}.{settings.stored('ledger')}"
        self._connection.command(f"OPTIMIZE TABLE {table}{settings.on_cluster} PARTITION '{day}' FINAL CLEANUP")
        self._cleaned.add(day)

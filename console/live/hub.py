"""The live view of one console: a thread reads the topic, the event loop answers from what it keeps.

Once a second a message for /api/stream is made, once for all clients, and only while there are any; a client gets the
newest when it is ready for one, so a slow one misses messages and holds nobody up. What takes long takes a thread.
"""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol, Self

from common import logs
from common.settings import KafkaSettings, LiveSettings
from common.times import iso
from console.live.background import Background
from console.live.reader import Heard, LiveReader
from console.live.state import LiveState
from console.query import match
from console.query.filters import Filter
from console.show.names import share_of

log = logs.get("console")

STREAM_TOP = 50
TICK_SECONDS = 1.0
FRESH_SECONDS = 10.0
"""A node that was silent for longer has no rate now."""
_ANSWERS_KEPT = 200


class Reader(Protocol):
    """What gives the hub its messages."""

    problem: str  # why there is nothing new, a sentence; empty: nothing is wrong
    left_out: int  # messages that cannot be right
    reason: str  # what was wrong with the last of them

    def start(self) -> None:
        """Begin, in a thread of its own."""

    def stop(self) -> None:
        """End soon."""


class Naming(Protocol):
    """What knows names of addresses: console.names.reverse."""

    counts: dict[str, int]  # addresses that were asked for, by what became of it

    def name(self, address: str) -> str:
        """What it is called, as far as that is known now, without waiting; empty: not known, or nothing."""

    def mark(self, rows: Iterable[dict[str, Any]]) -> None:
        """Put them into rows of flows that have none."""


class LiveHub:
    """Use it with `async with`."""

    def __init__(
        self,
        timeout_seconds: float,
        open_reader: Callable[[Heard], Reader],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        background: Background | None = None,
        naming: Naming | None = None,
    ) -> None:
        """A connection is active for `timeout_seconds` after its last packet. `naming` names what has no name."""
        self._state = LiveState(timeout_seconds)
        self._clock, self._wall = clock, wall
        self._background = background or Background(log, clock)
        self._lock = threading.Lock()
        self._reader = open_reader(self._heard)
        self._naming = naming
        self._answers: dict[tuple[str, int, Filter], bytes] = {}
        self._answered: tuple[int, int] = (0, 0)
        self._tick, self._making = asyncio.Condition(), asyncio.Lock()
        self._waiting = 0  # for the next message
        self._made = float("-inf")  # when the newest was
        self._message = ""
        self._number = 0
        self._ticking: asyncio.Task[None] | None = None

    @classmethod
    def of(
        cls, settings: LiveSettings, kafka: KafkaSettings, registry_url: str | None, naming: Naming | None = None
    ) -> Self:
        """Of a deployment's live topic."""
        background = Background(log)
        open_reader = partial(LiveReader.of, kafka, registry_url, background=background)
        return cls(settings.connection_timeout_seconds, open_reader, background=background, naming=naming)

    async def __aenter__(self) -> Self:
        self._reader.start()
        self._ticking = asyncio.create_task(self._background.keep("what makes the live view's messages", self._run))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._ticking:
            self._ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticking
        self._reader.stop()

    def _heard(self, stats: dict[str, Any]) -> None:
        with self._lock:
            self._state.add(stats, self._clock())

    @property
    def problem(self) -> str:
        """Why there is nothing new, a sentence; empty: nothing is wrong."""
        return self._reader.problem

    def health(self) -> tuple[str, dict[str, Any]]:
        """What is wrong with the console itself, a sentence or nothing, and what else there is to know."""
        reader = self._reader
        details = {"live_messages_left_out": reader.left_out, "left_out_because": reader.reason}
        return self._background.problem, details if reader.left_out else {}

    @property
    def reverse_dns(self) -> Mapping[str, int]:
        """Addresses that were asked for, by what became of it; nothing where none are."""
        return self._naming.counts if self._naming else {}

    @property
    def domains_resolved(self) -> int:
        """Names of connections that messages brought, and of addresses that reverse DNS found."""
        return self._state.named + self.reverse_dns.get("found", 0)

    @property
    def left_out(self) -> int:
        """Live messages that could not be right."""
        return self._reader.left_out

    def connections(self, sort: str, limit: int, flow_filter: Filter) -> bytes:
        """The answer of /api/live. It is made once a message and second, however many ask."""
        now = self._clock()
        with self._lock:
            state = (self._state.version, int(now))
            if state != self._answered or len(self._answers) > _ANSWERS_KEPT:
                self._answers, self._answered = {}, state
            key = (sort, limit, flow_filter)
            if (known := self._answers.get(key)) is not None:
                return known
            rows = self._rows(now, sort, limit, flow_filter)
            shown = {"time": iso(self._wall(), digits=6), "connections": rows, "share": share_of(rows)}
            answer = _encode(shown).encode()
            self._answers[key] = answer
            return answer

    def _rows(self, now: float, sort: str, limit: int, flow_filter: Filter) -> list[dict[str, Any]]:
        chosen = (lambda row: match.matches(flow_filter, row)) if flow_filter.expression else None
        rows = self._state.connections(now, sort=sort, limit=limit, chosen=chosen)
        if self._naming:
            self._naming.mark(rows)
        return rows

    def stats(self) -> dict[str, Any]:
        """The answer of /api/stats."""
        now = self._clock()
        with self._lock:
            totals = self._state.totals()
            packets, octets = self._state.rates(now, FRESH_SECONDS)
            active = self._state.active_connections(now)
        return {
            "time": iso(self._wall(), digits=6),
            "nodes": len(active),
            "packets_total": totals["primary_packets"],
            "bytes_total": totals["primary_bytes"],
            "packets_per_second": round(packets, 1),
            "bytes_per_second": round(octets, 1),
            "active_connections": sum(active.values()),
            "domains_resolved_total": self.domains_resolved,
            "deep_inspect_packets_total": totals["copied_packets"],
            "dropped_packets_total": totals["ring_full_packets"],
            "coalesced_packets_total": totals["coalesced_packets"],
        }

    def metrics(self) -> tuple[dict[tuple[str, str, str], dict[str, int]], Mapping[str, int]]:
        """Sums by node, interface and direction; flows in open windows by node."""
        with self._lock:
            return (self._state.passed, self._state.active_connections(self._clock()))

    def snapshot(self) -> str:
        """A message of /api/stream, as of now."""
        now, wall = self._clock(), self._wall()
        with self._lock:
            nodes = self._state.node_rows(now, wall)
            rows = self._rows(now, "bytes", STREAM_TOP, Filter(expression=None))
        message = {"time": iso(wall, digits=6), "nodes": nodes, "connections": rows, "share": share_of(rows)}
        return _encode({**message, "problem": self.problem})

    async def next(self, after: int) -> tuple[int, str]:
        """The newest message with a number above `after`; waits for it. 0: the first, which is made if need be."""
        if after == 0:
            async with self._making:
                if self._clock() - self._made >= TICK_SECONDS:
                    await self.tick()
        self._waiting += 1
        try:
            async with self._tick:
                await self._tick.wait_for(lambda: self._number > after)
                return self._number, self._message
        finally:
            self._waiting -= 1

    async def tick(self) -> None:
        """Make the next message, for all that wait for one."""
        message = await asyncio.to_thread(self.snapshot)
        async with self._tick:
            self._message, self._number, self._made = message, self._number + 1, self._clock()
            self._tick.notify_all()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            if self._waiting:
                await self.tick()
            due = max(due + TICK_SECONDS, loop.time())
            await asyncio.sleep(due - loop.time())


def _encode(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

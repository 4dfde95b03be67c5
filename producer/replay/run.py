"""One replay: captures are read and run through the kernel program, at their speed if asked; blocks are handed on."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from common.stopping import Stop
from producer.clock import Nanoseconds
from producer.kernel.abi import REPLAY_FRAMES
from producer.replay.feed import Block, Feed
from producer.replay.files.frames import BrokenCaptureError
from producer.replay.files.reader import read
from producer.replay.links import Prepared, prepare
from producer.replay.program import BLOCK_BYTES
from schemas.packets import I64

TICK_SECONDS = 0.1


class Sink(Protocol):
    """Where blocks go."""

    def take(self, block: Block) -> None:
        """A block of events; its records are gone when this returns."""

    def idle(self, seconds: float, clock_ns: int) -> None:
        """Wait so long; all packets before `clock_ns` of the capture's time have been given."""


class Pace:
    """When packets are due. `speed`: 1 as they were captured, 10 ten times as fast; None: at once."""

    def __init__(self, speed: float | None, monotonic: Nanoseconds = time.monotonic_ns) -> None:
        self._speed, self._monotonic = speed, monotonic
        self._began: tuple[int, int] | None = None  # on the monotonic clock, and in the capture's time

    def parts(self, times: I64, idle: Callable[[float, int], None], stop: Stop) -> Iterator[slice]:
        """Slices of packets whose time has come, until `stop`; calls `idle` with seconds to wait and capture time."""
        begin = 0
        reached = np.maximum.accumulate(times)  # a packet waits for those before it
        while begin < len(times) and not stop.is_set():
            now = self._now(int(times[0]))
            end = len(times) if now is None else int(np.searchsorted(reached, now, side="right"))
            if end > begin:
                yield slice(begin, end)
                begin = end
            if now is not None:
                idle(TICK_SECONDS, now)

    def _now(self, first_ns: int) -> int | None:
        """In the capture's time; None: later than everything."""
        if self._speed is None:
            return None
        if self._began is None:
            self._began = self._monotonic(), first_ns
        return self._began[1] + int((self._monotonic() - self._began[0]) * self._speed)


class Replay:
    """Reads captures and plays them."""

    def __init__(
        self,
        *,
        feed: Feed,
        sink: Sink,
        pace: Pace,
        tell: Callable[[int], None],
        stop: Stop,
        batch_packets: int = REPLAY_FRAMES,
    ) -> None:
        """`tell` is called with each number of octets read of a file. `batch_packets`: at most so many a block."""
        self._feed, self._sink, self._pace, self._tell, self._stop = feed, sink, pace, tell, stop
        self._block_frames = min(batch_packets, REPLAY_FRAMES)

    def run(self, paths: Sequence[str]) -> list[BrokenCaptureError]:
        """Replay captures in their order until the end or `stop`. Returns what is wrong with them."""
        totals = self._feed.totals
        broken: list[BrokenCaptureError] = []
        for path in paths:
            try:
                for frames in read(path, self._tell):
                    prepared = prepare(frames)
                    totals.frames += len(frames)
                    totals.bad_times += frames.bad_times
                    totals.unsupported.update(prepared.unsupported)
                    # what is left at a stop was not replayed, and does not count as read
                    totals.frames -= len(prepared.frames) - self._play(prepared)
                    if self._stop.is_set():
                        return broken
            except BrokenCaptureError as error:
                broken.append(error)
        return broken

    def _play(self, prepared: Prepared) -> int:
        """Returns how many frames were played: all, but for a stop."""
        frames, done = prepared.frames, 0
        for rows in frames.slices(self._block_frames, BLOCK_BYTES):
            for part in self._pace.parts(frames.time_ns[rows], self._sink.idle, self._stop):
                done = rows.start + part.stop
                self._sink.take(self._feed.run(prepared, slice(rows.start + part.start, done)))
            if self._stop.is_set():
                break
        return done

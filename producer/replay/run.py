"""One replay: captures are read and run through the kernel program, at their speed if asked; blocks are handed on."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from common.errors import AyaflowError, SettingsError
from common.stopping import Stop
from producer.clock import Nanoseconds
from producer.kernel.abi import MAX_INTERFACES, REPLAY_FRAMES
from producer.replay.feed import Block, Feed
from producer.replay.files.frames import BrokenCaptureError
from producer.replay.files.reader import read
from producer.replay.files.source import stem
from producer.replay.links import Prepared, prepare
from producer.replay.passages import Passages
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
        interface: str | None = None,
    ) -> None:
        """`tell` is called with each number of octets read of a file. `batch_packets`: at most so many a block.

        `interface`: as files.reader.read has it.
        """
        self._interface = interface
        self._feed, self._sink, self._pace, self._tell, self._stop = feed, sink, pace, tell, stop
        self._block_frames = min(batch_packets, REPLAY_FRAMES)
        self._passages: tuple[str, Passages] = "", Passages()

    def run(self, paths: Sequence[str]) -> list[AyaflowError]:
        """Replay captures in their order until the end or `stop`. Returns what is wrong with them.

        Whatever that is, what was played before stays: also where the kernel or Kafka ends it.
        """
        broken: list[AyaflowError] = []
        for path in paths:
            try:
                self._run(path)
            except (BrokenCaptureError, SettingsError) as error:
                if not self._stop.is_set():  # else it was left in the middle of a packet
                    broken.append(error)
            except AyaflowError as error:
                return [*broken, error]
            if self._stop.is_set():
                break
        return broken

    def _run(self, path: str) -> None:
        totals = self._feed.totals
        base = self._interface or stem(path)
        if base != self._passages[0]:  # else it goes on with the host of the file before
            self._passages = base, Passages()
        for frames in read(path, self._tell, interface=self._interface, stop=self._stop):
            prepared = prepare(frames)
            secondary = self._passages[1].secondary(prepared)
            prepared = replace(prepared, frames=replace(prepared.frames, secondary=secondary))
            totals.frames += prepared.unsupported.total()
            totals.bad_times += frames.bad_times
            totals.unsupported.update(prepared.unsupported)
            self._play(prepared)
            if self._stop.is_set():
                return

    def _play(self, prepared: Prepared) -> None:
        """Play all, but for a stop. What is played counts as read."""
        frames = prepared.frames
        # a block has no more interfaces than the kernel program has numbers
        most = MAX_INTERFACES if len(frames.links) > MAX_INTERFACES // 4 else self._block_frames
        for rows in frames.slices(min(most, self._block_frames), BLOCK_BYTES):
            for part in self._pace.parts(frames.time_ns[rows], self._sink.idle, self._stop):
                block = self._feed.run(prepared, slice(rows.start + part.start, rows.start + part.stop))
                self._feed.totals.frames += part.stop - part.start
                self._sink.take(block)
            if self._stop.is_set():
                return

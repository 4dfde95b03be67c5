"""Captures to batches: links to interfaces, blocks to epochs, times to a clock. Does no I/O of its own.

Each run of the kernel program is an epoch: nothing else counts meanwhile, so its counters are closed exactly, and all
of its events are there. Its times are those of the capture.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from common.errors import AyaflowError
from producer.capture.batch import Source, Span, build
from producer.inspection.pending import Encode, Origin
from producer.inspection.reading import NameReading
from producer.kafka.outbox import Message
from producer.kernel.abi import MAX_INTERFACES, OUTCOMES, RECORD
from producer.kernel.ring import Copies
from producer.replay.files.frames import LATEST_NS, UNDIRECTED, Frames, Link
from producer.replay.links import Prepared
from producer.replay.program import Ran
from schemas.packets import EGRESS, INGRESS, EpochCounters, PacketEvents

_FOR_EVER_NS = 1 << 62
_COPIED = ("inspected_packets", "copied_packets")
DISORDER_NS = 1_000_000_000  # the clock stays so far behind the latest packet: captures are not quite in order


class Program(Protocol):
    """What we use of program.ReplayProgram."""

    def set_interface(self, slot: int, *, no_ethernet: bool) -> None:
        """What the frames with this number begin with."""

    def run(self, frames: Frames, rows: slice, slots: npt.NDArray[np.uint32], epoch: int) -> Ran:
        """Run over some of the frames."""


@dataclass(slots=True)
class Totals:
    """What became of every frame."""

    frames: int = 0  # read
    unsupported: Counter[int] = field(default_factory=Counter)  # by link type
    bad_times: int = 0  # brought into range
    counted: Counter[str] = field(default_factory=Counter)  # the kernel's counters, added up

    def check(self) -> None:
        """Raise AyaflowError unless each frame was counted once."""
        counted = self.counted
        outcomes = sum(counted[f"{outcome}_packets"] for outcome in OUTCOMES if outcome != "seen")
        ran = self.frames - self.unsupported.total()
        if not ran == counted["seen_packets"] == outcomes or counted["ring_full_packets"]:
            raise AyaflowError(
                f"of {ran} frames the kernel program saw {counted['seen_packets']} and accounted for {outcomes}; "
                "this is a fault of ayaflow"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One run: an epoch of events."""

    span: Span
    epoch: int
    counters: tuple[EpochCounters, ...]
    clock_ns: int
    before_ns: int  # the clock before it

    def __len__(self) -> int:
        return len(self.span.records)


class Feed:
    """One replay: all captures of a run under one node's name."""

    def __init__(self, program: Program, *, node: str, ring_id: int, names: NameReading | None = None) -> None:
        """`names`: what reads the copies of a program that makes some."""
        self.totals = Totals()
        self.earliest_ns: int | None = None  # of all packets
        self.latest_ns = 0
        self._program, self._names = program, names
        self.node, self._ring_id = node, ring_id
        self._numbers: dict[tuple[Link, bool, bool], int] = {}  # least recently used first
        self._source: Source | None = None  # None: its interfaces have changed
        self._epoch = 0
        self.sequence = 0  # of the next batch
        self._clock_ns = 0
        self._position = 0

    def run(self, prepared: Prepared, rows: slice) -> Block:
        """Run the kernel program over some of the frames."""
        frames = prepared.frames
        self._epoch += 1
        ran = self._directed(self._program.run(frames, rows, self._interfaces(prepared, rows), self._epoch))
        times = frames.time_ns[rows]
        first, last = int(times.min()), int(times.max())
        self.earliest_ns = first if self.earliest_ns is None else min(self.earliest_ns, first)
        self.latest_ns = max(self.latest_ns, last)
        self._read_names(ran.copies)
        before_ns, self._clock_ns = self._clock_ns, max(self._clock_ns, self.latest_ns - DISORDER_NS)
        for counted in ran.counters.values():
            self.totals.counted.update(counted)
        self._position = ran.span.end
        return Block(
            span=ran.span,
            epoch=self._epoch,
            counters=self._counters(ran, first, last),
            clock_ns=self._clock_ns,
            before_ns=before_ns,
        )

    def batch(self, block: Block, begin: int = 0, end: int | None = None) -> PacketEvents:
        """Some of a block's records, by default all, as a batch; count it by `sequence` when it is sent.

        The counters and the clock go with the last of them.
        """
        span, stride = block.span, block.span.records.itemsize
        end = len(block) if end is None else end
        is_last = end == len(block)
        events = build(
            Span(start=span.start + begin * stride, end=span.start + end * stride, records=span.records[begin:end]),
            source=self._named(),
            first_epoch=block.epoch,
            boundaries=[span.end],
            offset_ns=0,
            sequence=self.sequence,
            clock_ns=block.clock_ns if is_last else block.before_ns,
            counters=block.counters if is_last else (),
        )
        return events if self._names is None else replace(events, batch=self._names.named(events.batch, 0))

    def names(self, encode: Encode, block: Block) -> list[Message]:
        """Messages of the names read so far, to be sent with the end of a block. Raises ServiceUnavailable."""
        if self._names is None or not len(self._names.pending):
            return []
        origin = Origin(
            node=self.node,
            ring_id=self._ring_id,
            interfaces=dict(self._named().interfaces),
            offset_ns=0,
            clock_ns=block.clock_ns,
        )
        return self._names.take(origin, encode)

    def forget_names(self) -> None:
        """Nobody wants messages of them."""
        if self._names is not None:
            self._names.pending.forget()

    def heartbeat(self, clock_ns: int) -> Block:
        """A block without packets that says how far the capture's time has come."""
        before_ns, self._clock_ns = self._clock_ns, max(self._clock_ns, min(clock_ns, LATEST_NS))
        empty = Span(start=self._position, end=self._position, records=np.zeros(0, RECORD))
        return Block(span=empty, epoch=self._epoch + 1, counters=(), clock_ns=self._clock_ns, before_ns=before_ns)

    def end(self, clock_ns: int) -> Block:
        """A heartbeat behind which nothing comes."""
        block = self.heartbeat(clock_ns)
        if self._names is not None:
            self._names.expire(_FOR_EVER_NS)
        self._epoch = block.epoch
        at = {"epoch": block.epoch, "start_ns": self.latest_ns, "end_ns": self.latest_ns}
        return replace(block, counters=(EpochCounters.nothing(**at, ended=True),))

    def _read_names(self, found: tuple[Copies, ...]) -> None:
        if self._names is None:
            return
        for copies in found:
            self._names.add(copies)
        self._names.expire(self.latest_ns)

    def _interfaces(self, prepared: Prepared, rows: slice) -> npt.NDArray[np.uint32]:
        """The interface number of each frame; new ones are told to the program."""
        frames = prepared.frames
        undirected = frames.direction[rows] == UNDIRECTED
        code: npt.NDArray[np.int64] = frames.link[rows] * 4 + prepared.no_ethernet[rows] * 2 + undirected
        known: npt.NDArray[np.uint32] = np.zeros(4 * len(frames.links), np.uint32)
        for each in np.unique(code).tolist():
            known[each] = self._number(frames.links[each // 4], no_ethernet=bool(each & 2), undirected=bool(each & 1))
        return known[code]

    def _directed(self, ran: Ran) -> Ran:
        """Frames whose capture does not say get a direction: that of the lower address is ingress, the other egress.

        So both directions of a conversation are one flow. The kernel took them all as ingress; its counters follow.
        """
        numbers = [number for (_, _, undirected), number in self._numbers.items() if undirected]
        events = ran.span.records["event"]
        src, dst = (np.ascontiguousarray(events[side]).view("S16").reshape(-1) for side in ("src", "dst"))
        turn = np.isin(events["slot"], numbers) & (src > dst)
        if not turn.any():
            return ran
        records, counters = ran.span.records.copy(), dict(ran.counters)
        records["event"]["direction"][turn] = EGRESS
        for number in np.unique(events["slot"][turn]).tolist():
            moved = events[turn & (events["slot"] == number)]
            packets, octets = int(moved["packets"].sum(dtype=np.int64)), int(moved["bytes"].sum(dtype=np.int64))
            change = {
                "seen_packets": packets,
                "seen_bytes": octets,
                "emitted_packets": packets,
                "emitted_bytes": octets,
            }
            change |= dict.fromkeys(_COPIED, sum(_turn_copies(copies, number) for copies in ran.copies))
            before = counters[number, INGRESS, True]
            counters[number, INGRESS, True] = {name: value - change.get(name, 0) for name, value in before.items()}
            counters[number, EGRESS, True] = {name: change.get(name, 0) for name in before}
        span = Span(start=ran.span.start, end=ran.span.end, records=records)
        return replace(ran, span=span, counters=counters)

    def _number(self, link: Link, *, no_ethernet: bool, undirected: bool) -> int:
        """An interface's number. It stays that of its interface for a block; captures may name more than there are."""
        key = (link, no_ethernet, undirected)
        number = self._numbers.pop(key, None)
        if number is None:
            # the one of which nothing has come for longest: a block has no more frames' interfaces than numbers
            number = self._numbers.pop(next(iter(self._numbers))) if self._is_full() else len(self._numbers)
            self._program.set_interface(number, no_ethernet=no_ethernet)
            self._source = None
        self._numbers[key] = number  # the newest is last
        return number

    def _is_full(self) -> bool:
        return len(self._numbers) == MAX_INTERFACES

    def _named(self) -> Source:
        """The node with the names of its interfaces."""
        if self._source is None:
            names = tuple((number, each.interface) for (each, *_), number in self._numbers.items())
            self._source = Source(node=self.node, ring_id=self._ring_id, interfaces=names)
        return self._source

    def _counters(self, ran: Ran, first: int, last: int) -> tuple[EpochCounters, ...]:
        """By name: links of several types may have the same."""
        names = dict(self._named().interfaces)
        sums: dict[tuple[str, int, bool], Counter[str]] = {}
        for (number, direction, primary), counted in ran.counters.items():
            sums.setdefault((names[number], direction, primary), Counter()).update(counted)
        return tuple(
            EpochCounters(
                epoch=self._epoch,
                start_ns=first,
                end_ns=last,
                interface=interface,
                direction=direction,
                primary=primary,
                ended=False,
                **counted,
            )
            for (interface, direction, primary), counted in sums.items()
        )


def _turn_copies(copies: Copies, number: int) -> int:
    """Those of an interface that leave, as its packets do, get their direction. Returns how many there are."""
    heads = copies.heads
    src, dst = (np.ascontiguousarray(heads[side]).view("S16").reshape(-1) for side in ("src", "dst"))
    turn = (heads["slot"] == number) & (src > dst)
    heads["direction"][turn] = EGRESS
    return int(turn.sum())

"""The kernel program over the frames of captures: prepared frames in, events and counters out.

A block of frames is copied into a map that we have mapped, and one system call runs the program for each of them.
"""

import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from common.errors import AyaflowError, EnvironmentProblem
from producer.capture.batch import Span
from producer.kernel import bpfsys, child, pins
from producer.kernel.abi import (
    MAX_INTERFACES,
    NO_ETHERNET,
    REPLAY_BLOCK_BYTES,
    REPLAY_FRAME,
    REPLAY_FRAME_MASK,
    REPLAY_FRAMES,
    REPLAY_STATE,
    WATCHED,
    counters_of,
    interface,
    record_of,
)
from producer.kernel.maps import fresh_counters
from producer.kernel.ring import Copies, CopyRing, Ring
from producer.replay.files.frames import Frames
from schemas.packets import EGRESS

_PROGRAM = "replay"
_MAPS = ("events", "counters_a", "interfaces", "replay_frames", "replay_block", "replay_state")
RING_PAGES = 1024  # more than a block's events
COPY_PAGES = 2048  # more than the copies of all its frames: of 171 octets each, 400 of the ring
_ROOM = REPLAY_FRAME_MASK + 1  # that the verifier wants behind each frame's offset
LONGEST_FRAME = 16_000  # what lies behind is no header
BLOCK_BYTES = REPLAY_BLOCK_BYTES - 2 * _ROOM
"""Octets of the file that the frames of a block may span."""
_NOTHING = b"\x45".ljust(12, b"\0") + b"\x08\x00"
"""Stands for a frame shorter than an Ethernet header: with such a header and without, an IP header cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What became of a block of frames."""

    span: Span  # events, in the order of the frames; valid until the next run
    counters: dict[tuple[int, int, bool], dict[str, int]]  # by interface number, direction, and whether primary
    copies: tuple[Copies, ...] = ()  # likewise, of a program that inspects payload


class ReplayProgram:
    """The loaded program. A context manager."""

    def __init__(self, log: Path, decapsulate: Sequence[str] = (), inspect: int = 0, loader: str = "bcc") -> None:
        """The compiler's messages go to `log`. `decapsulate`: tunnels to be opened. `loader`: see capture.loader.

        `inspect`: octets of payload to be copied where there may be a name. Raises EnvironmentProblem.
        """
        request = {
            "loader": loader,
            "program": _PROGRAM,
            "maps": (*_MAPS, *([pins.COPIES] if inspect else [])),
            "ring_pages": RING_PAGES,
            "decapsulate": list(decapsulate),
            "inspect": inspect,
            "copy_pages": COPY_PAGES if inspect else 0,
        }
        self._fds = child.run("compile", request, log=log).fds
        self._maps = [
            mmap.mmap(self._fds[name], -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
            for name, size in (
                ("replay_frames", REPLAY_FRAMES * REPLAY_FRAME.itemsize),
                ("replay_block", REPLAY_BLOCK_BYTES),
                ("replay_state", REPLAY_STATE.itemsize),
            )
        ]
        self._frames = np.frombuffer(self._maps[0], REPLAY_FRAME, REPLAY_FRAMES)
        self._block = np.frombuffer(self._maps[1], np.uint8, REPLAY_BLOCK_BYTES)
        self._state = np.frombuffer(self._maps[2], np.uint64, 2)
        self._block[: len(_NOTHING)] = np.frombuffer(_NOTHING, np.uint8)
        self._ring = Ring(self._fds["events"], RING_PAGES * mmap.PAGESIZE, record_of(decapsulate))
        self._copies = CopyRing(self._fds[pins.COPIES], COPY_PAGES * mmap.PAGESIZE) if inspect else None
        self._layout = counters_of(inspect)
        self._position = self._copied = 0
        self._cpus = bpfsys.possible_cpus()

    def __enter__(self) -> "ReplayProgram":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            return  # its traceback holds views of the maps; they end with the process
        self._ring.close()
        if self._copies is not None:
            self._copies.close()
        del self._frames, self._block, self._state
        for mapped in self._maps:
            mapped.close()
        for fd in self._fds.values():
            os.close(fd)

    def set_interface(self, slot: int, *, no_ethernet: bool) -> None:
        """What the frames with this number, below MAX_INTERFACES, begin with from now on."""
        value = interface(WATCHED | (NO_ETHERNET if no_ethernet else 0))
        bpfsys.map_update(self._fds["interfaces"], struct.pack("=I", slot), value)

    def run(self, frames: Frames, rows: slice, slots: npt.NDArray[np.uint32], epoch: int) -> Ran:
        """Run the program over some of the frames, at most REPLAY_FRAMES that span at most BLOCK_BYTES.

        `slots`: number of each frame's interface, shape (n,). `epoch`: what their counters and events carry.
        """
        count = rows.stop - rows.start
        keys = frames.secondary[rows] * (2 * MAX_INTERFACES) + slots * 2 + (frames.direction[rows] == EGRESS)
        passages = np.unique(keys).tolist()
        for key in passages:
            bpfsys.map_update(self._fds["counters_a"], _octets(key), fresh_counters(epoch, self._cpus, self._layout))
        self._write(frames, rows, slots)
        self._state[:] = 0
        self._ring.release(self._position)
        if self._copies is not None:
            self._copies.release(self._copied)
        while (done := int(self._state[0])) < count:
            try:
                bpfsys.prog_test_run(self._fds[_PROGRAM], bytes(LONGEST_FRAME >> 3), repeat=count - done)
            except InterruptedError:  # a signal; its handler has run
                continue
            except OSError as error:
                raise EnvironmentProblem(
                    f"the kernel would not run the program ({error}); run ayaflow doctor"
                ) from error
        if self._state[1]:
            raise AyaflowError(f"the kernel refused {self._state[1]} frames of a block; this is a fault of ayaflow")
        start, self._position = self._position, self._ring.producer_position()
        return Ran(
            span=Span(start=start, end=self._position, records=self._ring.span(start, self._position)),
            counters={_passage(key): self._counted(key) for key in passages},
            copies=tuple(self._take_copies()),
        )

    def _write(self, frames: Frames, rows: slice, slots: npt.NDArray[np.uint32]) -> None:
        start, captured = frames.start[rows], np.minimum(frames.captured[rows], LONGEST_FRAME)
        first, behind = int(start[0]), int(start[-1] + captured[-1])
        self._block[_ROOM : _ROOM + behind - first] = frames.data[first:behind]
        short = captured < len(_NOTHING)
        into = self._frames[: len(start)]
        into["time_ns"] = frames.time_ns[rows]
        into["offset"] = np.where(short, 0, start - first + _ROOM)
        into["last"] = np.where(short, len(_NOTHING), captured) - 1
        into["bytes"] = np.minimum(frames.wire[rows], 0xFFFFFFFF)
        into["slot"] = slots
        into["direction"] = frames.direction[rows] == EGRESS
        into["secondary"] = frames.secondary[rows]

    def _take_copies(self) -> Iterator[Copies]:
        if self._copies is None:
            return
        end = self._copies.producer_position()
        while self._copied < end:
            found = self._copies.read(self._copied, end)
            self._copied = found.end
            yield found

    def _counted(self, key: int) -> dict[str, int]:
        raw = bpfsys.map_lookup(self._fds["counters_a"], _octets(key), self._layout.itemsize * self._cpus)
        rows = np.frombuffer(raw, self._layout)
        return {name: int(rows[name].sum()) for name in self._layout.names or () if name != "epoch"}


def _octets(key: int) -> bytes:
    """A key of the counters."""
    return struct.pack("=I", key)


def _passage(key: int) -> tuple[int, int, bool]:
    """Interface number, direction, and whether it is primary."""
    secondary, passage = divmod(key, 2 * MAX_INTERFACES)
    return passage // 2, passage % 2, not secondary

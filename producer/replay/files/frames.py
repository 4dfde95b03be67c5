"""What a capture holds, a block of frames at a time. Pure; numpy only."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.errors import AyaflowError
from schemas.packets import I32, I64, U8

UNDIRECTED = 2
"""Of a frame's direction: the capture does not say. The feed makes one of it."""

LATEST_NS = (2**32 - 1 - 2 * 3600) * 1_000_000_000
"""What tables and windows can hold, with room for the end of a window: early in 2106."""


class BrokenCaptureError(AyaflowError):
    """A capture cannot be read on; what came before was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Where frames of a capture come from."""

    interface: str
    type: int  # LINKTYPE_ number: 1 is Ethernet


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """n frames in the order of the file. What lies before a frame's first octet in `data` may be overwritten."""

    data: U8  # octets of the file, writable
    start: I64  # of each frame's first octet in `data`, ascending; this and what follows have shape (n,)
    captured: I64  # octets that are there
    wire: I64  # octets that there were, as the capture says: of some, fewer than `captured`
    time_ns: I64  # since the Unix epoch, 0 to LATEST_NS
    direction: U8  # INGRESS, EGRESS or UNDIRECTED
    link: I32  # index into links
    secondary: npt.NDArray[np.bool_]  # another passage of the packet counts it: passages.py says so
    links: tuple[Link, ...]
    bad_times: int = 0  # times that were out of range, and are not any more

    def __len__(self) -> int:
        return len(self.start)

    def slices(self, frames: int, octets: int) -> Iterator[slice]:
        """All frames in order, at most so many at a time; what `data` holds of each slice's is at most `octets`.

        A single frame may be longer.
        """
        ends = self.start + self.captured
        begin = 0
        while begin < len(self):
            fitting = int(np.searchsorted(ends, int(self.start[begin]) + octets, side="right"))
            end = max(begin + 1, min(begin + frames, fitting))
            yield slice(begin, end)
            begin = end


def make(
    data: bytearray,
    *,
    start: I64,
    captured: I64,
    wire: I64,
    time_ns: I64,
    links: tuple[Link, ...],
    link: I32 | None = None,
    direction: U8 | None = None,
) -> Frames:
    """Frames whose times are brought into range."""
    bad = (time_ns < 0) | (time_ns > LATEST_NS)
    count = len(start)
    return Frames(
        data=np.frombuffer(data, np.uint8),
        start=start,
        captured=captured,
        wire=wire,
        time_ns=np.clip(time_ns, 0, LATEST_NS),
        direction=np.full(count, UNDIRECTED, np.uint8) if direction is None else direction,
        link=np.zeros(count, np.int32) if link is None else link,
        secondary=np.zeros(count, np.bool_),
        links=links,
        bad_times=int(bad.sum()),
    )


def words(data: bytearray, at: I64, count: int, order: str) -> npt.NDArray[np.int64]:
    """`count` unsigned 32-bit numbers from each of the n positions `at`, in byte order `<` or `>`; shape (n, count).

    Behind the end of `data` they are anything.
    """
    octets = np.take(np.frombuffer(data, np.uint8), at[:, None] + np.arange(4 * count), mode="clip")
    return octets.view(f"{order}u4").astype(np.int64)

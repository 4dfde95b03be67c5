"""The kernel's ring buffers, mapped: whole spans at a time as numpy arrays, no call per event.

Positions are the kernel's own: octets since the ring was made; they never go back. What lies between the
consumer's position and a reader's is not overwritten, so a span stays valid until it is released.

Only the parts that are being read are mapped: all that is mapped counts as our memory, a page at a time or not.
"""

import mmap
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from producer.kernel.abi import BUSY, COPY, DISCARDED, RECORD, Records, converted

_SCAN_RECORDS = 16_384  # at a time; they stay in the CPU's cache until they are used
_PART_BYTES = 2 << 20
_PARTS = 2  # mapped at a time: where a batch begins, and up to where records are submitted
_COPIES_PART_BYTES = 512 << 10
_MOST_COPIES = 4096  # read at a time
_HEADER_BYTES, _ALIGNED = 8, 8  # of the ring's own header, and of where a record may begin

Octets = npt.NDArray[np.uint8]


class _Mapped:
    """The two pages that say where kernel and reader are."""

    def __init__(self, fd: int, size: int) -> None:
        page = mmap.PAGESIZE
        self.size, self._fd = size, fd
        self._consumer_page = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._producer_page = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._consumer = np.frombuffer(self._consumer_page, "=u8", 1)
        self._producer = np.frombuffer(self._producer_page, "=u8", 1)
        self._parts: dict[int, Octets] = {}  # of the data by number, the one that was used last at the end

    def close(self) -> None:
        """Unmap. Spans must not be used any more."""
        del self._consumer, self._producer
        self._parts.clear()
        self._consumer_page.close()
        self._producer_page.close()

    def consumer_position(self) -> int:
        """Up to here the kernel may overwrite."""
        return int(self._consumer[0])

    def producer_position(self) -> int:
        """Up to here records are reserved."""
        return int(self._producer[0])

    def release(self, position: int) -> None:
        """Let the kernel overwrite what lies before `position`."""
        self._consumer[0] = position

    def _part(self, number: int, part_bytes: int, mapped_bytes: int, most: int) -> Octets:
        """A part of the data, and what follows it; behind the last one the kernel maps the first again.

        `most`: parts that are mapped at a time.
        """
        octets = self._parts.pop(number, None)
        if octets is None:
            if len(self._parts) == most:
                self._parts.pop(next(iter(self._parts)))  # unmapped with the last view of it
            offset = 2 * mmap.PAGESIZE + number * part_bytes
            pages = mmap.mmap(self._fd, mapped_bytes, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset)
            octets = np.frombuffer(pages, np.uint8)
        self._parts[number] = octets
        return octets


class Ring(_Mapped):
    """A mapped ring of `size` octets of data, of records of one type, each `stride` octets."""

    def __init__(self, fd: int, size: int, record: np.dtype[Any] = RECORD) -> None:
        super().__init__(fd, size)
        page = mmap.PAGESIZE
        self.record, self.stride = record, record.itemsize
        self._part_bytes = min(size, _PART_BYTES)
        # Behind a part so much of the next one is mapped, too, that a batch lies in one piece.
        self._mapped_bytes = min(2 * size, self._part_bytes + -(-_SCAN_RECORDS * self.stride // page) * page)
        self._submitted = record["event"].itemsize  # header of an event that is not discarded

    def readable(self, position: int) -> int:
        """End of the submitted records from `position` on; at most of _SCAN_RECORDS."""
        end = min(self.producer_position(), position + _SCAN_RECORDS * self.stride)
        while position < end:
            headers = self._records(position, end)["header"]
            if not (headers == self._submitted).all() and len(busy := np.flatnonzero(headers & BUSY)):
                return position + int(busy[0]) * self.stride
            position += len(headers) * self.stride
        return position

    def span(self, start: int, end: int) -> Records:
        """The records between two positions, discarded ones too; a view, or a copy where they lie in several parts."""
        pieces: list[Records] = []
        while not pieces or start < end:
            pieces.append(self._records(start, end))
            start += len(pieces[-1]) * self.stride
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _records(self, start: int, end: int) -> Records:
        """Those that are mapped in one piece."""
        number, offset = divmod(start % self.size, self._part_bytes)
        count = min(end - start, self._mapped_bytes - offset) // self.stride
        octets = self._part(number, self._part_bytes, self._mapped_bytes, _PARTS)
        return np.frombuffer(octets, self.record, count, offset)


class Copies(NamedTuple):
    """Copies between two positions of the ring of copies; a view of it, valid until `end` is released."""

    start: int
    end: int
    heads: Records  # shape (n,), of dtype COPY
    octets: memoryview  # the ring from `start` on
    offsets: npt.NDArray[np.int64]  # shape (n,): where in `octets` the payload of each begins
    places: npt.NDArray[np.int64]  # shape (n,): where in the ring each begins


class CopyRing(_Mapped):
    """A mapped ring of copies: records of several sizes."""

    def __init__(self, fd: int, size: int, copy: np.dtype[Any] = COPY) -> None:
        """`copy`: how the heads are laid out."""
        super().__init__(fd, size)
        self._copy = copy
        self._part_bytes = min(size, _COPIES_PART_BYTES)

    def read(self, position: int, limit: int) -> Copies:
        """The submitted copies from `position` on that begin before `limit`, which is at most the kernel's position.

        At most a few thousand; where `end` is `position` there are none. Raises ValueError when there lies no copy.
        """
        number, begin = divmod(position % self.size, self._part_bytes)
        # a record that begins in a part ends within the next page
        part = self._part(number, self._part_bytes, self._part_bytes + mmap.PAGESIZE, most=1)
        octets, least = part.data[begin:], self._copy.itemsize
        headers = octets.cast("I")
        most = min(limit - position, self._part_bytes - begin)
        place, offsets = 0, list[int]()
        while place < most and len(offsets) < _MOST_COPIES:
            header = headers[place >> 2]
            if header & BUSY:
                break
            length = header & ~DISCARDED
            if not least <= length <= mmap.PAGESIZE - _HEADER_BYTES:
                raise ValueError(
                    f"the ring of copies holds a record of {length} octets, which is no copy; "
                    "was it made by another version of ayaflow?"
                )
            if length == header:
                offsets.append(place + _HEADER_BYTES)
            place += _HEADER_BYTES + length + -length % _ALIGNED
        at = np.array(offsets, np.int64)
        words = (begin + at)[:, None] // _ALIGNED + np.arange(least // _ALIGNED)
        heads = part.view(np.uint64)[words].view(self._copy).reshape(-1)
        return Copies(
            start=position,
            end=position + place,
            heads=converted(heads, COPY),
            octets=octets,
            offsets=at + least,
            places=at + (position - _HEADER_BYTES),
        )


def submitted(records: Records) -> npt.NDArray[np.bool_]:
    """Which records are events; the others the kernel took back. Raises ValueError when one is not ours."""
    headers, event_bytes = records["header"], records.dtype["event"].itemsize
    mask: npt.NDArray[np.bool_] = headers == event_bytes
    if not mask.all() and not ((headers & ~np.uint32(DISCARDED)) == event_bytes).all():
        raise ValueError(
            "the ring holds records that are not packet events; was it made by another version of ayaflow?"
        )
    return mask

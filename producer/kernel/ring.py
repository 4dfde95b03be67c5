"""The kernel's ring buffer, mapped: whole spans at a time as numpy arrays, no call per event.

Positions are the kernel's own: octets since the ring was made; they never go back. What lies between the
consumer's position and a reader's is not overwritten, so a span stays valid until it is released.

Only the parts that are being read are mapped: all that is mapped counts as our memory, a page at a time or not.
"""

import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

from producer.kernel.abi import BUSY, DISCARDED, RECORD, Records

_SCAN_RECORDS = 16_384  # at a time; they stay in the CPU's cache until they are used
_PART_BYTES = 2 << 20
_PARTS = 2  # mapped at a time: where a batch begins, and up to where records are submitted

Octets = npt.NDArray[np.uint8]


class Ring:
    """A mapped ring of `size` octets of data, of records of one type, each `stride` octets."""

    def __init__(self, fd: int, size: int, record: np.dtype[Any] = RECORD) -> None:
        page = mmap.PAGESIZE
        self.size, self.record, self.stride = size, record, record.itemsize
        self._fd, self._part_bytes = fd, min(size, _PART_BYTES)
        # Behind a part so much of the next one is mapped, too, that a batch lies in one piece. Behind the last one the
        # kernel maps the first again.
        self._mapped_bytes = min(2 * size, self._part_bytes + -(-_SCAN_RECORDS * self.stride // page) * page)
        self._consumer_page = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._producer_page = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._consumer = np.frombuffer(self._consumer_page, "=u8", 1)
        self._producer = np.frombuffer(self._producer_page, "=u8", 1)
        self._submitted = record["event"].itemsize  # header of an event that is not discarded
        self._parts: dict[int, Octets] = {}  # by number, the one that was used last at the end

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
        return np.frombuffer(self._part(number), self.record, count, offset)

    def _part(self, number: int) -> Octets:
        octets = self._parts.pop(number, None)
        if octets is None:
            if len(self._parts) == _PARTS:
                self._parts.pop(next(iter(self._parts)))  # unmapped with the last view of it
            offset = 2 * mmap.PAGESIZE + number * self._part_bytes
            pages = mmap.mmap(self._fd, self._mapped_bytes, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset)
            octets = np.frombuffer(pages, np.uint8)
        self._parts[number] = octets
        return octets


def submitted(records: Records) -> npt.NDArray[np.bool_]:
    """Which records are events; the others the kernel took back. Raises ValueError when one is not ours."""
    headers, event_bytes = records["header"], records.dtype["event"].itemsize
    mask: npt.NDArray[np.bool_] = headers == event_bytes
    if not mask.all() and not ((headers & ~np.uint32(DISCARDED)) == event_bytes).all():
        raise ValueError(
            "the ring holds records that are not packet events; was it made by another version of ayaflow?"
        )
    return mask

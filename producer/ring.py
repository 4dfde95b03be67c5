"""The kernel's ring buffer, mapped: whole spans at a time as numpy arrays, no call per event.

Positions are the kernel's own: octets since the ring was made; they never go back. What lies between the
consumer's position and a reader's is not overwritten, so a span stays valid until it is released.
"""

import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

from producer.event import BUSY, DISCARDED, RECORD, Records

_SCAN_RECORDS = 65_536


class Ring:
    """A mapped ring of `size` octets of data, of records of one type, each `stride` octets."""

    def __init__(self, fd: int, size: int, record: np.dtype[Any] = RECORD) -> None:
        page = mmap.PAGESIZE
        self.size, self.record, self.stride = size, record, record.itemsize
        self._consumer_page = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        # The kernel maps the data twice in a row so that no record is torn. We take one page of the second copy,
        # enough for a torn record: all of it would count twice as our memory.
        self._pages = mmap.mmap(fd, page + size + page, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._consumer = np.frombuffer(self._consumer_page, "=u8", 1)
        self._producer = np.frombuffer(self._pages, "=u8", 1)
        self._data = np.frombuffer(self._pages, "u1", size + page, page)

    def close(self) -> None:
        """Unmap. Spans must not be used any more."""
        del self._consumer, self._producer, self._data
        self._consumer_page.close()
        self._pages.close()

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
        """End of the submitted records from `position` on; at most a few 10,000 of them."""
        end = min(self.producer_position(), position + _SCAN_RECORDS * self.stride)
        while position < end:
            headers = self._records(position, end)["header"]
            busy = np.flatnonzero(headers & BUSY)
            if len(busy):
                return position + int(busy[0]) * self.stride
            position += len(headers) * self.stride
        return position

    def span(self, start: int, end: int) -> Records:
        """The records between two positions, discarded ones too; a view, or a copy where the ring wraps."""
        first = self._records(start, end)
        behind = start + len(first) * self.stride
        return first if behind == end else np.concatenate([first, self._records(behind, end)])

    def _records(self, start: int, end: int) -> Records:
        """Those that lie in one piece."""
        offset = start % self.size
        count = min(end - start, self.size - offset + self.stride - 1) // self.stride
        return np.frombuffer(self._data, self.record, count, offset)


def submitted(records: Records) -> npt.NDArray[np.bool_]:
    """Which records are events; the others the kernel took back. Raises ValueError when one is not ours."""
    headers, event_bytes = records["header"], records.dtype["event"].itemsize
    if not ((headers & ~np.uint32(DISCARDED)) == event_bytes).all():
        raise ValueError(
            "the ring holds records that are not packet events; was it made by another version of ayaflow?"
        )
    mask: npt.NDArray[np.bool_] = headers == event_bytes
    return mask

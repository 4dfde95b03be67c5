"""The windows of one partition that hold something that is not stored, and which of them are due. Pure."""

from collections.abc import Iterator

from streams.partition.storing import Known, WindowId
from streams.windowing.rows import Rows
from streams.windowing.windows import Piece, Window, from_offset

LATE_DELAY = 1.0  # seconds that late packets wait for more of their window; twice as long after each time
LONGEST_LATE_DELAY = 60.0  # the same, of a window that is corrected again and again
MEMORY_BYTES = 128 << 20  # of open windows, from which on the largest are written before they end
UNACKED_MESSAGES = 100_000  # likewise
_REMEMBER_WINDOWS = 4096


class OpenWindows:
    """Those of a partition, with what is known to be stored of them and of the last ones before."""

    def __init__(self) -> None:
        self._windows: dict[WindowId, Window] = {}
        self._known: dict[WindowId, Known] = {}
        self._busy: set[WindowId] = set()
        self._open_since: dict[WindowId, float] = {}  # when the first packet came that is not stored
        self._late_since: dict[WindowId, float] = {}

    def add(self, window_id: WindowId, offset: int, rows: Rows, now: float, watermark: int) -> int:
        """Add what a message has of a window. Returns the packets that are late."""
        known = self._known.get(window_id)
        if known and offset < known.offset_end:
            return 0  # stored already
        self._windows.setdefault(window_id, Window(window_id.start)).add(offset, rows)
        self._open_since.setdefault(window_id, now)
        if known is None and window_id not in self._busy and window_id.end_ns > watermark:
            return 0
        self._late_since.setdefault(window_id, now)
        return int(rows.packets.sum())

    def due(self, now: float, watermark: int, *, position: int, patience: float, other_bytes: int) -> list[WindowId]:
        """Those to be written now, oldest first.

        `watermark`, ns: windows that end before are complete, and so are those that are open for `patience` seconds
        longer than they are long, whatever the clocks say. `other_bytes` count against MEMORY_BYTES, too.
        """
        pressed = self._pressed(position, other_bytes)
        found = []
        for window_id in sorted(self._windows):
            if not self.can_begin(window_id):
                continue
            open_for = now - self._open_since.get(window_id, now)
            complete = window_id.end_ns <= watermark or open_for > window_id.seconds + patience
            late_since = self._late_since.get(window_id)
            waiting = late_since is not None and now - late_since < self._late_delay(window_id)
            if (complete and not waiting) or window_id in pressed:
                found.append(window_id)
        return found

    def _late_delay(self, window_id: WindowId) -> float:
        """Each correction of a window waits longer than the last: there are few, whoever sends what."""
        known = self._known.get(window_id)
        corrections = max(0, known.revision - 1) if known else 0
        return min(LATE_DELAY * (1 << min(corrections, 10)), LONGEST_LATE_DELAY)

    def _pressed(self, position: int, other_bytes: int) -> set[WindowId]:
        """Windows to be written before they end, because memory or un-acknowledged messages run out."""
        excess = self.nbytes + other_bytes - MEMORY_BYTES
        pressed: set[WindowId] = set()
        for window_id in sorted(self._windows, key=lambda w: self._windows[w].nbytes, reverse=True):
            if excess <= 0:
                break
            pressed.add(window_id)
            excess -= self._windows[window_id].nbytes
        for window_id, window in self._windows.items():
            lowest = window.lowest_offset
            if lowest is not None and position - lowest > UNACKED_MESSAGES:
                pressed.add(window_id)
        return pressed

    def can_begin(self, window_id: WindowId) -> bool:
        """Whether it has something, and is not being written."""
        window = self._windows.get(window_id)
        return window is not None and bool(window.pieces) and window_id not in self._busy

    def begin(self, window_id: WindowId) -> tuple[tuple[Piece, ...], Known | None]:
        """All of it, to be written, and what is known to be stored. It is busy until stored() or failed() is called."""
        self._busy.add(window_id)
        self._late_since.pop(window_id, None)
        self._open_since.pop(window_id, None)
        return tuple(self._windows[window_id].pieces), self._known.get(window_id)

    def stored(self, window_id: WindowId, known: Known) -> None:
        """What lies below `known.offset_end` is in the table. Raises StraddlesOffset, see streams.partition.storing."""
        self._busy.discard(window_id)
        self._known[window_id] = known
        old = self._windows.pop(window_id)
        rest = from_offset(tuple(old.pieces), known.offset_end)
        if rest:
            window = self._windows[window_id] = Window(window_id.start)
            for piece in rest:
                window.append(piece)
        for forgotten in list(self._known)[:-_REMEMBER_WINDOWS]:
            if forgotten not in self._windows:
                del self._known[forgotten]

    def failed(self, window_id: WindowId) -> None:
        """It was given up, and is written again later."""
        self._busy.discard(window_id)
        self._open_since[window_id] = float("-inf")

    def compactable(self) -> list[WindowId]:
        """Windows to be compacted."""
        return [w for w, window in self._windows.items() if window.compactable and w not in self._busy]

    def compact(self, window_id: WindowId, *, alone: bool = False) -> None:
        """Group the rows of a window of which is known what is stored. `alone`: nobody else stores any of it."""
        window = self._windows.get(window_id)
        if window and (alone or window_id in self._known) and window_id not in self._busy:
            window.compact()

    def pieces(self) -> Iterator[Piece]:
        """All that is not stored, also of windows that are being written."""
        return (piece for window in self._windows.values() for piece in window)

    @property
    def needed(self) -> list[int]:
        """Offsets that may not be acknowledged yet."""
        return [offset for window in self._windows.values() if (offset := window.lowest_offset) is not None]

    @property
    def nbytes(self) -> int:
        """Memory that they take."""
        return sum(window.nbytes for window in self._windows.values())

    @property
    def oldest(self) -> int | None:
        """Start of the earliest, seconds since the Unix epoch; None: all is stored."""
        return min((window.start for window in tuple(self._windows)), default=None)

    def __iter__(self) -> Iterator[WindowId]:
        """By time."""
        return iter(sorted(self._windows))

    def __len__(self) -> int:
        return len(self._windows)

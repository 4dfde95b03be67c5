"""What a run leaves in the kernel for the one that comes after it, however it ended: a pinned page that both map.

Each number is written by one store, and in such an order that a kill between any two of them leaves something that can
be gone on from (producer/capture/epochs.py says how).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

_EPOCH = np.dtype(
    [("number", "=u8"), ("opened_ns", "=u8"), ("closed_ns", "=u8"), ("end_position", "=u8"), ("coalesced_start", "=u8")]
)
STATE = np.dtype(
    [
        ("ring_id", "=u8"),
        ("open", "=u8"),
        ("closing", "=u8"),
        ("closing_ns", "=u8"),
        ("stored", "=u8"),
        ("kafka_partition", "=i8"),
        ("kafka_offset", "=i8"),
        ("names_partition", "=i8"),
        ("names_offset", "=i8"),
        ("names_position", "=u8"),
        ("names_ns", "=u8"),
        ("idle_start_ns", "=u8"),
        ("idle_end_ns", "=u8"),
        ("idle_told_ns", "=u8"),
        ("epochs", _EPOCH, 2),
    ]
)


def _number(name: str) -> Any:
    def get(self: "RunState") -> int:
        return int(self._words[name][0]) if name in (self._words.dtype.names or ()) else 0

    def put(self: "RunState", value: int) -> None:
        if name in (self._words.dtype.names or ()):  # else another version has made it, which did not know of this
            self._words[name][0] = value

    return property(get, put)


class RunState:
    """The numbers of a run. Times are those of the monotonic clock, in ns."""

    ring_id = _number("ring_id")
    open = _number("open")  # number of the open epoch
    closing = _number("closing")  # the epoch that is being closed, or was last
    closing_ns = _number("closing_ns")
    stored = _number("stored")  # all of this epoch and of those before is safe, and its maps are empty again
    kafka_partition = _number("kafka_partition")  # of the last message that Kafka acknowledged; -1: none yet
    kafka_offset = _number("kafka_offset")
    names_partition = _number("names_partition")  # of the last message of names, likewise
    names_offset = _number("names_offset")
    names_position = _number("names_position")  # all copies before it are safe, in Kafka or on disk
    names_ns = _number("names_ns")  # and names that were waited for up to then, Unix epoch
    _idle_start_ns = _number("idle_start_ns")
    _idle_end_ns = _number("idle_end_ns")
    _idle_told_ns = _number("idle_told_ns")

    def __init__(self, words: npt.NDArray[np.void]) -> None:
        """`words`: shape (1,), of dtype STATE; memory that outlives us, or, in tests, any."""
        self._words = words

    def begin(self, *, ring_id: int, opened_ns: int) -> None:
        """Of a new ring: epoch 1 is open."""
        self._words[:] = np.zeros(1, self._words.dtype)
        self.ring_id, self.kafka_partition, self.kafka_offset = ring_id, -1, -1
        self.names_partition = self.names_offset = -1
        self.note(1, opened_ns=opened_ns, coalesced_start=0)
        self.open = 1

    def note(self, epoch: int, **values: int) -> None:
        """Remember something of an epoch: opened_ns, closed_ns, end_position, coalesced_start."""
        place = self._words["epochs"][0, epoch & 1]
        for name, value in (values | {"number": epoch}).items():
            place[name] = value

    def of(self, epoch: int, name: str) -> int:
        """What was noted of the open epoch, or the one before it."""
        return int(self._words["epochs"][0, epoch & 1][name])

    def was_idle(self, start_ns: int, end_ns: int) -> None:
        """The program counted nothing in this time; with one before it that nobody knows of yet, it is one.

        Of the thread that keeps it counting; what else there is of idle times, of the one that closes epochs.
        """
        if self._idle_end_ns <= self._idle_told_ns:
            self._idle_start_ns = start_ns
        self._idle_end_ns = end_ns

    def idle(self) -> tuple[int, int]:
        """The time in which the program counted nothing, if it is not known elsewhere yet; else 0, 0."""
        end = self._idle_end_ns
        return (self._idle_start_ns, end) if end > self._idle_told_ns else (0, 0)

    def idle_told(self, end_ns: int) -> None:
        """It is known elsewhere up to there."""
        self._idle_told_ns = end_ns

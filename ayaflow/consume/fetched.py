"""Messages as they are fetched, and which of them are next in their partition. Pure."""

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

M = TypeVar("M")


@dataclass(slots=True, eq=False)
class Opened(Generic[M]):
    """A partition that is read."""

    begin: int  # what lies before is only remembered
    position: int  # of the next message
    end: int | None  # of a range
    memory: M
    missing: int = 0  # messages that Kafka no longer had when they were to be read

    @property
    def done(self) -> bool:
        """Whether the range ends here."""
        return self.end is not None and self.position >= self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch(Generic[M]):
    """What was fetched of a partition."""

    opened: Opened[M]
    numbers: npt.NDArray[np.int64]  # of the messages
    begin: int  # offset of the first one that is new
    end: int  # offset behind the last one
    missing: int  # offsets between that were not there any more

    @property
    def new(self) -> bool:
        """Whether any is."""
        return self.end > self.begin


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched(Generic[M]):
    """Messages, in the order of each partition."""

    values: list[bytes]  # empty: a message without one
    offsets: npt.NDArray[np.int64]
    stretches: dict[int, Stretch[M]]  # by partition; a message that is in none came twice from the client

    def is_new(self) -> npt.NDArray[np.bool_]:
        """Which messages are more than remembered."""
        result = np.zeros(len(self.values), np.bool_)
        for stretch in self.stretches.values():
            result[stretch.numbers] = self.offsets[stretch.numbers] >= stretch.begin
        return result


def stretch_of(opened: Opened[M], numbers: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]) -> Stretch[M] | None:
    """What is next of a partition among some of its messages: not what was taken, nor what is behind the end."""
    of = offsets[numbers]
    end = opened.end if opened.end is not None else int(of[-1]) + 1
    numbers = numbers[(of >= opened.position) & (of < end)]
    if not len(numbers):
        return None
    behind, begin = int(offsets[numbers[-1]]) + 1, max(opened.begin, opened.position)
    there = int(np.count_nonzero(offsets[numbers] >= begin))
    missing = opened.missing + max(0, behind - begin) - there
    opened.position, opened.missing = behind, 0
    return Stretch(opened=opened, numbers=numbers, begin=begin, end=behind, missing=missing)

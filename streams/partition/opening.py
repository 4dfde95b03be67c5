"""Whether a partition may be read from a message on, and which messages are lost before it. Pure.

The recovery protocol needs every message from the last acknowledged one on. Kafka says how far the group acknowledged
and what it still holds; when it has forgotten the first, or somebody set it, the flows table knows how far something
was stored. A message that is not the next one of an open partition follows what Kafka removed meanwhile, follows
offsets without a message (marks of transactions, what was compacted), or is read for a second time. Who reads might
also have left messages out: so Kafka is asked whether it has any in between.
"""

from dataclasses import dataclass
from typing import NamedTuple


class Begin(NamedTuple):
    """Where a partition stands in Kafka."""

    committed: int  # the offset that the group acknowledged; -1: none
    oldest: int  # the first offset that is still there
    topic_id: int  # of common.kafka.topic_id
    ours: bool = True  # whether a worker acknowledged it; False: somebody set the group's offset


class Lost(NamedTuple):
    """Messages that Kafka removed before they were acknowledged, or that somebody moved the group over."""

    start: int  # offset of the first
    end: int  # the offset behind the last
    moved: bool = False  # the latter, of some of them at least; they may be in Kafka


@dataclass(frozen=True, slots=True)
class Read:
    """Go on with the message."""

    lost: Lost | None  # before it


@dataclass(frozen=True, slots=True)
class AskTable:
    """The group's offset does not say how far we were: ask the flows table, then `read_after`."""


@dataclass(frozen=True, slots=True)
class Reopen:
    """Forget what is known of the partition and open it at the message."""


def follow(position: int, topic_id: int, offset: int, begin: Begin) -> Read | Reopen:
    """What to do with a message of an open partition whose next offset is another one, `position`."""
    if offset < position or begin.topic_id != topic_id:
        return Reopen()
    return Read(_lost(position, offset, begin))


def open_at(offset: int, begin: Begin) -> Read | AskTable:
    """What to do with the first message of a partition."""
    return Read(_lost(begin.committed, offset, begin)) if begin.ours and begin.committed >= 0 else AskTable()


def unseen(awaited: int, offset: int, begin: Begin) -> int | None:
    """From which offset on a message may have been passed over when `offset` came and `awaited` was to; None: none may.

    Kafka is to be asked for the first message from there on; see `passed_over`.
    """
    expected = max(awaited, begin.oldest)
    return expected if offset > expected else None


def passed_over(partition: int, first: int | None, offset: int) -> str | None:
    """Why reading is to begin again, when Kafka's next message is `first` and `offset` came; None: it need not."""
    if first is None or first >= offset:
        return None
    return f"message {first} of partition {partition} did not come, and {offset} did; start again"


def read_after(stored_until: int, offset: int, begin: Begin) -> Read:
    """Likewise, after the table was asked: it has something up to `stored_until`. 0: nothing, and no loss is known."""
    if begin.committed < 0:
        return Read(_lost(stored_until, offset, begin) if stored_until else None)
    removed, passed = _lost(begin.committed, offset, begin), min(begin.committed, offset)
    if not 0 < stored_until < passed:
        return Read(removed)
    return Read(Lost(stored_until, removed.end if removed else passed, moved=True))


def _lost(start: int, offset: int, begin: Begin) -> Lost | None:
    end = min(begin.oldest, offset)
    return Lost(start, end) if end > start else None

"""What is on its way to Kafka, in the order of the ring. Pure.

The ring may be released up to the first batch that is not wholly acknowledged. A message that Kafka refuses is kept
and given out again, in order, once nothing else is under way; so nothing is lost, and later batches do not overtake.
"""

from collections import deque
from dataclasses import dataclass, field

MAX_MESSAGE_BYTES = 1_000_000  # below a broker's own default (1 MiB), whatever compression makes of it
MAX_UNACKED_BYTES = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One Kafka message."""

    topic: str
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch as messages, and what is safe when they, and all batches before, are."""

    ring_id: int
    ring_end: int  # the ring up to here
    coalesced_end: int  # entries of flow tables with numbers below this one
    epoch: int  # all of it; 0: of none
    packets: int
    messages: tuple[Message, ...]  # the last one says to whom comes after us that the others are there
    names_end: int = 0  # the ring of copies up to here
    names_ns: int = 0  # and names that were waited for up to then, Unix epoch


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """A batch under way."""

    batch: Batch
    sent_ns: int  # monotonic clock
    spooled: bool = False  # it is on disk, hence safe
    names_stored: tuple[int, int] | None = None  # Kafka's partition and offset of its last message of names
    outstanding: int = field(init=False)  # messages that are not acknowledged
    bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.outstanding = len(self.batch.messages)
        self.bytes = sum(len(message.value) for message in self.batch.messages)


@dataclass(slots=True)
class Outbox:
    """Batches that are not acknowledged, oldest first."""

    released: int  # position of the ring: what lies before it is safe, in Kafka or on disk
    epoch: int = 0  # the last of which all is safe
    names: int = 0  # position of the ring of copies, likewise
    names_ns: int = 0
    entries: deque[Entry] = field(default_factory=deque)
    ready: deque[tuple[Entry, Message]] = field(default_factory=deque)  # to be handed to Kafka's client, in order
    refused: deque[tuple[Entry, Message]] = field(default_factory=deque)
    in_flight: int = 0  # messages that the client has
    bytes: int = 0  # of all entries

    def add(self, entry: Entry) -> None:
        """A new batch, at the end."""
        self.entries.append(entry)
        self.ready.extend((entry, message) for message in entry.batch.messages)
        self.bytes += entry.bytes

    def safe(self, batch: Batch) -> None:
        """A batch is safe, and so are all before it. One of those may be reported later: nothing goes back."""
        self.released = max(self.released, batch.ring_end)
        self.epoch = max(self.epoch, batch.epoch)
        self.names, self.names_ns = max(self.names, batch.names_end), max(self.names_ns, batch.names_ns)

    def next(self) -> tuple[Entry, Message] | None:
        """What to hand to the client next; None when there is nothing, or others must be acknowledged or go first."""
        if not self.ready or self.refused:
            return None
        entry, message = self.ready[0]
        return None if message is entry.batch.messages[-1] and entry.outstanding > 1 else (entry, message)

    def handed_over(self) -> None:
        """The client has taken `next`."""
        self.ready.popleft()
        self.in_flight += 1

    def acknowledged(self, entry: Entry) -> list[Entry]:
        """Kafka has stored a message of `entry`. Returns the entries that are done with it, in order."""
        self.in_flight -= 1
        entry.outstanding -= 1
        done = []
        while self.entries and not self.entries[0].outstanding:
            first = self.entries.popleft()
            if not first.spooled:
                self.safe(first.batch)
            self.bytes -= first.bytes
            done.append(first)
        return done

    def refuse(self, entry: Entry, message: Message) -> None:
        """Kafka has not stored a message. Nothing is given out until `retry`."""
        self.in_flight -= 1
        self.refused.append((entry, message))

    def retry(self) -> None:
        """Give out the refused messages again, before all others. Only when nothing is in flight."""
        if self.in_flight:
            raise RuntimeError("retry while messages are in flight would change their order")
        order = {id(entry): place for place, entry in enumerate(self.entries)}
        in_order = sorted(self.refused, key=lambda item: order[id(item[0])])  # of a batch: as they were refused
        self.ready.extendleft(in_order[::-1])
        self.refused.clear()

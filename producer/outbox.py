"""What is on its way to Kafka, in the order of the ring. Pure.

The ring may be released up to the first batch that is not wholly acknowledged. A message that Kafka refuses is kept
and given out again, in order, once nothing else is under way; so nothing is lost, and later batches do not overtake.
"""

from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One Kafka message."""

    topic: str
    value: bytes


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """A batch and its messages."""

    ring_end: int  # the ring may be released up to here when this and all before are acknowledged
    packets: int
    sent_ns: int  # monotonic clock
    outstanding: int  # messages that are not acknowledged
    bytes: int


@dataclass(slots=True)
class Outbox:
    """Batches that are not acknowledged, oldest first."""

    released: int  # position of the ring
    entries: deque[Entry] = field(default_factory=deque)
    ready: deque[tuple[Entry, Message]] = field(default_factory=deque)  # to be handed to Kafka's client, in order
    refused: deque[tuple[Entry, Message]] = field(default_factory=deque)
    in_flight: int = 0  # messages that the client has
    bytes: int = 0  # of all entries

    def add(self, messages: list[Message], *, ring_end: int, packets: int, now_ns: int) -> None:
        """A new batch, at the end."""
        size = sum(len(message.value) for message in messages)
        entry = Entry(ring_end=ring_end, packets=packets, sent_ns=now_ns, outstanding=len(messages), bytes=size)
        self.entries.append(entry)
        self.ready.extend((entry, message) for message in messages)
        self.bytes += size

    def next(self) -> tuple[Entry, Message] | None:
        """What to hand to the client next; None when there is nothing, or refused messages must go first."""
        return self.ready[0] if self.ready and not self.refused else None

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
            self.released = first.ring_end
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
        self.ready.extendleft(sorted(self.refused, key=lambda item: order[id(item[0])], reverse=True))
        self.refused.clear()

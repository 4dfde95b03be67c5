"""How far a run has come on its way to Kafka. Pure."""

from typing import NamedTuple


class Progress(NamedTuple):
    """What the publisher knows of all that it was given; whoever needs to know reads it here.

    One is made at each look at the ring: a frozen dataclass takes three times as long.
    """

    released: int  # position of the ring: what lies before it is safe, in Kafka or on disk
    epoch: int = 0  # the last of which all is safe; 0: none
    names: int = 0  # position of the ring of copies, likewise
    names_ns: int = 0  # names that were waited for up to then are safe, too; Unix epoch
    names_stored: tuple[int, int] | None = (
        None  # Kafka's partition and offset of the last acknowledged message of names
    )
    stored: tuple[int, int] | None = None  # Kafka's partition and offset of the last acknowledged batch
    unacknowledged: int = 0  # batches
    in_flight: int = 0  # messages that Kafka's client has
    held_back: bool = False  # messages that the client does not take now
    oldest_ns: int | None = None  # monotonic: when the oldest unacknowledged batch was sent
    acknowledged_ns: int | None = None  # monotonic: the last acknowledgement
    begun_ns: int = 0  # monotonic: when sending began
    looked_ns: int = 0  # monotonic: when this was true
    waiting_bytes: int = 0  # that Kafka has not acknowledged, under way or on disk
    waiting_since_ns: int | None = None  # monotonic: since when, at least; what an earlier process left: since we began
    spooling: bool = False  # batches go to the disk
    spool_bytes: int = 0  # on disk, and not in Kafka
    error: str | None = None  # why Kafka refused the last message, until one is acknowledged
    disk_error: str | None = None  # why nothing can be put on disk

    @property
    def calm(self) -> bool:
        """Whether Kafka takes what it is given: nothing is to be tried again, or on disk."""
        return not (self.spooling or self.held_back) and self.error is None

    def waiting_ns(self, now_ns: int) -> int:
        """Age of the oldest batch that Kafka has not acknowledged; 0: none."""
        return 0 if self.oldest_ns is None else now_ns - self.oldest_ns

    def silent_ns(self, now_ns: int) -> int:
        """For how long Kafka has acknowledged nothing. A producer sends something with the end of each epoch."""
        return max(0, now_ns - max(self.begun_ns, self.acknowledged_ns or 0))

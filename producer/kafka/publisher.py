"""Hands batches to Kafka: idempotent, acks=all, for ever. Nothing here waits but `poll`.

While Kafka is away for longer than a moment, batches go to the spool on disk, and from there to Kafka, in order. A
batch on disk is safe: the ring is released, and the next epoch may be closed.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException

from common import logs
from common.kafka import NOW, TIMELESS, UNTIMELY
from common.outages import Outages
from producer.clock import Nanoseconds
from producer.kafka.client import PURGED, OpenTransport, explain
from producer.kafka.outbox import MAX_MESSAGE_BYTES, MAX_UNACKED_BYTES, Batch, Entry, Message, Outbox
from producer.kafka.progress import Progress

SPOOL_AFTER_NS = 2_000_000_000  # that the oldest batch waits for Kafka
RETRY_NS = 1_000_000_000

_KAFKA, _DISK = "kafka", "the disk"

log = logs.get("producer")


class Disk(Protocol):
    """What we use of spool.Spool."""

    @property
    def bytes(self) -> int:
        """On disk, and not done."""

    @property
    def empty(self) -> bool:
        """Nothing is left that is not done."""

    def has_room(self, octets: int) -> bool:
        """Whether a batch of this size may be added."""

    def append(self, batch: Batch) -> None:
        """Add a batch. Raises OSError, with nothing added."""

    def read(self) -> Batch | None:
        """The oldest batch that was not read yet."""

    def done(self) -> None:
        """The oldest batch that was read is needed no more."""


class Publisher:
    """Sends batches in order and knows up to where the ring is safe, in Kafka or on disk."""

    def __init__(
        self,
        *,
        node: str,
        position: int,
        open_transport: OpenTransport,
        monotonic: Nanoseconds,
        names_topic: str = "",
        spool: Disk | None = None,
        on_done: Callable[[Entry, int], None] = lambda _entry, _now: None,
    ) -> None:
        """`position`: of the ring, where the first batch begins. `on_done`: called for each acknowledged batch.

        `names_topic`: whose messages go in front of those of packets.
        """
        self._outbox = Outbox(position)
        self._acknowledged_ns: int | None = None
        self._stored: tuple[int, int] | None = None
        self._names_topic = names_topic
        self._names_stored: tuple[int, int] | None = None
        self._partition = -1  # of the ring; -1: the first batch goes by the node's name
        self._timestamp = NOW  # TIMELESS once Kafka found our clock wrong; our own topics go by the broker's anyway
        self._error: str | None = None
        self._disk_error: str | None = None
        self._key = node.encode()
        self._open, self._monotonic, self._on_done = open_transport, monotonic, on_done
        self._transport = open_transport(self._report)
        self._broken = False
        self._retry_at = 0
        self._begun_ns = monotonic()
        self._outages = Outages(log, lambda: monotonic() / 1e9)
        self._spool = spool
        self._spooling = spool is not None and not spool.empty
        self._spooling_since_ns = self._begun_ns
        self._to_spool: deque[tuple[Batch, Entry | None]] = deque()  # in order; with its entry when it is under way
        self.progress = self._progress()
        """How far everything has come, as it was when `poll` returned the last time; any thread may read it."""

    def begin_at(self, position: int, partition: int = -1, names: tuple[int, int] = (0, 0)) -> None:
        """From now on the batches of another ring come, from this position on. All before are safe.

        `names`: position of its ring of copies, and up to when names were waited for, likewise.
        `partition`: where Kafka has the ring's last batch; -1: nowhere yet. A ring stays in its partition, however many
        are added to the topic: else part of an epoch would be in one, the rest and its counters in another.
        """
        self._outbox.released, self._outbox.epoch = position, 0
        self._outbox.names, self._outbox.names_ns = names
        self._begun_ns = self._monotonic()
        self._partition = partition
        self.progress = self._progress()

    def _progress(self) -> Progress:
        outbox, spool = self._outbox, self._spool
        oldest_ns = outbox.entries[0].sent_ns if outbox.entries else None
        spool_bytes = spool.bytes if spool is not None else 0
        return Progress(
            released=outbox.released,
            epoch=outbox.epoch,
            names=outbox.names,
            names_ns=outbox.names_ns,
            names_stored=self._names_stored,
            stored=self._stored,
            unacknowledged=len(outbox.entries),
            in_flight=outbox.in_flight,
            held_back=self._broken or bool(outbox.ready),
            oldest_ns=oldest_ns,
            acknowledged_ns=self._acknowledged_ns,
            begun_ns=self._begun_ns,
            looked_ns=self._monotonic(),
            waiting_bytes=spool_bytes if self._spooling else outbox.bytes,
            waiting_since_ns=self._spooling_since_ns if self._spooling else oldest_ns,
            spooling=self._spooling,
            spool_bytes=spool_bytes,
            error=self._error,
            disk_error=self._disk_error,
        )

    def has_room(self) -> bool:
        """Whether another batch may be sent."""
        if self._spooling:
            return not self._to_spool and self._disk_has_room()
        return not self._outbox.ready and not self._outbox.refused and self._outbox.bytes < MAX_UNACKED_BYTES

    def send(self, batch: Batch) -> None:
        """Take over a batch; it will be acknowledged in its turn."""
        if self._spooling:
            self._to_spool.append((batch, None))
            self._write_spool()
            return
        self._outbox.add(Entry(batch=batch, sent_ns=self._monotonic()))
        self._hand_over()

    def poll(self, seconds: float) -> Progress:
        """Handle what Kafka has answered; wait up to `seconds` for it. Returns how far everything has come."""
        try:
            self._transport.poll(seconds)
        except KafkaException as error:  # a fatal one is raised, and not told to `_report`
            self._report(error.args[0])
        if (self._outbox.refused or self._broken) and not self._outbox.in_flight:
            self._try_again()
        if self._spool is not None:
            self._mind_the_spool(self._spool)
        self._hand_over()
        self.progress = self._progress()
        return self.progress

    def _try_again(self) -> None:
        if self._monotonic() < self._retry_at:
            return
        if self._broken:
            self._transport = self._open(self._report)
            self._broken = False
        self._outbox.retry()

    def _mind_the_spool(self, spool: Disk) -> None:
        if not self._spooling:
            if self._waiting_ns() > SPOOL_AFTER_NS and self._disk_has_room():
                self._begin_spooling()
            return
        self._write_spool()
        while self._outbox.bytes < MAX_UNACKED_BYTES and not self._outbox.refused and (batch := spool.read()):
            self._outbox.add(Entry(batch=batch, sent_ns=self._monotonic(), spooled=True))
        if spool.empty and not self._outbox.entries and not self._to_spool:
            self._spooling = False
            log.info("kafka has all that was on disk")

    def _waiting_ns(self) -> int:
        entries = self._outbox.entries
        return self._monotonic() - entries[0].sent_ns if entries else 0

    def _begin_spooling(self) -> None:
        """Put what is under way on disk, and from now on all else."""
        self._spooling, self._spooling_since_ns = True, self._outbox.entries[0].sent_ns
        log.warning("kafka is away: batches go to disk", error=self._error or "no answer")
        self._to_spool.extend((entry.batch, entry) for entry in self._outbox.entries)
        self._write_spool()

    def _write_spool(self) -> None:
        """Put on disk what is to go there; what the disk does not take waits."""
        assert self._spool is not None
        while self._to_spool:
            batch, entry = self._to_spool[0]
            if entry is None or entry.outstanding:  # else Kafka has it by now
                try:
                    self._spool.append(batch)
                except OSError as error:
                    self._disk_fails(f"{error.strerror}")
                    return
                self._disk_error = None
                self._outages.back(_DISK)
                self._outbox.safe(batch)
                if entry is not None:
                    entry.spooled = True
                    self._spool.read()  # it is under way already
            self._to_spool.popleft()

    def _disk_has_room(self) -> bool:
        if self._spool is None or not self._spool.has_room(2 * MAX_MESSAGE_BYTES):
            self._disk_fails("no room: producer.spool_bytes are used up, or the disk is full")
            return False
        return True

    def _disk_fails(self, why: str) -> None:
        self._disk_error = why
        self._outages.away(
            _DISK, "cannot put batches on disk; they wait in the kernel, and may be lost", severe=True, error=why
        )

    def _hand_over(self) -> None:
        while not self._broken and (item := self._outbox.next()):
            entry, message = item
            try:
                self._transport.produce(
                    message.topic,
                    key=self._key,
                    value=message.value,
                    partition=self._partition if message is entry.batch.messages[-1] else -1,
                    timestamp=self._timestamp,
                    on_delivery=partial(self._delivered, entry, message),
                )
            except BufferError:  # full: `poll` goes on
                return
            except KafkaException as error:
                self._report(error.args[0])
                if self._is_gone(error.args[0]):
                    continue
                self._break()
                return
            self._outbox.handed_over()

    def _delivered(self, entry: Entry, message: Message, error: Any, stored: Any) -> None:
        now = self._monotonic()
        if error is not None:
            self._report(error)
            self._is_gone(error)
            if error.code() in UNTIMELY:
                self._timestamp = TIMELESS
            self._retry_at = now + RETRY_NS
            self._outbox.refuse(entry, message)
            return
        self._outages.back(_KAFKA)
        self._acknowledged_ns, self._error = now, None
        if message is entry.batch.messages[-1]:  # what goes before it is the record encoding
            self._stored = stored.partition(), stored.offset()
            if self._partition < 0:
                self._partition = stored.partition()
        elif message.topic == self._names_topic:
            entry.names_stored = stored.partition(), stored.offset()
        for done in self._outbox.acknowledged(entry):
            self._names_stored = done.names_stored or self._names_stored
            if done.spooled and self._spool is not None:
                self._spool.done()
            self._on_done(done, now)

    def _is_gone(self, error: Any) -> bool:
        """Whether the ring's partition is no longer there; then its batches go by the node's name again."""
        gone = self._partition >= 0 and error.code() == KafkaError._UNKNOWN_PARTITION  # noqa: SLF001  the library's name
        if gone:
            self._partition = -1
        return gone

    def _break(self) -> None:
        """This client cannot go on (a fatal error of the idempotent protocol): a new one will take over."""
        if not self._broken:
            self._broken = True
            self._retry_at = self._monotonic() + RETRY_NS
            self._transport.purge()

    def _report(self, error: Any) -> None:
        """Remember an error, and say it."""
        if error.code() in PURGED:
            return
        if error.fatal():
            self._break()
        # that all brokers are down says less than what they said before
        if self._error is None or error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001  the library's name
            self._error = explain(error)
        self._outages.away(
            _KAFKA,
            "kafka does not take batches; trying again",
            kind=error.name(),
            error=self._error,
            unacked_batches=len(self._outbox.entries),
        )

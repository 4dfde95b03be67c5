"""What the producer counts about itself and what passed."""

from collections.abc import Callable, Collection, Iterable, Mapping

import numpy as np
import numpy.typing as npt
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from producer.kafka.progress import Progress
from schemas.fields import DIRECTIONS
from schemas.names import NAME_KINDS, NAME_STATUSES
from schemas.packets import EpochCounters

_SKIPPED = ("ring_full", "over_budget", "table_full")
_ACK_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class ProducerMetrics:
    """The producer's metrics in one registry."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._packets = Counter(
            "ayaflow_packets", "Packets that passed, as on the wire.", ["interface", "direction"], registry=registry
        )
        self._bytes = Counter(
            "ayaflow_bytes", "Bytes that passed, layer 2 without FCS.", ["interface", "direction"], registry=registry
        )
        self._lines = set[tuple[str, str]]()  # of interfaces and directions
        self._all_packets = Counter(
            "ayaflow_producer_seen_packets", "Packets that passed, of all interfaces together.", registry=registry
        )
        self._all_bytes = Counter(
            "ayaflow_producer_seen_bytes", "Bytes that passed, of all interfaces together.", registry=registry
        )
        self._unwatched = Gauge(
            "ayaflow_producer_unwatched_interfaces",
            "Interfaces, or places of some, that are wanted and not watched, by reason; /health names them.",
            ["reason"],
            registry=registry,
        )
        self._dropped = Counter(
            "ayaflow_producer_dropped_packets",
            "Packets counted but not recorded, by reason.",
            ["reason"],
            registry=registry,
        )
        for reason in ("non_ip", "malformed", "unknown_link", "ring_full"):
            self._dropped.labels(reason)
        self._device_packets = Counter(
            "ayaflow_producer_device_packets",
            "Packets by the device's own counters, which are not ours.",
            ["interface", "direction"],
            registry=registry,
        )
        self._unseen_packets = Counter(
            "ayaflow_producer_unseen_packets",
            "Of the device's packets, those that the hooks did not see; a device keeps some frames to itself.",
            ["interface", "direction"],
            registry=registry,
        )
        self._inspected = Counter(
            "ayaflow_producer_inspected_packets",
            "Packets that may carry a name, with capture.inspect: copied or skipped.",
            registry=registry,
        )
        self._copied = Counter(
            "ayaflow_deep_inspect_packets", "Packets whose payload was copied to be read.", registry=registry
        )
        self._skipped = Counter(
            "ayaflow_producer_skipped_copies",
            "Packets that may carry a name and were not copied, by reason.",
            ["reason"],
            registry=registry,
        )
        for reason in _SKIPPED:
            self._skipped.labels(reason)
        self._resolved = Counter(
            "ayaflow_domains_resolved", "Names that were read of DNS, handshakes and requests.", registry=registry
        )
        self._names = Counter(
            "ayaflow_producer_names",
            "DNS transactions, handshakes and requests that were read, by what became of their names.",
            ["kind", "status"],
            registry=registry,
        )
        self._discarded = Counter(
            "ayaflow_producer_discarded_names",
            "What was waited for no longer because there was too much of it, by what it was.",
            ["reason"],
            registry=registry,
        )
        self._copies_fill = Gauge(
            "ayaflow_producer_copies_fill_ratio", "Part of the ring of copies that is not read.", registry=registry
        )
        self.events = Counter(
            "ayaflow_producer_events", "Events read from the ring buffer and encoded.", registry=registry
        )
        self.message_bytes = Counter(
            "ayaflow_producer_message_bytes",
            "Bytes of encoded messages, before Kafka's compression.",
            registry=registry,
        )
        self.batches = Counter("ayaflow_producer_batches", "Batches acknowledged by Kafka.", registry=registry)
        self._ring_fill = Gauge(
            "ayaflow_producer_ring_fill_ratio",
            "Part of the ring buffer that Kafka has not acknowledged.",
            registry=registry,
        )
        self.coalesced_entries = Counter(
            "ayaflow_producer_coalesced_entries",
            "Sums of a flow's packets read from the kernel's flow table and encoded.",
            registry=registry,
        )
        self._coalesced = Counter(
            "ayaflow_producer_coalesced_packets",
            "Packets that the kernel added up by flow instead of sending an event each.",
            registry=registry,
        )
        self._coalescing = Gauge(
            "ayaflow_producer_coalescing", "1 while the kernel is told to add packets up by flow.", registry=registry
        )
        self._spool_bytes = Gauge(
            "ayaflow_producer_spool_bytes", "Batches on disk that Kafka has not acknowledged.", registry=registry
        )
        self.spool_lost_bytes = Counter(
            "ayaflow_producer_spool_lost_bytes", "Batches on disk that could not be read again.", registry=registry
        )
        self._queue = Gauge(
            "ayaflow_producer_kafka_queue_messages", "Messages that Kafka has not acknowledged.", registry=registry
        )
        self._waiting_bytes = Gauge(
            "ayaflow_producer_waiting_bytes",
            "Bytes that Kafka has not acknowledged, under way or on disk.",
            registry=registry,
        )
        self._waiting_seconds = Gauge(
            "ayaflow_producer_waiting_seconds",
            "Age of the oldest message that Kafka has not acknowledged, under way or on disk; 0: there is none.",
            registry=registry,
        )
        self._silent_seconds = Gauge(
            "ayaflow_producer_silent_seconds",
            "Since Kafka has acknowledged something, or since the start; a producer sends something once a second.",
            registry=registry,
        )
        self.ack_seconds = Histogram(
            "ayaflow_producer_ack_seconds",
            "From encoding a batch to Kafka's acknowledgement.",
            buckets=_ACK_SECONDS,
            registry=registry,
        )

    def show(
        self,
        *,
        ring_fill: Callable[[], float],
        copies_fill: Callable[[], float],
        coalescing: Callable[[], bool],
        progress: Callable[[], Progress],
        monotonic: Callable[[], int],
    ) -> None:
        """What to ask when somebody asks us."""
        self._ring_fill.set_function(ring_fill)
        self._copies_fill.set_function(copies_fill)
        self._coalescing.set_function(coalescing)
        self._spool_bytes.set_function(lambda: progress().spool_bytes)
        self._queue.set_function(lambda: progress().in_flight)
        self._waiting_bytes.set_function(lambda: progress().waiting_bytes)
        self._waiting_seconds.set_function(lambda: _seconds_since(progress().waiting_since_ns, monotonic()))
        self._silent_seconds.set_function(lambda: progress().silent_ns(monotonic()) / 1e9)

    def count(self, counters: Iterable[EpochCounters]) -> None:
        """Add the kernel's counters of a closed epoch."""
        for row in counters:
            if not row.interface:
                continue
            labels = (row.interface, DIRECTIONS[row.direction])
            self._all_packets.inc(row.seen_packets)
            self._all_bytes.inc(row.seen_bytes)
            self._lines.add(labels)
            self._packets.labels(*labels).inc(row.seen_packets)
            self._bytes.labels(*labels).inc(row.seen_bytes)
            self._dropped.labels("non_ip").inc(row.non_ip_packets)
            self._dropped.labels("malformed").inc(row.malformed_packets)
            self._dropped.labels("unknown_link").inc(row.unknown_link_packets)
            self._dropped.labels("ring_full").inc(row.ring_full_packets)
            self._coalesced.inc(row.coalesced_packets)
            self._inspected.inc(row.inspected_packets)
            self._copied.inc(row.copied_packets)
            for reason in _SKIPPED:
                self._skipped.labels(reason).inc(getattr(row, f"skipped_{reason}_packets"))
            if row.device_epochs:
                self._device_packets.labels(*labels).inc(row.device_packets)
                self._unseen_packets.labels(*labels).inc(row.unseen_packets)

    def read_names(self, rows: npt.NDArray[np.void], discarded: Mapping[str, int]) -> None:
        """Names that were read, of names.columns.ROW, and what was discarded meanwhile."""
        statuses = len(NAME_STATUSES)
        codes, counts = np.unique(rows["kind"] * np.int64(statuses) + rows["status"], return_counts=True)
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            kind, status = divmod(code, statuses)
            self._names.labels(NAME_KINDS[kind], NAME_STATUSES[status]).inc(count)
        self._resolved.inc(int((rows["name"] >= 0).sum()))
        for reason, count in discarded.items():
            self._discarded.labels(reason).inc(count)

    def keep(self, interfaces: Collection[str]) -> None:
        """Forget the lines of all but these; what is of all together stays."""
        for labels in [labels for labels in self._lines if labels[0] not in interfaces]:
            for lines in (self._packets, self._bytes, self._device_packets, self._unseen_packets):
                lines.remove(*labels)
            self._lines.discard(labels)

    def unwatched(self, counts: Mapping[str, int]) -> None:
        """Interfaces that are wanted and not watched, by reason."""
        for reason, count in counts.items():
            self._unwatched.labels(reason).set(count)


def _seconds_since(then_ns: int | None, now_ns: int) -> float:
    return 0.0 if then_ns is None else max(0, now_ns - then_ns) / 1e9

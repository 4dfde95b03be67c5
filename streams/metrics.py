"""Prometheus metrics of the streams app. The names are documented in docs/; a test holds both together."""

from dataclasses import dataclass

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

LEDGER_FIGURES = (
    "seen",
    "emitted",
    "coalesced",
    "non_ip",
    "malformed",
    "unknown_link",
    "ring_full",
    "consumed",
    "missing",
    "surplus",
    "unclosed",
)
SKEWS = ("ahead", "behind")
_INSERT_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """All of them; build it with `create`."""

    packets: Counter
    bytes: Counter
    batches: Counter
    rows_stored: Counter
    stored_packets: Counter
    windows_stored: Counter
    corrections: Counter
    insert_seconds: Histogram
    insert_retries: Counter
    late_packets: Counter
    duplicate_packets: Counter
    late_epoch_packets: Counter
    coalesced_packets: Counter
    gaps: Counter
    lost_messages: Counter
    lost_events: Counter
    lost_entries: Counter
    expired_rows: Counter
    dead_letters: Counter
    refused_packets: Counter
    unpublished_flows: Counter
    unpublished_windows: Gauge
    operator_left_out: Counter  # labelled by operator
    ledger_rows: Counter
    ledger_packets: dict[str, Counter]  # by figure
    open_windows: Gauge
    open_window_bytes: Gauge
    watermark_delay_seconds: Gauge
    lag_messages: Gauge
    names_lag_messages: Gauge
    oldest_unstored_seconds: Gauge  # labelled by partition
    troubles: Gauge  # labelled by service
    clock_skew_seconds: Gauge  # labelled by which
    shared_names: Gauge
    active_connections: Gauge
    live_bytes: Gauge
    live_left_out_rows: Gauge
    name_batches: Counter
    names: Counter
    duplicate_names: Counter
    name_rows_stored: Counter
    stored_bytes: Gauge
    stored_bytes_limit: Gauge
    disk_free_bytes: Gauge
    next_drop_seconds: Gauge
    dropped_partitions: Counter  # labelled by table and why
    dropped_rows: Counter  # labelled by table
    refused_name_rows: Counter


def create(registry: CollectorRegistry = REGISTRY) -> Metrics:
    """Register the metrics."""

    def counter(name: str, text: str) -> Counter:
        return Counter(f"ayaflow_streams_{name}", text, registry=registry)

    def gauge(name: str, text: str) -> Gauge:
        return Gauge(f"ayaflow_streams_{name}", text, registry=registry)

    ledger = Counter(
        "ayaflow_streams_ledger_packets",
        "Packets of the epochs that were written to the ledger, by figure: the kernel's counters, what was consumed "
        "of them, what is missing or too much of it, and what was consumed of epochs whose counters never came",
        ["figure"],
        registry=registry,
    )
    troubles = Gauge(
        "ayaflow_streams_troubles",
        "Partitions and windows where the last try to use a service failed; /health names them",
        ["service"],
        registry=registry,
    )
    skew = Gauge(
        "ayaflow_streams_clock_skew_seconds",
        "Seconds that a node's clock is ahead of ours: of the one most ahead, and of the one most behind (or whose "
        "messages waited longest)",
        ["which"],
        registry=registry,
    )
    oldest = Gauge(
        "ayaflow_streams_oldest_unstored_seconds",
        "How long the oldest message that is not stored is in Kafka; of partitions that this worker or nobody reads",
        ["partition"],
        registry=registry,
    )
    return Metrics(
        packets=counter("packets", "Packets taken from Kafka, duplicates left out"),
        bytes=counter("bytes", "Bytes of these packets"),
        batches=counter("batches", "Messages taken from Kafka"),
        rows_stored=counter("rows_stored", "Flow rows stored in ClickHouse"),
        stored_packets=counter("stored_packets", "Packets in these rows"),
        windows_stored=counter("windows_stored", "Inserts of a window"),
        corrections=counter("corrections", "Inserts of packets that came after their window was stored"),
        insert_seconds=Histogram(
            "ayaflow_streams_insert_seconds",
            "Time of one insert, with its read-back",
            buckets=_INSERT_SECONDS,
            registry=registry,
        ),
        insert_retries=counter("insert_retries", "Inserts that failed and were tried again"),
        late_packets=counter(
            "late_packets", "Packets that came after their window was closed; they are stored as corrections"
        ),
        duplicate_packets=counter("duplicate_packets", "Packets that Kafka held twice, dropped by ring position"),
        late_epoch_packets=counter("late_epoch_packets", "Packets that came after their epoch's counters"),
        coalesced_packets=counter(
            "coalesced_packets", "Packets that the kernel had added up by flow; packets has them, too"
        ),
        gaps=counter("gaps", "Times that something of a node's ring was missing between two batches"),
        lost_messages=counter(
            "lost_messages", "Messages that Kafka removed before they were stored, or the group was moved over"
        ),
        lost_events=counter("lost_events", "Events of the nodes' rings that never came, where their number is known"),
        lost_entries=counter("lost_entries", "Coalesced entries that never came"),
        expired_rows=counter(
            "expired_rows", "Rows older than clickhouse.flows_retention_days, which ClickHouse did not keep"
        ),
        dead_letters=counter("dead_letters", "Messages that were set aside in the dead-letter topic"),
        refused_packets=counter(
            "refused_packets",
            "Packets of windows that ClickHouse refused, and that were set aside in the table refused",
        ),
        unpublished_flows=counter(
            "unpublished_flows", "Flow records that the flows topic did not take in time; the table flows has them"
        ),
        unpublished_windows=gauge("unpublished_windows", "Stored windows whose flow records wait for the flows topic"),
        operator_left_out=Counter(
            "ayaflow_streams_operator_left_out_windows",
            "Windows that an operator has not seen: it raised, or took too long",
            ["operator"],
            registry=registry,
        ),
        ledger_rows=counter("ledger_rows", "Ledger rows stored"),
        ledger_packets={figure: ledger.labels(figure) for figure in LEDGER_FIGURES},
        open_windows=gauge("open_windows", "Windows that hold packets that are not stored"),
        open_window_bytes=gauge("open_window_bytes", "Memory of the open windows"),
        watermark_delay_seconds=gauge(
            "watermark_delay_seconds", "Age of the oldest partition's watermark; negative: it is in the future"
        ),
        names_lag_messages=gauge(
            "names_lag_messages",
            "Messages of the names topic that were not taken yet, of all partitions; NaN: not known",
        ),
        lag_messages=gauge(
            "lag_messages",
            "Messages in Kafka that were not taken yet, of partitions that this worker or nobody reads; NaN: not known",
        ),
        oldest_unstored_seconds=oldest,
        troubles=troubles,
        clock_skew_seconds=skew,
        shared_names=gauge("shared_names", "Node names by which several producers call themselves"),
        live_bytes=gauge("live_bytes", "Memory of the live view's rows"),
        live_left_out_rows=gauge(
            "live_left_out_rows", "Rows that the live view left out for want of room, since the start; totals have them"
        ),
        name_batches=counter("name_batches", "Messages taken from the names topic"),
        names=counter("names", "DNS transactions and handshakes in them, duplicates left out"),
        duplicate_names=counter("duplicate_names", "Those that Kafka held twice, dropped by ring position"),
        refused_name_rows=counter(
            "refused_name_rows", "Rows of names that ClickHouse refused, and that were set aside in the table refused"
        ),
        name_rows_stored=counter("name_rows_stored", "Rows stored in the table names"),
        stored_bytes=gauge("stored_bytes", "Bytes that our tables take of ClickHouse's disk; told by one worker"),
        stored_bytes_limit=gauge("stored_bytes_limit", "clickhouse.max_bytes; NaN: no cap"),
        disk_free_bytes=gauge("disk_free_bytes", "Bytes that are free on ClickHouse's disk; told by one worker"),
        next_drop_seconds=gauge(
            "next_drop_seconds",
            "Seconds until the oldest day goes for want of room, at the rate of an hour; NaN: not known, or never",
        ),
        dropped_partitions=Counter(
            "ayaflow_streams_dropped_partitions",
            "Days of a table that went for want of room; why: clickhouse.max_bytes (cap) or reserve_bytes (disk)",
            ["table", "why"],
            registry=registry,
        ),
        dropped_rows=Counter("ayaflow_streams_dropped_rows", "Rows of these days", ["table"], registry=registry),
        active_connections=Gauge("ayaflow_active_connections", "Flows in the open windows", registry=registry),
    )

"""The dashboard of health and loss, asked of Prometheus: each part, and whether a packet is missing. Pure."""

from deploy.grafana.panels import PROMETHEUS, Panel, dashboard, variable

_HERE = 'instance=~"$instance"'
_BAD = ((None, "green"), (1, "red"))


def _rate(metric: str, by: str = "instance") -> str:
    return f"sum by ({by}) (rate({metric}{{{_HERE}}}[$__rate_interval]))"


def _most(metric: str, by: str = "instance") -> str:
    return f"max by ({by}) ({metric}{{{_HERE}}})"


def _quantile(part: float, metric: str, by: str = "instance") -> str:
    return f"histogram_quantile({part}, sum by (le, {by}) (rate({metric}_bucket{{{_HERE}}}[$__rate_interval])))"


def _since(metric: str, labels: str = "") -> str:
    return f"sum(increase({metric}{{{_HERE}{labels}}}[$__range])) or vector(0)"


def _stat(title: str, expression: str, about: str) -> Panel:
    return Panel(
        title=title,
        about=about,
        kind="stat",
        unit="short",
        width=4,
        height=4,
        promql=[expression],
        legends=[""],
        thresholds=_BAD,
    )


def _line(title: str, unit: str, *asked: tuple[str, str], about: str = "") -> Panel:
    expressions, legends = zip(*asked, strict=True)
    return Panel(title=title, about=about, kind="timeseries", unit=unit, promql=expressions, legends=legends)


PANELS = (
    _stat(
        "Packets unexplained",
        _since("ayaflow_streams_ledger_packets_total", ', figure=~"missing|surplus|unclosed"'),
        "Neither stored nor counted as dropped, or counted twice. `ayaflow audit` says where.",
    ),
    _stat(
        "Dropped in the kernel",
        _since("ayaflow_streams_ledger_packets_total", ', figure="ring_full"'),
        "Counted, for want of room in the ring.",
    ),
    _stat(
        "Unseen by the hooks",
        _since("ayaflow_producer_unseen_packets_total"),
        "By the devices' own counters; some frames a device keeps to itself.",
    ),
    _stat("Lost in Kafka", _since("ayaflow_streams_lost_messages_total"), "Messages removed before they were stored."),
    _stat("Set aside", _since("ayaflow_streams_dead_letters_total"), "Messages in the dead-letter topic."),
    _stat("Refused", _since("ayaflow_streams_refused_packets_total"), "Packets that ClickHouse refused."),
    _line("Packets seen", "pps", (_rate("ayaflow_producer_seen_packets_total"), "{{instance}}")),
    _line(
        "Not recorded, by reason",
        "pps",
        (_rate("ayaflow_producer_dropped_packets_total", "instance, reason"), "{{instance}} {{reason}}"),
        (_rate("ayaflow_producer_unseen_packets_total", "instance, interface"), "{{instance}} unseen on {{interface}}"),
    ),
    _line("Ring in use", "percentunit", (_most("ayaflow_producer_ring_fill_ratio"), "{{instance}}")),
    _line(
        "Added up by flow",
        "pps",
        (_rate("ayaflow_producer_coalesced_packets_total"), "{{instance}}"),
        about="Less detail, the same totals.",
    ),
    _line(
        "Kafka's acknowledgements",
        "s",
        (_quantile(0.99, "ayaflow_producer_ack_seconds"), "{{instance}} 99 %"),
        (_most("ayaflow_producer_silent_seconds"), "{{instance}} silent"),
        (_most("ayaflow_producer_waiting_seconds"), "{{instance}} oldest"),
    ),
    _line(
        "Waiting on nodes",
        "decbytes",
        (_most("ayaflow_producer_waiting_bytes"), "{{instance}}"),
        (_most("ayaflow_producer_spool_bytes"), "{{instance}} on disk"),
    ),
    _line(
        "Interfaces not watched",
        "short",
        (_most("ayaflow_producer_unwatched_interfaces", "instance, reason"), "{{instance}} {{reason}}"),
    ),
    _line("Stored", "pps", (_rate("ayaflow_streams_stored_packets_total"), "{{instance}}")),
    _line(
        "Oldest packet that is not stored",
        "s",
        (_most("ayaflow_streams_oldest_unstored_seconds", "instance, partition"), "{{instance}} {{partition}}"),
        (_most("ayaflow_streams_watermark_delay_seconds"), "{{instance}} watermark"),
    ),
    _line("Messages not taken yet", "short", (_most("ayaflow_streams_lag_messages"), "{{instance}}")),
    _line(
        "Inserts",
        "s",
        (_quantile(0.5, "ayaflow_streams_insert_seconds"), "{{instance}} 50 %"),
        (_quantile(0.99, "ayaflow_streams_insert_seconds"), "{{instance}} 99 %"),
    ),
    _line(
        "Troubles",
        "short",
        (_most("ayaflow_streams_troubles", "instance, service"), "{{instance}} {{service}}"),
        (_rate("ayaflow_streams_insert_retries_total"), "{{instance}} retries a second"),
    ),
    _line(
        "Late, twice, corrected",
        "pps",
        (_rate("ayaflow_streams_late_packets_total"), "{{instance}} late"),
        (_rate("ayaflow_streams_duplicate_packets_total"), "{{instance}} twice"),
    ),
    _line("Clocks", "s", (_most("ayaflow_streams_clock_skew_seconds", "instance, which"), "{{instance}} {{which}}")),
    _line("Open windows", "decbytes", (_most("ayaflow_streams_open_window_bytes"), "{{instance}}")),
    _line(
        "The API's answers",
        "s",
        (_quantile(0.95, "ayaflow_console_request_seconds", "route"), "{{route}}"),
        about="95 of 100 are faster.",
    ),
    _line("Requests by status", "reqps", (_rate("ayaflow_console_requests_total", "status"), "{{status}}")),
    _line("Processors", "percentunit", (_rate("process_cpu_seconds_total", "instance"), "{{instance}}")),
    _line("Memory", "decbytes", (_most("process_resident_memory_bytes"), "{{instance}}")),
)
VARIABLES = (variable("instance", "Instance", PROMETHEUS, 'label_values({__name__=~"ayaflow_.+"}, instance)'),)
BOARD = dashboard("ayaflow-health", "ayaflow: health and loss", PANELS, VARIABLES)

"""The dashboard of traffic, asked of ClickHouse: over time, and who sends most. Pure.

Totals are those of `primary` rows. What is over time reads services_1m, which has no addresses; what needs these, or
flags by the moment, reads flows. `$__timeFilter`, `$__timeInterval` and `$__interval_s` are macros
of Grafana's ClickHouse data source, `${node:singlequote}` is the choice of nodes.
"""

from deploy.grafana.panels import CLICKHOUSE, Panel, dashboard, variable

_BYTES, _PACKETS = "sum(flow.bytes + flow.bytes_rev)", "sum(flow.packets + flow.packets_rev)"
_PROTOCOL = (
    "transform(protocol, [1, 2, 6, 17, 47, 50, 58, 89, 132], "
    "['ICMP', 'IGMP', 'TCP', 'UDP', 'GRE', 'ESP', 'ICMPv6', 'OSPF', 'SCTP'], toString(protocol))"
)
_NODES = "primary AND node IN (${node:singlequote})"
_WHERE = f"{_NODES} AND $__timeFilter(time)"
_ADDRESS = "replaceRegexpOne(IPv6NumToString({0}), '^::ffff:', '')"
_SRC, _DST = _ADDRESS.format("src_addr"), _ADDRESS.format("dst_addr")


def _over_time(by: str, what: str) -> str:
    return (
        f"SELECT $__timeInterval(time) AS moment, {by}, {what} / $__interval_s AS rate FROM services_1m AS flow "  # noqa: S608  constants of this file
        f"WHERE {_WHERE} GROUP BY moment, {by.rpartition(' AS ')[2]} ORDER BY moment"
    )


def _total(what: str) -> str:
    return f"SELECT {what} AS total FROM services_1m AS flow WHERE {_WHERE}"  # noqa: S608  constants of this file


def _top(columns: str, by: str) -> str:
    return (
        f"SELECT {columns}, {_BYTES} AS bytes, {_PACKETS} AS packets, sum(records) AS flows FROM services_1m AS flow "  # noqa: S608  constants of this file
        f"WHERE {_WHERE} GROUP BY {by} ORDER BY bytes DESC LIMIT 50"
    )


def _top_of_ends(columns: str, by: str) -> str:
    return (
        f"SELECT {columns}, {_BYTES} AS bytes, {_PACKETS} AS packets, count() AS flows FROM flows AS flow "  # noqa: S608  constants of this file
        f"WHERE {_NODES} AND $__timeFilter(window_begin) GROUP BY {by} ORDER BY bytes DESC LIMIT 50"
    )


PORTS = (
    "WITH busiest AS (SELECT dst_port FROM services_1m AS flow "  # noqa: S608  constants of this file
    f"WHERE {_WHERE} AND protocol IN (6, 17) GROUP BY dst_port ORDER BY {_BYTES} DESC LIMIT 10) "
    "SELECT $__timeInterval(time) AS moment, "
    "if(dst_port IN (SELECT dst_port FROM busiest), toString(dst_port), 'others') AS port, "
    f"{_BYTES} * 8 / $__interval_s AS rate FROM services_1m AS flow WHERE {_WHERE} AND protocol IN (6, 17) "
    "GROUP BY moment, port ORDER BY moment"
)
UNANSWERED = (
    "SELECT $__timeInterval(window_begin) AS moment, countIf(packets_rev = 0) / $__interval_s AS unanswered, "
    "countIf(bitAnd(tcp_flags_rev, 4) != 0) / $__interval_s AS reset FROM flows "
    "WHERE primary AND protocol = 6 AND node IN (${node:singlequote}) AND $__timeFilter(window_begin) "
    "GROUP BY moment ORDER BY moment"
)
LEDGER = (
    "SELECT $__timeInterval(end_time) AS moment, sum(non_ip_packets) / $__interval_s AS not_ip, "
    "sum(malformed_packets) / $__interval_s AS malformed, sum(ring_full_packets) / $__interval_s AS dropped, "
    "sum(unseen_packets) / $__interval_s AS unseen FROM ledger FINAL "
    "WHERE node IN (${node:singlequote}) AND $__timeFilter(end_time) GROUP BY moment ORDER BY moment"
)
PANELS = (
    Panel(title="Bytes", kind="stat", unit="decbytes", width=6, height=4, sql=_total(_BYTES)),
    Panel(title="Packets", kind="stat", unit="short", width=6, height=4, sql=_total(_PACKETS)),
    Panel(title="Flow records", kind="stat", unit="short", width=6, height=4, sql=_total("sum(records)")),
    Panel(title="Nodes", kind="stat", unit="short", width=6, height=4, sql=_total("uniqExact(node)")),
    Panel(title="By node", kind="timeseries", unit="bps", stacked=True, sql=_over_time("node", f"{_BYTES} * 8")),
    Panel(
        title="By protocol",
        kind="timeseries",
        unit="bps",
        stacked=True,
        sql=_over_time(f"{_PROTOCOL} AS name", f"{_BYTES} * 8"),
    ),
    Panel(title="By port of the responder", kind="timeseries", unit="bps", stacked=True, sql=PORTS),
    Panel(title="Packets by node", kind="timeseries", unit="pps", sql=_over_time("node", _PACKETS)),
    Panel(
        title="Busiest connections",
        kind="table",
        unit="none",
        width=24,
        height=10,
        sql=_top_of_ends(
            f"{_SRC} AS source, {_DST} AS destination, dst_port, {_PROTOCOL} AS name",
            "source, destination, dst_port, name",
        ),
    ),
    Panel(title="Initiators", kind="table", unit="none", height=10, sql=_top_of_ends(f"{_SRC} AS source", "source")),
    Panel(
        title="Responders",
        kind="table",
        unit="none",
        height=10,
        sql=_top_of_ends(f"{_DST} AS destination", "destination"),
    ),
    Panel(
        title="Interfaces",
        kind="table",
        unit="none",
        sql=_top("node, interface, direction", "node, interface, direction"),
    ),
    Panel(
        title="TCP without an answer, or reset",
        about="Flow records a second whose responder sent nothing, or a reset: scans, firewalls, what is down.",
        kind="timeseries",
        unit="ops",
        sql=UNANSWERED,
    ),
    Panel(
        title="Counted and not recorded",
        about="By the kernel's own counters. `ayaflow audit` says whether all else is stored.",
        kind="timeseries",
        unit="pps",
        width=24,
        sql=LEDGER,
    ),
)
VARIABLES = (variable("node", "Node", CLICKHOUSE, "SELECT DISTINCT node FROM services_1m ORDER BY node"),)
BOARD = dashboard("ayaflow-traffic", "ayaflow: traffic", PANELS, VARIABLES)

"""Reports: the views with parameters (schemas/clickhouse/0008_views.sql), asked with a range as people write it. Pure.

What becomes part of the text of a query is ours: a name of REPORTS, numbers, and addresses that were parsed.
"""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from common.errors import QueryError
from console.query.errors import nearest
from console.query.times import EARLIEST

_IPV4 = 0xFFFF << 32
_EXAMPLE = "an IP address, such as 10.0.0.7"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One view."""

    doc: str  # a sentence
    order: str  # SQL
    table: str  # that it reads
    seconds: int  # its range is of whole periods of so many
    until: bool = True  # it has an end, too
    since: bool = True
    addr: bool = False  # it is about one address
    network: bool = False  # or about a network


REPORTS = {
    "top_talkers": Report(
        doc="Hosts by what they sent and got.", order="bytes_sent + bytes_got DESC", table="hosts_1h", seconds=3_600
    ),
    "throughput": Report(
        doc="An address or network by the hour.", order="time", table="hosts_1h", seconds=3_600, addr=True, network=True
    ),
    "conversations": Report(
        doc="With whom an address talked, and for which service.",
        order="bytes_sent + bytes_got DESC",
        table="flows_1h",
        seconds=3_600,
        addr=True,
    ),
    "first_seen_of": Report(
        doc="All that an address ever talked with, and since when; the newest first.",
        order="first_seen DESC",
        table="flows_1d",
        seconds=1,
        since=False,
        until=False,
        addr=True,
    ),
    "first_seen_since": Report(
        doc="Conversations that were never there before the range begins, up to now.",
        order="bytes DESC",
        table="flows_1d",
        seconds=1,
        until=False,
    ),
    "scans": Report(
        doc="Sources that tried twenty peers or ports within an hour, or more.",
        order="unanswered DESC, peers DESC",
        table="flows_1h",
        seconds=3_600,
    ),
    "longest_flows": Report(
        doc="Flows by how long they last; reads the raw windows.", order="seconds DESC", table="flows", seconds=1
    ),
    "percentiles": Report(
        doc="Bits per second of an address over its minutes: 50, 90, 95, 99 of a hundred are below.",
        order="1",
        table="flows",
        seconds=60,
        addr=True,
    ),
    "week_before": Report(
        doc="Services, beside the same range a week before.", order="bytes DESC", table="services_1m", seconds=60
    ),
}
"""By the name of the view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question to a view, and the range that its rows are of: whole periods of the view, or all that there is."""

    sql: str
    since: datetime
    until: datetime
    table: str  # that is read


def ask(name: str, *, since: datetime, until: datetime, now: datetime, addr: str | None, limit: int) -> Asked:
    """The rows of a report, at most `limit`. Raises QueryError for what it cannot be asked."""
    report = REPORTS.get(name)
    if report is None:
        raise QueryError(f"there is no report {name!r}{nearest(name, list(REPORTS))}; there are {', '.join(REPORTS)}")
    begin = since if report.since else EARLIEST
    end = until if report.until else max(now, begin + timedelta(seconds=1))
    first = int(begin.timestamp()) // report.seconds * report.seconds
    last = -int(-end.timestamp() // report.seconds) * report.seconds
    given = {"since": f"toDateTime({first}, 'UTC')"} if report.since else {}
    given |= {"until": f"toDateTime({last}, 'UTC')"} if report.until else {}
    given |= _of(name, report, addr)
    parameters = ", ".join(f"{parameter} = {value}" for parameter, value in given.items())
    return Asked(
        sql=f"SELECT * FROM {name}({parameters}) ORDER BY {report.order} LIMIT {limit:d}",  # noqa: S608  see above
        since=datetime.fromtimestamp(first, UTC),
        until=datetime.fromtimestamp(last, UTC),
        table=report.table,
    )


def _of(name: str, report: Report, addr: str | None) -> dict[str, str]:
    """What the view is told of an address."""
    if not report.addr:
        if addr is not None:
            raise QueryError(f"{name} is about all addresses; conversations, throughput and others are about one")
        return {}
    if addr is None:
        raise QueryError(f"{name} is about one address: name it by addr")
    try:
        network = ipaddress.ip_network(addr.strip(), strict=False)
    except ValueError:
        wanted = f"{_EXAMPLE}, or a network, such as 10.0.0.0/8" if report.network else _EXAMPLE
        raise QueryError(f"addr {addr!r} is not {wanted}") from None
    if network.num_addresses > 1 and not report.network:
        raise QueryError(f"{name} is about one address, and {addr} is a network; throughput takes networks")
    value, bits = int(network.network_address), network.prefixlen
    if network.version == 4:
        value, bits = value | _IPV4, bits + 96
    shown = {"addr": f"toIPv6('{ipaddress.IPv6Address(value)}')"}
    return shown | {"prefix": str(bits)} if report.network else shown

"""Reports: the views with parameters (schemas/clickhouse/0008_views.sql), asked with a range as people write it. Pure.

What becomes part of the text of a query is ours: a name of REPORTS, numbers, and addresses that were parsed.
"""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from common.errors import QueryError
from console.query.errors import nearest

_HOUR = timedelta(hours=1)
_IPV4 = 0xFFFF << 32
_EXAMPLE = "an IP address, such as 10.0.0.7"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One view."""

    doc: str  # a sentence
    order: str  # SQL
    until: bool = True  # it has an end, too
    since: bool = True
    addr: bool = False  # it is about one address
    network: bool = False  # or about a network


REPORTS = {
    "top_talkers": Report(doc="Hosts by what they sent and got.", order="bytes_sent + bytes_got DESC"),
    "throughput": Report(doc="An address or network by the hour.", order="time", addr=True, network=True),
    "conversations": Report(
        doc="With whom an address talked, and for which service.", order="bytes_sent + bytes_got DESC", addr=True
    ),
    "first_seen_of": Report(
        doc="All that an address ever talked with, and since when; the newest first.",
        order="first_seen DESC",
        since=False,
        until=False,
        addr=True,
    ),
    "first_seen_since": Report(
        doc="Conversations that were never there before the range begins.", order="bytes DESC", until=False
    ),
    "scans": Report(
        doc="Sources that tried twenty peers or ports within an hour, or more.", order="unanswered DESC, peers DESC"
    ),
    "longest_flows": Report(doc="Flows by how long they last; reads the raw windows.", order="seconds DESC"),
    "percentiles": Report(
        doc="Bits per second of an address over its minutes: 50, 90, 95, 99 of a hundred are below.",
        order="1",
        addr=True,
    ),
    "week_before": Report(doc="Services, beside the same range a week before.", order="bytes DESC"),
}
"""By the name of the view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question to a view. The range begins at a whole hour, since most views know hours alone."""

    sql: str
    since: datetime
    until: datetime


def ask(name: str, *, since: datetime, until: datetime, addr: str | None, limit: int) -> Asked:
    """The rows of a report, at most `limit`. Raises QueryError for what it cannot be asked."""
    report = REPORTS.get(name)
    if report is None:
        raise QueryError(f"there is no report {name!r}{nearest(name, list(REPORTS))}; there are {', '.join(REPORTS)}")
    first = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    last = -int(-until.timestamp() // 1)
    given = {"since": f"toDateTime({int(first.timestamp())}, 'UTC')"} if report.since else {}
    given |= {"until": f"toDateTime({last}, 'UTC')"} if report.until else {}
    given |= _of(name, report, addr)
    parameters = ", ".join(f"{parameter} = {value}" for parameter, value in given.items())
    return Asked(
        sql=f"SELECT * FROM {name}({parameters}) ORDER BY {report.order} LIMIT {limit:d}",  # noqa: S608  see above
        since=first,
        until=until,
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

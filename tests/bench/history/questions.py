"""What is asked of the tables: the Explore page's questions as the console asks them, views, rare and busy hosts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from console.query import explore_sql, flow_sql
from console.query.explore_sql import Question
from console.query.filter_sql import Parameters
from console.query.filters import parse

PATH = "src_addr,protocol,dst_port,dst_addr"
"""The Explore page's third question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question."""

    what: str
    sql: str
    parameters: Parameters
    at_most: float | None = None  # milliseconds, warm


def questions(end: datetime, days: int, rare: str, busy: str) -> Iterator[Asked]:
    """`end` is where the data ends, `days` how many there are; two addresses."""
    for span, hours, at_most in (("24 h", 24, 400), (f"{days} d", days * 24, 1500)):
        since = end - timedelta(hours=hours)
        yield from _explore(span, since, end, at_most)
        times = {"since": _text(since), "until": _text(end)}
        yield _view(f"top_talkers, {span}", "top_talkers", times, "bytes_sent DESC", at_most)
        yield _view(f"week_before, {span}", "week_before", times, "bytes DESC", None)
    times = {"since": _text(end - timedelta(days=days)), "until": _text(end)}
    for name, address in (("rare", rare), ("busy", busy)):
        of_host = times | {"addr": address}
        yield _view(f"{name} host's hours, {days} d", "throughput", of_host | {"prefix": "128"}, "time", 100)
        yield _view(f"{name} host's conversations, {days} d", "conversations", of_host, "bytes_sent DESC", None)
        yield _view(f"{name} host, first seen", "first_seen_of", {"addr": address}, "bytes DESC", 200)
        yield _view(f"{name} host's percentiles, {days} d", "percentiles", of_host, "1", None)
        raw = flow_sql.flows(
            parse(f"addr = {address}"), since=end - timedelta(days=days), until=end, sort="time", limit=100
        )
        yield Asked(
            what=f"{name} host's raw windows, newest 100 of {days} d",
            sql=raw[0],
            parameters=raw[1],
            at_most=300 if name == "rare" else None,
        )
    network = times | {"addr": "::ffff:198.51.100.0", "prefix": "120"}
    yield _view(f"a /24's hours, {days} d", "throughput", network, "time", 100)
    day = {"since": _text(end - timedelta(hours=24)), "until": _text(end)}
    yield _view("new conversations of the last day", "first_seen_since", {"since": day["since"]}, "bytes DESC", None)
    yield _view("scans, 24 h", "scans", day, "peers DESC", None)
    yield _view("longest_flows, 24 h", "longest_flows", day, "seconds DESC", None)
    for sort, what in (("time", "newest"), ("bytes", "largest")):
        raw = flow_sql.flows(parse(""), since=end - timedelta(hours=24), until=end, sort=sort, limit=1000)
        yield Asked(what=f"flows, {what} 1000 of 24 h", sql=raw[0], parameters=raw[1])


def _explore(span: str, since: datetime, until: datetime, at_most: float) -> Iterator[Asked]:
    for by in ("protocol", "dst_port", "src_addr", "addr", PATH):
        question = Question(
            by=explore_sql.dimensions(by), flow_filter=parse(""), since=since, until=until, oldest_raw=None
        )
        sql, parameters = explore_sql.top(question, sort="bytes", limit=40)
        yield Asked(what=f"Explore, {span}: top by {by}", sql=sql, parameters=parameters, at_most=at_most)
    question = Question(by=(), flow_filter=parse(""), since=since, until=until, oldest_raw=None)
    step = explore_sql.step_for(since, until, 200, 10)
    sql, parameters = explore_sql.series(question, [], measure="bytes", step=step)
    yield Asked(what=f"Explore, {span}: series", sql=sql, parameters=parameters, at_most=at_most)


def _view(what: str, view: str, parameters: Mapping[str, str], order: str, at_most: float | None) -> Asked:
    given = ", ".join(
        f"{name} = '{value}'" if name != "prefix" else f"{name} = {value}" for name, value in parameters.items()
    )
    return Asked(
        what=what, sql=f"SELECT * FROM {view}({given}) ORDER BY {order} LIMIT 40", parameters={}, at_most=at_most
    )


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")

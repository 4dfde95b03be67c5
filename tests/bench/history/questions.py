"""What is asked of the tables: the Explore page's questions as the console asks them, views, rare and busy hosts."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from console.query import explore_sql, flow_sql, largest
from console.query.explore_sql import Question
from console.query.filter_sql import Parameters
from console.query.filters import parse
from console.query.largest import Steps

PATH = "src_addr,protocol,dst_port,dst_addr"
"""The Explore page's third question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question."""

    what: str
    steps: Callable[[], Steps]  # begins to ask it: see console.query.largest
    at_most: float | None = None  # milliseconds, warm


def questions(end: datetime, days: int, rare: str, busy: str) -> Iterator[Asked]:
    """`end` is the end of what is asked for, `days` how many days of data there are before it; two addresses."""
    for span, hours, at_most in (("24 h", 24, 400), ("all days", days * 24, 1500)):
        since = end - timedelta(hours=hours)
        yield from _explore(span, since, end, at_most)
        times = {"since": _text(since), "until": _text(end)}
        yield _view(f"top_talkers, {span}", "top_talkers", times, "bytes_sent DESC", at_most)
        yield _view(f"week_before, {span}", "week_before", times, "bytes DESC", None)
    times = {"since": _text(end - timedelta(days=days)), "until": _text(end)}
    for name, address in (("rare", rare), ("busy", busy)):
        of_host = times | {"addr": address}
        yield _view(f"{name} host's hours, all days", "throughput", of_host | {"prefix": "128"}, "time", 100)
        yield _view(f"{name} host's conversations, all days", "conversations", of_host, "bytes_sent DESC", None)
        yield _view(f"{name} host, first seen", "first_seen_of", {"addr": address}, "bytes DESC", 200)
        yield _view(f"{name} host's percentiles, all days", "percentiles", of_host, "1", None)
        yield _flows(
            f"{name} host's raw windows, newest 100 of all days",
            f"addr = {address}",
            since=end - timedelta(days=days),
            until=end,
            sort="time",
            limit=100,
            at_most=300 if name == "rare" else None,
        )
    network = times | {"addr": "::ffff:198.51.100.0", "prefix": "120"}
    yield _view("a /24's hours, all days", "throughput", network, "time", 100)
    day = {"since": _text(end - timedelta(hours=24)), "until": _text(end)}
    yield _view("new conversations of the last day", "first_seen_since", {"since": day["since"]}, "bytes DESC", None)
    yield _view("scans, 24 h", "scans", day, "peers DESC", None)
    yield _view("longest_flows, 24 h", "longest_flows", day, "seconds DESC", None)
    for sort, what in (("time", "newest"), ("bytes", "largest")):
        since = end - timedelta(hours=24)
        yield _flows(f"flows, {what} 1000 of 24 h", "", since=since, until=end, sort=sort, limit=1000)


def _explore(span: str, since: datetime, until: datetime, at_most: float) -> Iterator[Asked]:
    for by in ("protocol", "dst_port", "src_addr", "addr", PATH):
        question = Question(
            by=explore_sql.dimensions(by), flow_filter=parse(""), since=since, until=until, oldest_raw=None
        )
        yield Asked(
            what=f"Explore, {span}: top by {by}",
            steps=partial(largest.top, question, sort="bytes", limit=40),
            at_most=at_most,
        )
    question = Question(by=(), flow_filter=parse(""), since=since, until=until, oldest_raw=None)
    sql, parameters = explore_sql.series(question, [], measure="bytes", step=question.step(200, 10))
    yield _one(f"Explore, {span}: series", sql, parameters, at_most)


def _flows(
    what: str, text: str, *, since: datetime, until: datetime, sort: str, limit: int, at_most: float | None = None
) -> Asked:
    def steps() -> Steps:
        sql, parameters = yield from flow_sql.few(parse(text), since=since, until=until, sort=sort, limit=limit)
        rows = yield sql, parameters
        return rows, {}

    return Asked(what=what, steps=steps, at_most=at_most)


def _view(what: str, view: str, parameters: Mapping[str, str], order: str, at_most: float | None) -> Asked:
    given = ", ".join(
        f"{name} = '{value}'" if name != "prefix" else f"{name} = {value}" for name, value in parameters.items()
    )
    return _one(what, f"SELECT * FROM {view}({given}) ORDER BY {order} LIMIT 40", {}, at_most)


def _one(what: str, sql: str, parameters: Parameters, at_most: float | None) -> Asked:
    def steps() -> Steps:
        rows = yield sql, parameters
        return rows, {}

    return Asked(what=what, steps=steps, at_most=at_most)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")

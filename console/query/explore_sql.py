"""Top-N and time series over any dimension, from the smallest tables that are exact. Pure text and parameters."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from common.errors import QueryError
from console.query import flow_sql
from console.query.errors import nearest
from console.query.filter_sql import Parameters, SqlFilter
from console.query.filters import Filter
from console.query.plan import Plan, Segment, Tables, plan, tables
from console.query.vocabulary import ALIASES, FIELDS

PAIR = "pair"
DOMAIN = "domain"
NAMED = "named_bytes"
"""Of a total by DOMAIN: bytes of flows that have one, both directions together."""
ALL = "all_bytes"
"""Of rows of a series by DOMAIN, beside NAMED: bytes of all flows."""
DIMENSIONS = (*(name for name, field in FIELDS.items() if field.dimension), PAIR)
"""What `by` can name: fields that are no numbers of a flow, and both addresses whatever the direction."""
MEASURES = ("packets", "bytes", "packets_rev", "bytes_rev", "records")
SIZES = {"bytes": ("bytes", "bytes_rev"), "packets": ("packets", "packets_rev"), "flows": ("records",)}
"""By what groups are sorted: measures that are added up."""
MOST_DIMENSIONS = 6
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 604_800)
_ENDS = ("src_addr", "dst_addr", "addr")
_SIDES = "_side"  # 1: measures and `addr` are seen from dst


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of a time range."""

    by: tuple[str, ...]  # names of DIMENSIONS
    flow_filter: Filter
    since: datetime
    until: datetime
    oldest_raw: datetime | None  # see segments.plan

    @property
    def raw(self) -> bool:
        """Whether it needs what only the raw windows have."""
        names = {*self.by, *self.flow_filter.fields()}
        return any(FIELDS[name].raw for name in names if name in FIELDS)

    @property
    def columns(self) -> set[str]:
        """The columns of flows that it is about."""
        asked = {name for name in self.by if name != PAIR} | {*self.flow_filter.fields()}
        pair = {"src_addr", "dst_addr"} if PAIR in self.by else set()
        return pair | {column for name in asked for column in FIELDS[name].columns}

    @property
    def one_end(self) -> bool:
        """Whether it is about flows at one end, or at each of their ends, and asks nothing about the other end."""
        if PAIR in self.by:
            return False
        ends = [name for name in self.by if name in _ENDS]
        conditions = [name for name in self.flow_filter.fields() if name in _ENDS]
        if not conditions:
            return len(ends) == 1
        if conditions == ["addr"]:  # of one address: its flows are there once; of several, once for each
            return not ends and self.flow_filter.one_value("addr")
        return len({*conditions, *ends}) == 1

    def plan(self, step: int = 0, columns: Sequence[str] = ()) -> Plan:
        """The tables to read. `columns`: what else is asked of each row."""
        return plan(self.since, self.until, self._tables(columns), step=step, oldest_raw=self.oldest_raw)

    def step(self, points: int, window_seconds: int) -> int:
        """Of step_for. Where the raw windows are gone it is one that the rollups have."""
        finest = min(filter(None, self._tables()), default=0)
        gone = self.oldest_raw is not None and self.since < self.oldest_raw
        return step_for(self.since, self.until, points, max(window_seconds, finest) if gone else window_seconds)

    def _tables(self, columns: Sequence[str] = ()) -> Tables:
        more = self.columns | {*columns}
        return tables(more, raw=self.raw, one_end=self.one_end and self.columns == more)


def dimensions(text: str) -> tuple[str, ...]:
    """`src_addr,dst_port` -> names. Raises QueryError that names the nearest."""
    names = [ALIASES.get(name, name) for part in text.split(",") if (name := part.strip().lower())]
    for name in names:
        if name not in DIMENSIONS:
            raise QueryError(f"by: {name!r} is not a dimension{nearest(name, list(DIMENSIONS))}")
    if len(set(names)) != len(names) or len(names) > MOST_DIMENSIONS:
        raise QueryError(f"by: name each dimension once, {MOST_DIMENSIONS} at most")
    if PAIR in names and any(FIELDS[name].either for name in names if name != PAIR):
        raise QueryError("by: pair is both sides already; leave addr and port out")
    return tuple(names)


def top(question: Question, *, sort: str, limit: int, buckets: Sequence[int] | None = None) -> tuple[str, Parameters]:
    """The largest groups; in each row `total_*` are the sums over all groups, each flow counted once.

    By DOMAIN, NAMED is one of them. `buckets`: only groups, and totals, of these.
    Not WITH TOTALS: the embedded ClickHouse writes broken JSON for it when nothing is found.
    """
    groups = {name: _dimension(name) for name in question.by} or {"everything": "1"}
    if buckets is None:
        return _sums(question, groups, sort=sort, limit=limit)
    chosen = ", ".join(f"{bucket:d}" for bucket in buckets)
    return _sums(question, groups, sort=sort, limit=limit, where=f"{_bucket(question)} IN ({chosen})")


def heavy(question: Question, *, sort: str, limit: int) -> tuple[str, Parameters]:
    """The largest of the 65,536 `bucket`s that groups fall into by a hash of their ends, with the `size` of each.

    It reads no more than the ends and what is sorted by: of a month, reading is most of what it costs.
    """
    source, parameters = _source(question, question.plan())
    size = " + ".join(f"u.{name}" for name in SIZES[sort])
    sql = f"""
SELECT {_bucket(question)} AS bucket, sum({size}) AS size
FROM ({source}) AS u
GROUP BY bucket
ORDER BY size DESC, bucket
LIMIT {{limit:UInt64}}""".strip()  # noqa: S608  only names of ours; values are parameters
    return sql, {**parameters, "limit": limit}


def totals(question: Question) -> tuple[str, Parameters]:
    """The `total_*` of `top` alone, from the smallest table that has them; of a PAIR as the lower address sees them."""
    by = tuple(name for name in question.by if name in {DOMAIN, PAIR, *flow_sql.PASSAGE})
    return _sums(replace(question, by=by), {"everything": "1"}, sort="bytes", limit=1)


def _bucket(question: Question) -> str:
    ends = [_dimension(name) for name in question.by if name in {PAIR, *_ENDS}]
    return f"toUInt16(xxHash64({', '.join(ends)}))"


def _sums(
    question: Question, groups: dict[str, str], *, sort: str, limit: int, where: str = "1"
) -> tuple[str, Parameters]:
    """See top. `groups`: the SQL of each column that is grouped by."""
    source, parameters = _source(question, question.plan())
    either = _sides(question.by) == "arrayJoin"
    sums = {name: f"sum({_seen(name, question.by)})" for name in MEASURES}
    once = {name: f"sumIf(u.{name}, u.{_SIDES} = 0)" if either else sums[name] for name in MEASURES}
    once |= {name: text for name, text in _share(question).items() if name == NAMED}
    totals = ", ".join(f"sum({text}) OVER () AS total_{name}" for name, text in once.items())
    names = ", ".join(groups)
    shown = ", ".join(f"{text} AS {name}" for name, text in (groups | sums).items())
    sql = f"""
SELECT {shown}, {totals}
FROM ({source}) AS u
WHERE {where}
GROUP BY {names}
ORDER BY {" + ".join(SIZES[sort])} DESC, {names}
LIMIT {{limit:UInt64}}""".strip()  # noqa: S608  only names of ours; values are parameters
    return sql, {**parameters, "limit": limit}


def series(
    question: Question, named: Sequence[Mapping[str, Any]], *, measure: str, step: int
) -> tuple[str, Parameters]:
    """Sums of both directions by `time` (seconds, start of a step) and `series`: an index into `named`, -1: others.

    By DOMAIN each row has the bytes of its flows, too, and NAMED of them, each flow counted once.

    `named`: groups as `top` gave them, values as ClickHouse has them.
    """
    source, parameters = _source(question, question.plan(step), step=step)
    cases = []
    for number, group in enumerate(named):
        tests = []
        for name in question.by:
            values = group[name] if name == PAIR else [group[name]]
            columns = _pair() if name == PAIR else [_dimension(name)]
            for column, value in zip(columns, values, strict=True):
                key = f"g{len(parameters)}"
                parameters[key] = int(value) if isinstance(value, bool) else value
                kind = "IPv6" if name == PAIR else FIELDS[name].sql_type
                tests.append(f"{column} = {{{key}:{kind}}}")
        cases.append(f"{' AND '.join(tests)}, {number}")
    index = f"multiIf({', '.join(cases)}, -1)" if cases else "-1"
    more = "".join(f", {text} AS {name}" for name, text in _share(question).items())
    sql = f"""
SELECT u.time AS time, {index} AS series, sum(u.{measure} + u.{measure}_rev) AS value{more}
FROM ({source}) AS u
GROUP BY time, series
ORDER BY time, series""".strip()  # noqa: S608
    return sql, parameters


def source(question: Question, columns: Sequence[str]) -> tuple[str, Parameters]:
    """The rows that the question is answered from, with these columns, MEASURES in both directions and records."""
    return _source(question, question.plan(columns=columns), columns=columns)


def sums() -> str:
    """SQL of the sums of MEASURES over `source(…) AS u`."""
    return ", ".join(f"sum(u.{name}) AS {name}" for name in MEASURES)


def longest_window(since: datetime, until: datetime) -> tuple[str, Parameters]:
    """One row, `seconds`: of the longest window in a range. Windows were of another length before, or made anew."""
    sql = f"SELECT max(f.window_seconds) AS seconds FROM flows AS f WHERE {_span('window_begin', 0)}"  # noqa: S608  constants
    return sql, {"first0": int(since.timestamp()), "last0": -int(-until.timestamp() // 1)}


def step_for(since: datetime, until: datetime, points: int, window_seconds: int) -> int:
    """Seconds of a step, so that there are about `points`, or just one; not shorter than a window."""
    wanted = max((until - since).total_seconds() / points, window_seconds, 1)
    first, last = int(since.timestamp()), -int(-until.timestamp() // 1) - 1
    days = itertools.count(-(-int(wanted) // 86_400))
    for step in itertools.chain((one for one in _STEPS if one >= wanted), (each * 86_400 for each in days)):
        whole = -(-step // window_seconds) * window_seconds
        if points > 1 or first // whole == last // whole:
            return whole
    raise AssertionError("days do not end")


def _sides(by: Sequence[str]) -> str:
    """How sides are told apart: each flow at both, sorted, or not at all."""
    if any(name in FIELDS and FIELDS[name].either for name in by):
        return "arrayJoin"
    return "sorted" if PAIR in by else ""


def _source(question: Question, tables: Plan, *, step: int = 0, columns: Sequence[str] = ()) -> tuple[str, Parameters]:
    """Rows of all segments, with the columns that the question needs, `time` (of the step) and the side."""
    needed = {*columns} | {
        column
        for name in question.by
        for column in (("src_addr", "dst_addr") if name == PAIR else FIELDS[name].columns)
    }
    condition = flow_sql.condition(question.flow_filter, question.by)
    parts: list[str] = []
    parameters: Parameters = dict(condition.parameters)
    for number, segment in enumerate(tables.segments):
        parameters[f"first{number}"], parameters[f"last{number}"] = segment.first, segment.last
        if segment.table == "hosts_1h":
            parts.append(_hosts(segment, number, sorted(needed), question, step=step))
        else:
            rows = _rows(segment, number, sorted(needed), condition, step=step)
            parts.append(_both_sides(rows, question.by))
    return "\nUNION ALL\n".join(parts), parameters


def _both_sides(rows: str, by: Sequence[str]) -> str:
    """Rows of flows with their side, where sides are told apart: see _sides."""
    side = _sides(by)
    if side == "sorted":
        return f"SELECT *, src_addr > dst_addr AS {_SIDES} FROM ({rows})"  # noqa: S608
    if side:
        pairs = [FIELDS[name].columns for name in by if FIELDS[name].either]
        same = " AND ".join(f"{one} = {two}" for one, two in pairs)
        return f"SELECT *, arrayJoin(if({same}, [0], [0, 1])) AS {_SIDES} FROM ({rows})"  # noqa: S608
    return rows


def _hosts(segment: Segment, number: int, columns: Sequence[str], question: Question, *, step: int) -> str:
    """The like of _rows from hosts_1h: the address stands at either end, and flows are there at the ends asked for."""
    names = {"src_addr": "f.addr", "dst_addr": "f.addr"}
    condition = flow_sql.condition(question.flow_filter, question.by, names)
    either = _sides(question.by) == "arrayJoin"
    asked = {*question.by, *question.flow_filter.fields()} & {*_ENDS}
    other = "" if either or "addr" in asked else "responder" if "src_addr" in asked else "initiator"
    sums = {
        name: f"if(f.role = 'responder', f.{_other_way(name)}, f.{name})" if other != "responder" else f"f.{name}"
        for name in MEASURES[:4]
    }
    shown = [f"{names.get(name, f'f.{name}')} AS {name}" for name in columns]
    shown += [f"{text} AS {name}" for name, text in sums.items()]
    if step:
        shown.append(f"intDiv(toUnixTimestamp(f.time), {step:d}) * {step:d} AS time")
    shown.append("f.records AS records")
    if either:
        shown.append(f"toUInt8(f.role = 'responder') AS {_SIDES}")
    where = f"{_span('time', number)} AND {condition.keys}" + (f" AND f.role != '{other}'" if other else "")
    return f"SELECT {', '.join(shown)} FROM {segment.table} AS f WHERE {where}"  # noqa: S608


def _span(time: str, number: int) -> str:
    return (
        f"f.{time} >= toDateTime({{first{number}:UInt32}}, 'UTC')"
        f" AND f.{time} < toDateTime({{last{number}:UInt32}}, 'UTC')"
    )


def _rows(segment: Segment, number: int, columns: Sequence[str], condition: SqlFilter, *, step: int) -> str:
    time = "window_begin" if segment.table == "flows" else "time"
    where = f"{_span(time, number)} AND {condition.keys}"
    names: dict[str, str]
    if condition.measures != "1" or any(FIELDS[name].measure for name in columns):
        source, prefix = f"({flow_sql.merged(where, condition.measures)}) AS f", ""
        records = "f.records"
        names = {"community_id": flow_sql.community_id()}
    else:
        source, prefix = f"{segment.table} AS f", f"WHERE {where}"
        records = "toUInt64(1)" if segment.table == "flows" else "f.records"
        names = {}
    shown = [f"{names.get(name, f'f.{name}')} AS {name}" for name in (*columns, *MEASURES[:4])]
    if step:
        shown.append(f"intDiv(toUnixTimestamp(f.{time}), {step:d}) * {step:d} AS time")
    shown.append(f"{records} AS records")
    return f"SELECT {', '.join(shown)} FROM {source} {prefix}"  # noqa: S608


def _share(question: Question) -> dict[str, str]:
    """Sums by which the share of names is known where it is asked by DOMAIN; a flow at both of its ends counts once."""
    if DOMAIN not in question.by:
        return {}
    once = f"u.{_SIDES} = 0" if _sides(question.by) == "arrayJoin" else "1"
    both = "u.bytes + u.bytes_rev"
    return {ALL: f"sumIf({both}, {once})", NAMED: f"sumIf({both}, u.{DOMAIN} != '' AND {once})"}


def _dimension(name: str) -> str:
    if name == PAIR:
        return f"tuple({', '.join(_pair())})"
    field = FIELDS[name]
    if field.either:
        return f"if(u.{_SIDES} = 1, u.{field.columns[1]}, u.{field.columns[0]})"
    return f"u.{name}"


def _pair() -> list[str]:
    return ["least(u.src_addr, u.dst_addr)", "greatest(u.src_addr, u.dst_addr)"]


def _seen(measure: str, by: Sequence[str]) -> str:
    """A measure as the chosen side sees it: what it sent, and `_rev` what it got."""
    if not _sides(by) or measure == "records":
        return f"u.{measure}"
    return f"if(u.{_SIDES} = 1, u.{_other_way(measure)}, u.{measure})"


def _other_way(measure: str) -> str:
    return measure.removesuffix("_rev") if measure.endswith("_rev") else f"{measure}_rev"

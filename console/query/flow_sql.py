"""The questions about flows, one row a flow and window, revisions added up. Pure text and parameters.

Most of what is asked for is few flows: the newest of many, or all of somebody who is rare. `few` asks for the newest
rows first, a few more than are wanted, of which it reads few columns. If there are no more of them, or if they are
surely of enough flows, the second question is for the hours alone in which they lie, and brings revisions together
there. Else all of the range is asked for.
"""

from collections.abc import Collection, Generator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from console.query.filter_sql import Parameters, SqlFilter, compile_filter
from console.query.filters import Filter
from schemas.clickhouse.ddl import community_id_sql
from schemas.fields import DOMAIN_RANKS, FIELDS, MEASURES, NAMED, SUMS, Kind, Merge, Role

SORTS = ("time", "bytes", "packets")
_FIRST = ("window_begin", "node", "protocol", "dst_port", "dst_addr", "src_addr", "src_port")
_ROLES = (Role.KEY, Role.WINDOW)
_PARAMETERS = {Kind.NAME: "String", Kind.CHOICE: "String", Kind.TIME: "UInt32"}
KEYS = {
    field.name: _PARAMETERS.get(field.kind, field.type.clickhouse)
    for field in sorted(
        (field for field in FIELDS if field.role in _ROLES),
        key=lambda field: _FIRST.index(field.name) if field.name in _FIRST else len(_FIRST),
    )
}
"""What tells one flow and window from another, in the order of history, with the types of parameters."""
_SUMS = (*(field.name for field in SUMS), *(f"{field.name}_rev" for field in SUMS))
_HOW = {  # a revision may lack one of the directions
    Merge.OR: "groupBitOr({name})",
    Merge.MIN: "minIf({name}, {packets} > 0)",
    Merge.MAX: "max({name})",
    Merge.FIRST: "argMinIf({name}, f.first_seen, {packets} > 0)",
    Merge.BEST: f"argMax({{name}}, ({list(DOMAIN_RANKS)}[toUInt8(f.domain_source) + 1], f.last_seen))",
    Merge.NEWEST: "argMax({name}, ({name} != '', f.last_seen))",
}
_MERGED = {
    f"{field.name}{way}": _HOW[field.merge].format(name=f"f.{field.name}{way}", packets=f"f.packets{way}")
    for field in MEASURES
    if field.merge in _HOW
    for way in ("", "_rev")
} | {field.name: _HOW[field.merge].format(name=f"f.{field.name}") for field in NAMED if field.merge}
"""What is not a sum, with the SQL that brings revisions together."""
COLUMNS = (
    *(field.name for field in FIELDS if field.role in _ROLES),
    *_SUMS,
    *_MERGED,
    *(field.name for field in FIELDS if field.role is Role.DERIVED),
)
"""Of the results of `flows` and `history`, in order."""
_ENUMS = tuple(field.name for field in FIELDS if field.kind is Kind.CHOICE)
_NEWEST_FIRST = "toStartOfHour(window_begin) DESC, window_begin DESC"
"""So that the table is read from its end, by its key, until there are enough."""
HISTORY = "history"
"""The newest first, in a total order: a page ends at a flow."""
ORDER = {
    "time": f"{_NEWEST_FIRST}, last_seen DESC",
    "bytes": "bytes + bytes_rev DESC, window_begin DESC",
    "packets": "packets + packets_rev DESC, window_begin DESC",
    HISTORY: ", ".join(f"{f'toString({key})' if key in _ENUMS else key} DESC" for key in KEYS),
}
PASSAGE = frozenset({"interface", "direction", "primary"})
"""Who names one of these asks where packets passed: then each of a packet's passages is there."""
Steps = Generator[tuple[str, Parameters], list[dict[str, Any]], tuple[str, Parameters]]
"""Yields questions, is sent their rows, and returns the last one, whose answer may be of any length."""
_FROM_THE_END = frozenset({"time", HISTORY})
_FEW = 10_000
"""Rows. Of more, the second question would take longer than to ask at once."""
LONGEST_WINDOW = 3_600  # seconds; streams.window_seconds allows no more


def flows(
    flow_filter: Filter, *, since: datetime, until: datetime, sort: str, limit: int, after: Parameters | None = None
) -> tuple[str, Parameters]:
    """The flows of all windows that overlap [since, until), in an order of ORDER. `limit` 0 means all.

    `after`: KEYS of the flow before them, in the order of history. `few` asks for few of them with less work.
    """
    chosen = condition(flow_filter)
    where, parameters = _range(since, until)
    page, more = _after(after)
    inner = merged(f"{where} AND {page} AND {chosen.keys}", chosen.measures, order=ORDER[sort], limit=bool(limit))
    return _shown(inner, chosen, ORDER[sort], limit, {**parameters, **more})


def few(
    flow_filter: Filter, *, since: datetime, until: datetime, sort: str, limit: int, after: Parameters | None = None
) -> Steps:
    """The like of `flows`, by a small question before the large one."""
    rows = 2 * limit + 100
    if rows <= _FEW and (sort in _FROM_THE_END or flow_filter.expression is not None):
        (found,) = yield newest(flow_filter, since=since, until=until, rows=rows, after=after)
        all_there = int(found["rows"]) < rows
        regarded = not any(field.measure for field in flow_filter.fields().values())
        if all_there or (sort in _FROM_THE_END and regarded and 0 < limit <= int(found["flows"])):
            return some(
                flow_filter,
                since=since,
                until=until,
                sort=sort,
                limit=limit,
                after=after,
                oldest=int(found["oldest"]),
                hours=sorted(int(hour) for hour in found["hours"]),
                single=all_there and int(found["rows"]) == int(found["flows"]),
            )
    return flows(flow_filter, since=since, until=until, sort=sort, limit=limit, after=after)


def newest(
    flow_filter: Filter, *, since: datetime, until: datetime, rows: int, after: Parameters | None
) -> tuple[str, Parameters]:
    """About the newest `rows` rows, sums not regarded: one row of `rows` that there are, at most that many; `flows`: at
    least so many these are of; `oldest` window and `hours`, in which they lie, in seconds.

    Reads the end of the table, by its key, and few columns. An insert has each flow of a window once.
    """
    chosen = condition(flow_filter)
    where, parameters = _range(since, until)
    page, more = _after(after)
    hour = "toUnixTimestamp(toStartOfHour(start))"
    sql = f"""
SELECT sum(rows) AS rows, sum(flows) AS flows, toUnixTimestamp(min(start)) AS oldest, groupUniqArray({hour}) AS hours
FROM (
    SELECT start, node, sum(many) AS rows, max(many) AS flows
    FROM (
        SELECT start, node, count() AS many
        FROM (
            SELECT f.window_begin AS start, f.node AS node, f.topic_id AS t, f.kafka_partition AS p, f.revision AS r
            FROM flows AS f WHERE {where} AND {page} AND {chosen.keys}
            ORDER BY {_NEWEST_FIRST} LIMIT {{rows:UInt64}}
        )
        GROUP BY start, node, t, p, r
    )
    GROUP BY start, node
)"""  # noqa: S608  only names of ours; values are parameters
    return sql.strip(), {**parameters, **more, **chosen.parameters, "rows": rows}


def some(
    flow_filter: Filter,
    *,
    since: datetime,
    until: datetime,
    sort: str,
    limit: int,
    after: Parameters | None,
    oldest: int,
    hours: Collection[int],
    single: bool,
) -> tuple[str, Parameters]:
    """The like of `flows` where they are few: of windows from `oldest` on, in `hours`. Times: seconds, Unix epoch.

    `single`: each row is a flow, and nothing need be brought together.
    """
    chosen = condition(flow_filter)
    where, parameters = _range(since, until)
    page, more = _after(after)
    inside = f"toStartOfHour(f.window_begin) IN ({', '.join(f'{hour:d}' for hour in hours)})" if hours else "0"
    recent = "f.window_begin >= toDateTime({page:UInt32}, 'UTC')"
    where = f"{where} AND {recent} AND {inside} AND {page} AND {chosen.keys}"
    inner = _as_they_are(where) if single else grouped(where)
    if chosen.measures != "1":
        inner = f"SELECT * FROM ({inner}) WHERE {chosen.measures}"  # noqa: S608  only names of ours
    elif limit and single:  # other columns are then read of these rows alone
        inner += f" ORDER BY {ORDER[sort]} LIMIT {{limit:UInt64}}"
    return _shown(inner, chosen, ORDER[sort], limit, {**parameters, **more, "page": oldest})


def merged(where: str, having: str, *, order: str = "", limit: bool = False) -> str:
    """Flows of `flows AS f`, revisions added up, that `having` chooses: the columns of `grouped`.

    Nearly all windows of a node were stored by one insert, in which each flow is one row: those are read as they are.
    Only windows with rows of several inserts are grouped, as far as `where` chooses these: it chooses all records of a
    flow and window, or none. With `order` and `limit`, at least the first of each kind.
    """
    several = f"""(SELECT f.node, f.window_begin FROM flows AS f WHERE {where}
        GROUP BY f.node, f.window_begin
        HAVING min(f.revision) != max(f.revision) OR min(f.kafka_partition) != max(f.kafka_partition)
            OR min(f.topic_id) != max(f.topic_id))"""  # noqa: S608
    end = (f" ORDER BY {order}" if order else "") + (" LIMIT {limit:UInt64}" if limit else "")
    as_they_are = _as_they_are(f"{where} AND (f.node, f.window_begin) NOT IN {several}")
    together = grouped(f"{where} AND (f.node, f.window_begin) IN {several}")
    if having == "1":  # a level less: ClickHouse takes longer to understand all these columns than to find a few rows
        return f"({as_they_are}{end})\n    UNION ALL\n    ({together}{end})"
    return (
        f"(SELECT * FROM ({as_they_are}) WHERE {having}{end})\n"  # noqa: S608
        f"    UNION ALL\n    (SELECT * FROM ({together}) WHERE {having}{end})"
    )


def _as_they_are(where: str) -> str:
    """The columns of `grouped`, where each row is a flow."""
    keys = ", ".join(f"f.{key} AS {key}" for key in KEYS)
    columns = ", ".join(f"f.{name} AS {name}" for name in (*_SUMS, *_MERGED))
    return f"""
    SELECT {keys}, {columns}, toUInt64(1) AS records, f.first_seen AS first_seen, f.last_seen AS last_seen
    FROM flows AS f WHERE {where}"""  # noqa: S608


def grouped(where: str) -> str:
    """Rows of `flows AS f`, revisions added up: the columns of KEYS, sums, flags, first and last."""
    keys = ", ".join(f"f.{key} AS {key}" for key in KEYS)
    sums = ", ".join(f"sum(f.{name}) AS {name}" for name in _SUMS)
    merged = ", ".join(f"{sql} AS {name}" for name, sql in _MERGED.items())
    return f"""
    SELECT {keys}, {sums}, {merged}, count() AS records,
           min(f.first_seen) AS first_seen, max(f.last_seen) AS last_seen
    FROM flows AS f
    WHERE {where}
    GROUP BY {", ".join(f"f.{key}" for key in KEYS)}"""  # noqa: S608


def address_text(column: str) -> str:
    """SQL of an address as people write it: IPv4 without its prefix."""
    text = f"toString({column})"
    return f"if(startsWith({text}, '::ffff:') AND position({text}, '.') > 0, substring({text}, 8), {text})"


def community_id() -> str:
    """SQL of the Community ID over the columns of a flow; one with the ALIAS column of the table."""
    return f"({community_id_sql()})"


def condition(flow_filter: Filter, by: Collection[str] = (), columns: Mapping[str, str] | None = None) -> SqlFilter:
    """The filter for `grouped`: `keys` for its `where`, `measures` for its result.

    Each packet is in it once: passages that are not primary are left out, unless the filter, or what is grouped `by`,
    asks about passages. `columns`: SQL of those that are not there under their own name.
    """
    # outside of the table there is no ALIAS column
    mixed = any(field.measure for field in flow_filter.fields().values())
    names = {**(columns or {}), **({"community_id": community_id()} if mixed else {})}
    chosen = compile_filter(flow_filter, names)
    if PASSAGE.isdisjoint({*flow_filter.fields(), *by}):
        chosen = replace(chosen, keys=f"f.primary AND {chosen.keys}")
    return chosen


def _range(since: datetime, until: datetime) -> tuple[str, Parameters]:
    first, last = int(since.timestamp()), int(-(-until.timestamp() // 1))
    # the first condition, on the sort key alone, lets ClickHouse skip what is older
    where = (
        "f.window_begin >= toDateTime({oldest:UInt32}, 'UTC') AND f.window_begin < toDateTime({until:UInt32}, 'UTC')"
        " AND f.window_begin + f.window_seconds > toDateTime({since:UInt32}, 'UTC')"
    )
    return where, {"since": first, "oldest": max(0, first - LONGEST_WINDOW), "until": last}


def _after(after: Parameters | None) -> tuple[str, Parameters]:
    if after is None:
        return "1", {}
    special = {"window_begin": "toUnixTimestamp(f.window_begin)", **{key: f"toString(f.{key})" for key in _ENUMS}}
    columns = ", ".join(special.get(key, f"f.{key}") for key in KEYS)
    values = ", ".join(f"{{after_{key}:{kind}}}" for key, kind in KEYS.items())
    return (
        f"f.window_begin <= toDateTime({{after_window_begin:UInt32}}, 'UTC') AND ({columns}) < ({values})",
        {f"after_{key}": value for key, value in after.items()},
    )


def _shown(inner: str, chosen: SqlFilter, order: str, limit: int, parameters: Parameters) -> tuple[str, Parameters]:
    """As FlowRecords: addresses as text, with Community ID. With a limit `inner` has few rows: two for each of them."""
    special = {name: f"toString(r.{name})" for name in _ENUMS}
    for field in FIELDS:
        if field.kind is Kind.ADDRESS:
            text = address_text(f"r.{field.name}")
            special[field.name] = f"if(r.tunnel_type = 'none', '', {text})" if field.tunnel else text
    columns = ", ".join(f"{special.get(name, f'r.{name}')} AS {name}" for name in COLUMNS)
    sql = f"""
SELECT {columns}
FROM (
SELECT *, {community_id()} AS community_id
FROM ({inner}
)
ORDER BY {order}
{"LIMIT {limit:UInt64}" if limit else ""}
) AS r""".strip()  # noqa: S608  only names of ours; values are parameters
    return sql, {**parameters, **chosen.parameters, **({"limit": limit} if limit else {})}

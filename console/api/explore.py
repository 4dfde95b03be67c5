"""`/api/top` and `/api/series`: sums by any dimension, read from the coarsest tables that are exact."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse

from common.times import iso
from console.api.parameters import Chosen, Context, Range, Services, TimeRange, example, only_known
from console.audit.settled import patience
from console.query import explore_sql, largest, packets_sql, watched
from console.query.explore_sql import MEASURES, Question
from console.query.filters import Filter
from console.query.flow_sql import LONGEST_WINDOW
from console.query.plan import Plan
from console.query.vocabulary import FIELDS, protocol_name
from console.show import output
from schemas.fields import Kind

_BY = Annotated[
    str,
    Query(description=f"Dimensions, separated by commas: {', '.join(explore_sql.DIMENSIONS)}.", examples=["src_addr"]),
]
TOP = 20
_SUMS = {"packets": 1200, "bytes": 90_000, "packets_rev": 2400, "bytes_rev": 3_400_000, "records": 12}
_TOP = {
    "by": ["src_addr"],
    "table": "hosts_1h",
    "since": "2026-05-01T11:00:00.000000Z",
    "until": "2026-05-01T12:00:00.000000Z",
    "rows": [{"src_addr": "10.0.0.7", **_SUMS}],
    "total": _SUMS,
}
_SERIES = {
    "table": "services_1m",
    "since": "2026-05-01T11:00:00.000000Z",
    "until": "2026-05-01T11:02:00.000000Z",
    "step_seconds": 60,
    "times": ["2026-05-01T11:00:00.000000Z", "2026-05-01T11:01:00.000000Z"],
    "series": [
        {"name": {"protocol": 6, "protocol_name": "tcp"}, "values": [120_000, 90_000]},
        {"name": "other", "values": [300, 0]},
    ],
}

_PACKET_SUMS = ("ingress_packets", "ingress_bytes", "egress_packets", "egress_bytes")
_PACKETS = {
    "kept": True,
    "since": "2026-05-01T11:00:00.000000Z",
    "until": "2026-05-01T11:00:10.000000Z",
    "step_ms": 10,
    "steps": [{"time": "2026-05-01T11:00:00.120000Z", **dict(zip(_PACKET_SUMS, (12, 900, 24, 34_000), strict=True))}],
}


def router() -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/api", tags=["explore"], dependencies=[Depends(only_known)])

    @routes.get("/top", responses=example(_TOP))
    async def top(
        request: Request,
        context: Context,
        flow_filter: Chosen,
        span: Range,
        *,
        by: _BY = "src_addr",
        sort: Annotated[
            Literal["bytes", "packets", "flows"],
            Query(description="The largest first, both directions together; flows: by records."),
        ] = "bytes",
        limit: Annotated[int, Query(ge=1, le=10_000, description="Groups.")] = TOP,
    ) -> JSONResponse:
        """The largest groups over the windows that start in the range, and the total of all groups.

        `addr` and `port` put each flow at both of its ends: `packets` is what that end sent, `packets_rev` what it
        got; `pair` is both addresses, the lower one first. `table` is the coarsest that was read; the ends of a range
        are read from finer ones, so the sums are those of the raw windows. By `domain`, `total` has `named_bytes`: what
        of both directions has one. With names.reverse, `reverse` says what addresses of a row are called, if known.
        """
        question = await _question(context, explore_sql.dimensions(by), flow_filter, span)
        found = await context.database.last(largest.top(question, sort=sort, limit=limit))
        plan = question.plan()
        request.state.table = plan.coarsest
        return JSONResponse(
            {
                "by": list(question.by),
                **_read(plan),
                "rows": [
                    _named(row, question.by) | _sums(row) | _reverse(context, row, question.by) for row in found[0]
                ],
                "total": found[1],
            }
        )

    @routes.get("/series", responses=example(_SERIES))
    async def series(
        request: Request,
        context: Context,
        flow_filter: Chosen,
        span: Range,
        *,
        by: Annotated[str, Query(description="As in /api/top; empty: one series of all.", examples=["protocol"])] = "",
        measure: Annotated[Literal["bytes", "packets"], Query(description="Both directions together.")] = "bytes",
        limit: Annotated[int, Query(ge=1, le=50, description="Series; all else is `other`.")] = 8,
        points: Annotated[int, Query(ge=1, le=2_000, description="About so many steps; 1: one.")] = 200,
    ) -> JSONResponse:
        """Sums by time for the largest groups. Steps start at multiples of `step_seconds` since the Unix epoch.

        0 says that nothing passed; null that nothing is known of the step: no node was watching, or what it saw is
        not stored yet. By `domain`, `share` says how much of the bytes of all series has a name.
        """
        question = await _question(context, explore_sql.dimensions(by), flow_filter, span)
        step = await _step(context, question, points)
        named = []
        if question.by:  # as many as /api/top gives unless told: the dashboard asks both at once, and one query answers
            steps = largest.top(question, sort=measure, limit=max(limit, TOP))
            named = (await context.database.last(steps))[0][:limit]
        sql, parameters = explore_sql.series(question, named, measure=measure, step=step)
        plan = question.plan(step)
        request.state.table = plan.coarsest
        starts = range(plan.since // step * step, plan.until, step)
        values: dict[int, list[int | None]] = {number: [0] * len(starts) for number in range(-1, len(named))}
        rows = await context.database.rows(sql, parameters)
        for row in rows:
            values[row["series"]][(row["time"] - starts.start) // step] = row["value"]
        if question.by and not any(values[-1]):
            del values[-1]
        known = _known(question, plan), _stored_until(context, span)
        await _unknown(context, question, named, starts, values, known=known)
        shown: list[dict[str, Any]] = [
            {"name": _named(row, question.by), "values": values[number]} for number, row in enumerate(named)
        ]
        if not question.by:
            shown.append({"name": {}, "values": values[-1]})
        elif -1 in values:
            shown.append({"name": "other", "values": values[-1]})
        answer = {**_read(plan), "step_seconds": step, "times": [iso(start, digits=6) for start in starts]}
        return JSONResponse({**answer, "series": shown, **_share(rows, question.by)})

    @routes.get("/packets", responses=example(_PACKETS))
    async def packets(
        request: Request,
        context: Context,
        flow_filter: Chosen,
        span: Range,
        step_ms: Annotated[int, Query(ge=1, le=60_000, description="Milliseconds of a step.")] = 10,
    ) -> JSONResponse:
        """Packets and bytes by steps of milliseconds, where packets are kept (storage.packets).

        `steps`: those in which any passed, each direction for itself; of a range with more than 10,000 steps, longer
        ones. The filter is about packets: `src_addr` is who sent it. The newest second may not be stored yet. `kept` is
        false where there is no table of packets.
        """
        request.state.table = "packets"
        step, rows = packets_sql.step_for(span.since, span.until, step_ms), []
        kept = bool((await context.database.rows(packets_sql.THERE, {}))[0]["there"])
        if kept:
            packets_sql.check(flow_filter)
            sql, parameters = packets_sql.series(flow_filter, since=span.since, until=span.until, step_ms=step)
            rows = await context.database.rows(sql, parameters)
        return JSONResponse(
            {
                "kept": kept,
                "since": iso(span.since, digits=6),
                "until": iso(span.until, digits=6),
                "step_ms": step,
                "steps": [
                    {"time": iso(int(row["us"]) / 1e6, digits=6), **{name: int(row[name]) for name in _PACKET_SUMS}}
                    for row in rows
                ],
            }
        )

    return routes


async def _question(context: Services, by: tuple[str, ...], flow_filter: Filter, span: TimeRange) -> Question:
    return Question(
        by=by,
        flow_filter=flow_filter,
        since=span.since,
        until=span.until,
        oldest_raw=await context.oldest_raw(span.since, span.now),
    )


async def _step(context: Services, question: Question, points: int) -> int:
    """Of a series: no shorter than a window in the range, or what passed would stand in some steps, and 0 in others."""
    step = question.step(points, context.window_seconds)
    if step >= LONGEST_WINDOW:
        return step
    rows = await context.database.rows(*explore_sql.longest_window(question.since, question.until))
    return question.step(points, max(context.window_seconds, int(rows[0]["seconds"])))


def _known(question: Question, plan: Plan) -> float:
    """Seconds since the Unix epoch from when on the table that is read has all that was stored in it."""
    return question.oldest_raw.timestamp() if question.oldest_raw and plan.coarsest == "flows" else 0


def _stored_until(context: Services, span: TimeRange) -> float:
    """Seconds since the Unix epoch: what is older is stored, if all is well."""
    return span.now.timestamp() - patience(context.window_seconds, context.node_timeout_seconds)


async def _unknown(
    context: Services,
    question: Question,
    named: Sequence[Mapping[str, Any]],
    starts: range,
    values: Mapping[int, list[int | None]],
    *,
    known: tuple[float, float],
) -> None:
    """Put None for 0 where the ledger does not say that nothing passed: of each node, where nodes are told apart.

    `known`: of _known and _stored_until. What is gone from the table is not known.
    """
    by_node = watched.NODE in question.by
    groups: dict[str, list[list[int | None]]] = {}
    for number, one in values.items():
        groups.setdefault(named[number][watched.NODE] if by_node and number >= 0 else "", []).append(one)
    empty = {name: [i for i in range(len(starts)) if not any(one[i] for one in ones)] for name, ones in groups.items()}
    asked = [starts[i] for steps in empty.values() for i in steps]
    if not asked:
        return
    sql, parameters = watched.epochs(
        question.flow_filter, first=min(asked), last=max(asked) + starts.step, step=starts.step, by_node=by_node
    )
    rows = await context.database.rows(sql, parameters)
    for name, steps in empty.items():
        quiet = watched.quiet(
            [row for row in rows if not name or row[watched.NODE] == name],
            step=starts.step,
            all_stored=question.flow_filter.expression is None,
            stored_until=known[1],
        )
        for i in steps:
            if starts[i] not in quiet or starts[i] < known[0]:
                for one in groups[name]:
                    one[i] = None


def _named(row: Mapping[str, Any], by: tuple[str, ...]) -> dict[str, Any]:
    """The dimensions of a group as people read them."""
    name = {dimension: output.address(row[dimension]) for dimension in by}
    return name | {"protocol_name": protocol_name(row["protocol"])} if "protocol" in name else name


def _reverse(context: Services, row: Mapping[str, Any], by: tuple[str, ...]) -> dict[str, Any]:
    if not context.naming:
        return {}
    addresses = {name: output.address(row[name]) for name in by if name in FIELDS and FIELDS[name].kind is Kind.ADDRESS}
    names = {name: called for name, address in addresses.items() if (called := context.naming.name(address))}
    return {"reverse": names} if names else {}


def _sums(row: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(row[name]) for name in MEASURES}


def _share(rows: Sequence[Mapping[str, Any]], by: tuple[str, ...]) -> dict[str, Any]:
    if explore_sql.DOMAIN not in by:
        return {}
    total, named = (sum(int(row[name]) for row in rows) for name in (explore_sql.ALL, explore_sql.NAMED))
    return {"share": {"total": {"bytes": total}, "named": {"bytes": named}}}


def _read(plan: Plan) -> dict[str, Any]:
    return {"table": plan.coarsest, "since": iso(plan.since, digits=6), "until": iso(plan.until, digits=6)}

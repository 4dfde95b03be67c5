"""Whether no flow means that none passed: what the ledger tells of steps in which nothing is stored. Pure.

The ledger has each epoch in which a node watched. A step is quiet, its sums are 0, when epochs of nodes that are meant
lie in it and nothing of it is on its way; of all others nothing is known. The ledger has no rows of an interface that
saw nothing: nodes are told apart, interfaces are not.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from console.query.filter_sql import Parameters, compile_of
from console.query.filters import Filter

_LONGEST_EPOCH = 3_600  # seconds: of epochs that were added up by the hour
NODE = "node"


def epochs(flow_filter: Filter, *, first: int, last: int, step: int, by_node: bool) -> tuple[str, Parameters]:
    """When epochs of the nodes that the filter may mean began and ended, by the step in which they ended.

    `first`, `last`: seconds since the Unix epoch. `consumed`: starts of steps, and packets of windows in them.
    """
    condition = compile_of(flow_filter, {NODE})
    keys = f"time, {NODE}" if by_node else "time"
    sql = f"""
SELECT intDiv(toUnixTimestamp(f.end_time), {step:d}) * {step:d} AS time, {"f.node AS node," if by_node else ""}
       toUnixTimestamp(min(f.start_time)) AS begun, toUnixTimestamp(max(f.end_time)) AS ended,
       sumMap(arrayMap(w -> intDiv(toUnixTimestamp(w), {step:d}) * {step:d}, f.consumed_windows), f.consumed_packets)
           AS consumed
FROM ledger AS f FINAL
WHERE f.end_time >= toDateTime64({{first:UInt32}}, 6, 'UTC') AND f.end_time < toDateTime64({{last:UInt32}}, 6, 'UTC')
  AND f.closed AND {condition.keys}
GROUP BY {keys}""".strip()  # noqa: S608  only names of ours; values are parameters
    return sql, {**condition.parameters, "first": first, "last": last + _LONGEST_EPOCH}


def quiet(rows: Iterable[Mapping[str, Any]], *, step: int, all_stored: bool, stored_until: float) -> set[int]:
    """Starts of the steps that were watched and in which, without flows, nothing passed.

    `rows`: of `epochs`. `all_stored`: the question chooses all flows, so that what was consumed should be there;
    otherwise what was consumed may be other flows, once everything is stored (`stored_until`, seconds).
    """
    watched: set[int] = set()
    consumed: dict[int, int] = {}
    newest = 0
    for row in rows:
        newest = max(newest, row["ended"])
        watched.update(range(row["begun"] // step * step, row["ended"] + 1, step))
        for start, packets in zip(*row["consumed"], strict=True):
            consumed[int(start)] = consumed.get(int(start), 0) + int(packets)
    return {
        start
        for start in watched
        if start + step <= newest and (not consumed.get(start) or (not all_stored and start + step <= stored_until))
    }

"""`ayaflow flows`: the history, one line a flow and window."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, TextIO

import numpy as np

from common.errors import QueryError
from console import output, tables
from console.filter_sql import compile_filter
from console.filters import Filter
from console.store import Parameters, Rows, Store
from console.vocabulary import protocol_name, tcp_flag_names
from schemas.addresses import from_text
from schemas.community_id import community_ids

SORTS = ("time", "bytes", "packets")
_KEYS = (
    "window_start", "window_seconds", "node", "interface", "direction", "protocol", "src_addr", "dst_addr",
    "src_port", "dst_port", "vlan_id", "icmp_type", "icmp_code",
)
_SUMS = ("packets", "bytes", "packets_rev", "bytes_rev")
_ORDER = {
    "time": "window_start DESC, last_seen DESC",
    "bytes": "bytes + bytes_rev DESC, window_start DESC",
    "packets": "packets + packets_rev DESC, window_start DESC",
}
_LONGEST_WINDOW = 3_600         # seconds; streams.window_seconds allows no more


def build_query(
    flow_filter: Filter, *, since: datetime, until: datetime, sort: str, limit: int
) -> tuple[str, dict[str, str | int]]:
    """SQL and parameters for the flows of all windows that overlap [since, until); revisions are added up.

    `limit` 0 means all. The community id is not among the columns: `with_community_id` adds it to what is shown.
    """
    condition = compile_filter(flow_filter)
    keys = ", ".join(f"f.{key} AS {key}" for key in _KEYS)
    sums = ", ".join(f"sum(f.{name}) AS {name}" for name in _SUMS)
    names = ", ".join(key if key != "direction" else "toString(direction) AS direction" for key in _KEYS)
    # the first condition on the sort key alone lets ClickHouse skip what is older
    sql = f"""
SELECT {names}, {', '.join(_SUMS)}, tcp_flags, tcp_flags_rev, first_seen, last_seen
FROM (
    SELECT {keys}, {sums},
           groupBitOr(f.tcp_flags) AS tcp_flags, groupBitOr(f.tcp_flags_rev) AS tcp_flags_rev,
           min(f.first_seen) AS first_seen, max(f.last_seen) AS last_seen
    FROM flows AS f
    WHERE f.window_start >= toDateTime({{oldest:UInt32}}, 'UTC')
      AND f.window_start < toDateTime({{until:UInt32}}, 'UTC')
      AND f.window_start + f.window_seconds > toDateTime({{since:UInt32}}, 'UTC')
      AND {condition.keys}
    GROUP BY {', '.join(f'f.{key}' for key in _KEYS)}
)
WHERE {condition.measures}
ORDER BY {_ORDER[sort]}
{'LIMIT {limit:UInt64}' if limit else ''}""".strip()  # noqa: S608  only names of ours; values are parameters
    first, last = int(since.timestamp()), -(-until.timestamp() // 1)
    parameters: dict[str, str | int] = {
        **condition.parameters, "since": first, "oldest": max(0, first - _LONGEST_WINDOW), "until": int(last),
    }
    if limit:
        parameters["limit"] = limit
    return sql, parameters


def run(store: Store, sql: str, parameters: Parameters, *, form: str, out: TextIO) -> int:
    """Query and write; returns the number of flows written."""
    result = store.stream(sql, parameters)
    if form == "table":
        return _table(result, out)
    writer = output.WRITERS.get(form)
    if writer is None:
        raise QueryError(f"--format {form} is not known; use table, json or csv")
    return writer((*result.names, "community_id"), with_community_id(result), out)


def with_community_id(result: Rows) -> Iterator[list[Any]]:
    """The rows with the Community ID as a last column (its ALIAS in SQL would be computed before the LIMIT)."""
    at = {name: i for i, name in enumerate(result.names)}
    rows = output.people_rows(result)
    while chunk := list(islice(rows, 4_096)):
        def column(name: str, kind: type[np.generic], chunk: list[list[Any]] = chunk) -> Any:
            return np.array([row[at[name]] for row in chunk], kind)

        ids = community_ids(
            protocol=column("protocol", np.uint8), src_port=column("src_port", np.uint16),
            dst_port=column("dst_port", np.uint16), icmp_type=column("icmp_type", np.uint8),
            icmp_code=column("icmp_code", np.uint8),
            src_addr=from_text([row[at["src_addr"]] for row in chunk]),
            dst_addr=from_text([row[at["dst_addr"]] for row in chunk]),
        )
        for row, identity in zip(chunk, ids, strict=True):
            yield [*row, identity]


def _table(result: Rows, out: TextIO) -> int:
    rows = [dict(zip(result.names, row, strict=True)) for row in output.people_rows(result)]
    tables.show(flow_table(rows), out)
    return len(rows)


def flow_table(rows: Sequence[dict[str, Any]]) -> Any:
    """A rich table of flow rows as `build_query` gives them. The node is a column where there are several."""
    several = len({row["node"] for row in rows}) > 1
    names = ["time", *(["node"] if several else []), "if", "dir", "proto", "source", "destination",
             "packets", "bytes", "back", "bytes back", "flags"]
    numbers = [name in {"packets", "bytes", "back", "bytes back"} for name in names]
    return tables.build(names, (_cells(row, node=several) for row in rows), numbers=numbers)


def _cells(row: dict[str, Any], *, node: bool) -> list[str]:
    flags = row["tcp_flags"] | row["tcp_flags_rev"]
    vlan = f" vlan {row['vlan_id']}" if row["vlan_id"] else ""
    return [
        row["window_start"],
        *([row["node"]] if node else []),
        row["interface"],
        {"ingress": "in", "egress": "out"}[row["direction"]],
        _protocol(row),
        endpoint(row["src_addr"], row["src_port"]),
        endpoint(row["dst_addr"], row["dst_port"]),
        str(row["packets"]), tables.human_bytes(row["bytes"]),
        str(row["packets_rev"]), tables.human_bytes(row["bytes_rev"]),
        tcp_flag_names(flags) + vlan,
    ]


def _protocol(row: dict[str, Any]) -> str:
    name = protocol_name(row["protocol"])
    return f"{name} {row['icmp_type']}/{row['icmp_code']}" if row["protocol"] in {1, 58} else name


def endpoint(addr: str, port: int) -> str:
    """`10.0.0.1:443`, `[2001:db8::1]:443`, or the address alone where there is no port."""
    if not port:
        return addr
    return f"[{addr}]:{port}" if ":" in addr else f"{addr}:{port}"

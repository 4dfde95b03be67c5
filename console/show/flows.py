"""What `ayaflow flows` shows: the history, one line a flow and window; its forms."""

from collections.abc import Sequence
from typing import Any, TextIO

from common.errors import QueryError
from common.plain import short
from common.times import local
from console.query import flow_sql
from console.query.vocabulary import protocol_name, tcp_flag_names
from console.show import names, output, tables
from console.store.client import Parameters, Rows, Store
from schemas.fields import NO_ICMP_TYPE

FORMATS = {"json": "JSONEachRow", "csv": "CSV", "arrow": "ArrowStream"}
"""Ours, and ClickHouse's names for them."""
_DISPENSABLE = ("flags", "if", "dir", "bytes back", "back", "proto", "node", "packets", "time")
"""Columns that a narrow terminal goes without, the first named first."""
CSV_HEADER = (",".join(f'"{name}"' for name in flow_sql.COLUMNS) + "\n").encode()


def run(store: Store, sql: str, parameters: Parameters, *, form: str, out: TextIO, utc: bool) -> int | None:
    """Query and write; returns the number of flows written, None where it is not known (arrow).

    `utc`: so are times in a table, not of this machine's clock.
    """
    if form == "table":
        return _table(store.stream(sql, parameters), out, utc=utc)
    if form not in FORMATS:
        raise QueryError(f"--format {form} is not known; use table, json, csv or arrow")
    out.flush()
    out = output.for_programs(out)
    binary = out.buffer
    chunks = store.chunks(sql, parameters, form=FORMATS[form])
    if form == "csv":
        binary.write(CSV_HEADER)
    count = 0
    for chunk in chunks:
        binary.write(chunk)
        count += chunk.count(b"\n")  # no name of ours has one
    binary.flush()
    return None if form == "arrow" else count


def _table(result: Rows, out: TextIO, *, utc: bool) -> int:
    rows = [dict(zip(result.names, row, strict=True)) for row in result.rows]
    if not utc:
        rows = [row | {"window_begin": local(row["window_begin"])} for row in rows]
    tables.show(flow_table(rows, tables.width_of(out)), out)
    if text := names.listed(rows):
        out.write(f"{text}\n")
    return len(rows)


def flow_table(rows: Sequence[dict[str, Any]], width: int | None = None) -> Any:
    """A rich table of flow rows as `flow_sql.flows` gives them. The node is a column where there are several.

    `width`: what it must fit into.
    """
    several = len({row["node"] for row in rows}) > 1
    named = any(map(names.has_name, rows))
    columns = [
        "time",
        *(["node"] if several else []),
        "if",
        "dir",
        "proto",
        "source",
        "destination",
        *(["name"] if named else []),
        "packets",
        "bytes",
        "back",
        "bytes back",
        "flags",
    ]
    numbers = [name in {"packets", "bytes", "back", "bytes back"} for name in columns]
    cells = [_cells(row, node=several, named=named) for row in rows]
    return tables.fitting(columns, cells, numbers=numbers, width=width, dispensable=_DISPENSABLE)[0]


def _cells(row: dict[str, Any], *, node: bool, named: bool) -> list[str]:
    flags = row["tcp_flags"] | row["tcp_flags_rev"]
    vlan = f" vlan {row['vlan_id']}" if row["vlan_id"] else ""
    tunnel = f" {row['tunnel_type']} {row['tunnel_id']}" if row["tunnel_type"] != "none" else ""
    return [
        row["window_begin"],
        *([short(row["node"])] if node else []),
        short(row["interface"]),
        {"ingress": "in", "egress": "out"}[row["direction"]],
        _protocol(row),
        endpoint(row["src_addr"], row["src_port"]),
        endpoint(row["dst_addr"], row["dst_port"]),
        *([names.name(row)] if named else []),
        str(row["packets"]),
        tables.human_bytes(row["bytes"]),
        str(row["packets_rev"]),
        tables.human_bytes(row["bytes_rev"]),
        tcp_flag_names(flags) + vlan + tunnel,
    ]


def _protocol(row: dict[str, Any]) -> str:
    name = protocol_name(row["protocol"])
    if row["protocol"] not in {1, 58}:
        return name
    return f"{name} -" if row["icmp_type"] == NO_ICMP_TYPE else f"{name} {row['icmp_type']}/{row['icmp_code']}"


def endpoint(addr: str, port: int) -> str:
    """`10.0.0.1:443`, `[2001:db8::1]:443`, or the address alone where there is no port."""
    if not port:
        return addr
    return f"[{addr}]:{port}" if ":" in addr else f"{addr}:{port}"

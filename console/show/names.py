"""What `ayaflow names` shows: a table of a view, and the share of bytes that have a name."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from common.plain import short
from common.times import local
from console.show import tables

Row = Mapping[str, Any]
_NUMBERS = {
    "clients", "servers", "flows", "packets", "bytes", "share", "named", "count", "failures", "no answer", "p50", "p90",
    "p99", "max",
}  # fmt: skip
_DISPENSABLE = ("servers", "packets", "flows", "p90", "answers", "last", "node", "type", "clients")
"""Columns that a narrow terminal goes without, the first named first."""


def table(view: str, rows: Sequence[Row], total: Row, width: int | None, *, utc: bool) -> Table:
    """A rich table; `total`: sums of bytes over all flows. `width`: what it must fit into."""
    shown = [_SHOWN[view](row, total) for row in rows]
    if view == "failures" and not utc:
        shown = [cells | {"last": local(cells["last"])} for cells in shown]
    names = list(shown[0]) if shown else ["name"]
    numbers = [name in _NUMBERS for name in names]
    cells = [list(row.values()) for row in shown]
    return tables.fitting(names, cells, numbers=numbers, width=width, dispensable=_DISPENSABLE)[0]


def sentence(share: Row) -> str:
    """`93.1 % of 1.2 GB have a name (1,117,200,001 of 1,200,000,000 bytes): sni 80.2 %, dns 12.9 %`."""
    total, named = share["total"]["bytes"], share["named"]["bytes"]
    if not total:
        return "no flows in this time match"
    said = f"{tables.percent(named, total)} of {tables.human_bytes(total)} have a name ({named:,} of {total:,} bytes)"
    by_source = sorted(share["by_source"].items(), key=lambda one: -one[1]["bytes"])
    parts = ", ".join(f"{source} {tables.percent(each['bytes'], total)}" for source, each in by_source)
    return f"{said}: {parts}" if parts else said


def share_of(rows: Sequence[Row]) -> dict[str, Any]:
    """How much of the bytes of flows or connections, both directions together, has a name; as `/api/names` has it."""
    total, by_source = 0, Counter[str]()
    for row in rows:
        both = row["bytes"] + row["bytes_rev"]
        total += both
        if has_name(row):
            by_source[row["domain_source"]] += both
    return {
        "total": {"bytes": total},
        "named": {"bytes": by_source.total()},
        "by_source": {source: {"bytes": octets} for source, octets in sorted(by_source.items())},
    }


def listed(rows: Sequence[Row]) -> str:
    """The same as a sentence; empty where none has a name."""
    share = share_of(rows)
    total, named = share["total"]["bytes"], share["named"]["bytes"]
    if not named:
        return ""
    return f"{tables.percent(named, total)} of the bytes that are listed have a name ({named:,} of {total:,} bytes)"


def has_name(row: Row) -> bool:
    """Whether a flow or connection has one."""
    return bool(row["domain"])


def name(row: Row) -> str:
    """Its name, and where that is from; empty without one."""
    return f"{row['domain']} ({row['domain_source']})" if row["domain"] else ""


def _domain(row: Row, total: Row) -> dict[str, str]:
    both = row["bytes"] + row["bytes_rev"]
    return {
        "domain": row["domain"],
        "from": " ".join(row["sources"]),
        "clients": str(row["clients"]),
        "servers": str(row["servers"]),
        "flows": str(row["records"]),
        "packets": tables.human(row["packets"] + row["packets_rev"]).strip(),
        "bytes": tables.human_bytes(both),
        "share": tables.percent(both, total["bytes"]),
    }


def _query(row: Row, _total: Row) -> dict[str, str]:
    return {
        "name": row["name"],
        "type": row["qtype"],
        "count": str(row["transactions"]),
        "failures": str(row["failures"]),
        "no answer": str(row["unanswered"]),
        "clients": str(row["clients"]),
        "servers": str(row["servers"]),
        **_times(row),
        "answers": " ".join(row["answers"]),
    }


def _failure(row: Row, _total: Row) -> dict[str, str]:
    server = row["server"] if row["servers"] == 1 else f"{row['servers']} servers"
    return {
        "name": row["name"],
        "type": row["qtype"],
        "result": row["rcode"],
        "count": str(row["transactions"]),
        "clients": str(row["clients"]),
        "server": server,
        "last": row["last"],
    }


def _latency(row: Row, _total: Row) -> dict[str, str]:
    return {
        "server": row["server"],
        "count": str(row["transactions"]),
        "failures": str(row["failures"]),
        "no answer": str(row["unanswered"]),
        "clients": str(row["clients"]),
        **_times(row),
    }


def _unseen(row: Row, _total: Row) -> dict[str, str]:
    both = row["bytes"] + row["bytes_rev"]
    return {
        "node": short(row["node"]),
        "client": row["client"],
        "flows": str(row["records"]),
        "packets": tables.human(row["packets"] + row["packets_rev"]).strip(),
        "bytes": tables.human_bytes(both),
        "named": tables.percent(row["named_bytes"], both),
    }


def _times(row: Row) -> dict[str, str]:
    return {name: _milliseconds(row[f"latency_us_{name}"]) for name in ("p50", "p90", "p99", "max")}


def _milliseconds(microseconds: int | None) -> str:
    return "-" if microseconds is None else f"{microseconds / 1000:.{1 if microseconds < 100_000 else 0}f} ms"


_SHOWN = {"domains": _domain, "queries": _query, "failures": _failure, "latency": _latency, "unseen": _unseen}

"""What 0002_rollups.sql leaves to schemas.clickhouse.rollups: columns of tables, and the views that fill them. Pure.

From the first release on the text of a migration must not change: a column is then a line in a file of its own, too.
"""

from collections.abc import Mapping

from schemas.clickhouse.rollups import ROLLUPS, SUMS, Rollup
from schemas.fields import FIELDS

_OWN = {  # columns that flows has not
    "addr": ("IPv6", "Address; IPv4 as ::ffff:a.b.c.d"),
    "role": (
        "Enum8('initiator' = 0, 'responder' = 1, 'both' = 2)",
        "What it is to its flows; both: it talks with itself, and is here once",
    ),
    "records": ("UInt64", "Rows of the flows table in this one"),
    "first_seen": ("DateTime('UTC')", "First packet, to the second"),
    "last_seen": ("DateTime('UTC')", "Last packet, to the second"),
}
_WAYS = {"": "from src to dst", "_rev": "from dst to src"}
_OF_A_SIDE = {"": "that it sent; of both, from initiator to responder", "_rev": "that it got"}


def tokens(database: str, local: str) -> Mapping[str, str]:
    """What stands in the file as {NAME_columns}, {NAME_keys} (or {NAME_by_src}) and {NAME_view}, of each rollup."""
    found = {}
    for name, rollup in ROLLUPS.items():
        found[f"{name}_columns"] = _columns(rollup)
        found[f"{name}_keys"] = ", ".join(rollup.keys)
        found[f"{name}_by_src"] = ", ".join(sorted(rollup.keys, key=lambda key: key != "src_addr"))
        found[f"{name}_view"] = rollup.view(f"{database}.flows{local}")
    return found


def _columns(rollup: Rollup) -> str:
    merged = dict.fromkeys(SUMS, "sum") | rollup.others
    lines = ["time DateTime('UTC') COMMENT 'Start of the period' CODEC(Delta, ZSTD(1))"]
    for name in (*rollup.keys, *merged):
        kind, doc = _about(name, sides=rollup.sides)
        counted = merged.get(name) in {"sum", "min", "max"}
        codec = "" if kind.startswith("LowCardinality") else f" CODEC({'T64, ' * counted}ZSTD(1))"
        shown = f"SimpleAggregateFunction({merged[name]}, {kind})" if name in merged else kind
        lines.append(f"{name} {shown}{' DEFAULT true' * (name == 'primary')} COMMENT '{doc}'{codec}")
    return ",\n    ".join(lines)


def _about(name: str, *, sides: bool) -> tuple[str, str]:
    """Type and comment of a column."""
    if name in _OWN:
        return _OWN[name]
    field = next(field for field in FIELDS if name in field.names)
    ways = _OF_A_SIDE if sides else _WAYS
    return field.type.clickhouse, f"{field.doc} {ways[name.removeprefix(field.name)]}" if field.both_ways else field.doc

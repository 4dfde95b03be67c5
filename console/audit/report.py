"""The audit's result as a table with sentences, and as JSON. Pure."""

import math
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any, TextIO

from common.plain import plain, short
from common.times import iso, local
from console.audit.around import Around
from console.audit.model import Report, Row
from console.audit.readings import Difference, RollupDifference
from console.audit.sentences import STAGES, heading, sentences
from console.audit.settled import Settled
from console.query.times import EARLIEST
from console.show import tables

_DISPENSABLE = (
    "unclosed",
    "coalesced",
    "unknown link",
    "malformed",
    "non-IP",
    "in flight",
    "dropped",
    "dir",
    "seen",
    "stored",
)
"""Columns that a narrow terminal goes without, the first named first."""


def show(report: Report, around: Around, since: datetime, out: TextIO, *, utc: bool = True) -> None:
    """Of what it speaks, a row a node, interface and direction, and what was found."""
    zone = str if utc else local
    out.write(plain(zone(heading(report, _begin(since)))) + "\n")
    if report.rows:
        tables.show(_table(report.rows, tables.width_of(out)), out)
        out.write("\n")
    out.writelines(plain(zone(line)) + "\n" for line in sentences(report, around))


def _begin(since: datetime) -> float | None:
    return None if since <= EARLIEST else since.timestamp()


def _table(rows: Iterable[Row], width: int | None) -> Any:
    names = (
        "node",
        "if",
        "dir",
        "seen",
        "non-IP",
        "malformed",
        "unknown link",
        "dropped",
        "in flight",
        "stored",
        "coalesced",
        "unclosed",
        "difference",
    )
    cells = [
        (
            short(row.place.node),
            short(row.place.interface),
            {"ingress": "in", "egress": "out"}[row.place.direction],
            f"{row.seen.packets:,}",
            f"{row.non_ip.packets:,}",
            f"{row.malformed.packets:,}",
            f"{row.unknown_link.packets:,}",
            f"{row.dropped.packets:,}",
            _short(row.in_flight, plain=True),
            f"{row.stored.packets:,}",
            f"{row.coalesced.packets:,}",
            f"{row.unclosed.packets:,}",
            _short(row.difference()),
        )
        for row in rows
    ]
    numbers = [False] * 3 + [True] * 10
    return tables.fitting(names, cells, numbers=numbers, width=width, dispensable=_DISPENSABLE)[0]


def _short(difference: Difference, *, plain: bool = False) -> str:
    """`-5` lacking, `+3` too many; bytes where only they differ. `plain`: what is lacking has no sign."""
    minus = "" if plain else "-"
    parts = [f"{minus}{difference.missing.packets:,}"] if difference.missing.packets else []
    parts += [f"+{difference.surplus.packets:,}"] if difference.surplus.packets else []
    if not parts and difference:
        parts += [f"{minus}{difference.missing.bytes:,} B"] if difference.missing.bytes else []
        parts += [f"+{difference.surplus.bytes:,} B"] if difference.surplus.bytes else []
    return " ".join(parts) or "0"


def as_json(report: Report, around: Around, since: datetime) -> dict[str, Any]:
    """The same figures. `since` is null when it was not given; `until` is the moment up to which the audit speaks."""
    return {
        "exact": report.exact,
        "settled": report.settled,
        "differs": report.differs,
        "empty": report.empty,
        "since": None if since <= EARLIEST else iso(since),
        "until": _moment(report.until),
        "settled_until": _moment(report.settled_until),
        "heading": heading(report, _begin(since)),
        "message": " ".join(line.strip() for line in sentences(report, around)),
        "rows": [_row_json(row) for row in report.rows],
        "nodes": [_node_json(node) for node in report.nodes],
        "not_settled": [node.node for node in report.behind],
        "rollups": [_rollup_json(rollup) for rollup in report.rollups],
        "rollups_in_flight": [
            _rollup_json(rollup) | {"overdue": rollup.overdue} for rollup in report.rollups_in_flight
        ],
        "names": [asdict(each) for each in report.names],
        "losses": [asdict(loss) | {"noticed": iso(loss.noticed)} for loss in report.losses],
        "backlog": dict(around.backlog) if around.backlog else {"error": around.backlog_said},
        "held": asdict(around.held) if around.held else None,
        "troubles": list(around.troubles),
    }


def _node_json(node: Settled) -> dict[str, Any]:
    reach = node.reach
    return {
        "node": node.node,
        "partition": reach.kafka_partition,
        "standing": str(node.standing),
        "settled_until": _moment(node.until),
        "stored_until": _moment(reach.stored_until),
        "ledger_until": _moment(reach.closed_until),
        "recorded": _moment(reach.recorded),
    }


def _moment(seconds: float) -> str | None:
    """Null: never, or for good."""
    return iso(seconds) if seconds and math.isfinite(seconds) else None


def _rollup_json(rollup: RollupDifference) -> dict[str, Any]:
    figures = asdict(rollup)
    del figures["open_until"], figures["overdue"]
    return figures


def _row_json(row: Row) -> dict[str, Any]:
    result: dict[str, Any] = {
        "node": row.place.node,
        "interface": row.place.interface,
        "direction": row.place.direction,
        "epochs": row.epochs,
        "unclosed_epochs": row.unclosed_epochs,
    }
    for name, count in (
        ("seen", row.seen),
        ("non_ip", row.non_ip),
        ("malformed", row.malformed),
        ("unknown_link", row.unknown_link),
        ("ring_full", row.dropped),
        ("emitted", row.emitted),
        ("coalesced", row.coalesced),
        ("consumed", row.consumed),
        ("stored", row.stored),
        ("unclosed", row.unclosed),
        ("in_flight", row.in_flight.missing),
        ("ahead_of_ledger", row.in_flight.surplus),
        ("device", row.device),
        ("gone", row.gone),
    ):
        result[f"{name}_packets"], result[f"{name}_bytes"] = count.packets, count.bytes
    result["unseen_packets"] = row.hole.unseen_packets if row.hole else 0
    result["unseen_since"] = iso(row.hole.first_minute) if row.hole else None
    result["differences"] = {stage: asdict(getattr(row, stage)) for stage in STAGES}
    result["first_wrong_window"] = None if row.first_wrong_window is None else iso(row.first_wrong_window)
    return result

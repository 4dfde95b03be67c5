"""The audit's result as a table with a sentence, and as JSON. Pure."""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any, TextIO

from common.times import iso
from console.audit.model import GRACE_SECONDS, Count, Difference, Loss, Report, RollupDifference, Row, total
from console.query.times import EARLIEST, LATEST
from console.show import tables

_STAGES = {
    "kernel": "the kernel's own outcomes do not add up to what it saw",
    "kafka": "what the kernel handed over is not what streams consumed from Kafka",
    "store": "what streams consumed is not what the table flows holds",
}


def show(report: Report, out: TextIO) -> None:
    """A row a node, interface and direction, and a sentence."""
    if report.rows:
        tables.show(_table(report.rows), out)
        out.write("\n")
    out.writelines(line + "\n" for line in sentences(report))


def _table(rows: Iterable[Row]) -> Any:
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
            row.place.node,
            row.place.interface,
            {"ingress": "in", "egress": "out"}[row.place.direction],
            f"{row.seen.packets:,}",
            f"{row.non_ip.packets:,}",
            f"{row.malformed.packets:,}",
            f"{row.unknown_link.packets:,}",
            f"{row.dropped.packets:,}",
            _short(row.in_flight + row.overdue, plain=True),
            f"{row.stored.packets:,}",
            f"{row.coalesced.packets:,}",
            f"{row.unclosed.packets:,}",
            _short(row.difference()),
        )
        for row in rows
    ]
    return tables.build(names, cells, numbers=[False] * 3 + [True] * 10)


def _short(difference: Difference, *, plain: bool = False) -> str:
    """`-5` lacking, `+3` too many; bytes where only they differ. `plain`: what is lacking has no sign."""
    minus = "" if plain else "-"
    parts = [f"{minus}{difference.missing.packets:,}"] if difference.missing.packets else []
    parts += [f"+{difference.surplus.packets:,}"] if difference.surplus.packets else []
    if not parts and difference:
        parts += [f"{minus}{difference.missing.bytes:,} B"] if difference.missing.bytes else []
        parts += [f"+{difference.surplus.bytes:,} B"] if difference.surplus.bytes else []
    return " ".join(parts) or "0"


def sentences(report: Report) -> list[str]:
    """What the audit found, the verdict first."""
    if report.empty:
        return ["There is nothing to audit yet: the ledger and the table flows are empty in this range."]
    found = [line for stage in _STAGES for row in report.rows if (line := _wrong(row, stage))]
    found += [_unclosed(row) for row in report.rows if row.unclosed_epochs]
    found += [_lost(loss) for loss in report.losses]
    found += [
        f"{rollup.table} differs from flows by {_amount(rollup.difference)} in {rollup.periods} period(s) from"
        f" {iso(rollup.first_period)} on ({rollup.node} {rollup.interface})."
        for rollup in report.rollups
    ]
    if found:
        return ["Not exact:", *(f"  {line}" for line in found)]
    late = [_overdue(row) for row in report.rows if row.overdue]
    late += [_rollup_overdue(rollup) for rollup in report.rollups_in_flight if rollup.overdue]
    if late:
        return late
    return [_exact(report)]


def _wrong(row: Row, stage: str) -> str:
    difference: Difference = getattr(row, stage)
    if not difference:
        return ""
    parts = [f"{_amount(difference.missing)} missing"] if difference.missing else []
    parts += [f"{_amount(difference.surplus)} too many"] if difference.surplus else []
    place = f"{row.place.node} {row.place.interface} {row.place.direction}"
    since = ""
    if stage == "store" and row.first_wrong_window is not None:
        since = f", from the window of {iso(row.first_wrong_window)} on"
    return f"{place}: {_STAGES[stage]}: {' and '.join(parts)}{since}."


def _unclosed(row: Row) -> str:
    return (
        f"{row.place.node} {row.place.interface} {row.place.direction}: {_amount(row.unclosed)} stored of"
        f" {row.unclosed_epochs:,} epoch(s) whose counters never came: their ring was given up, or messages were lost."
        " What else the kernel saw in them is not known."
    )


def _lost(loss: Loss) -> str:
    since = f" (noticed at {iso(loss.noticed)})"
    if loss.kind == "messages":
        return (
            f"partition {loss.kafka_partition}: up to {loss.lost:,} message(s), offsets {loss.first:,} to"
            f" {loss.behind - 1:,}, were removed from Kafka before streams acknowledged them{since}; see"
            " kafka.packets_retention_hours."
        )
    if loss.kind == "idle":
        return (
            f"{loss.node}: nothing was counted from {iso(loss.first / 1e9)} to {iso(loss.behind / 1e9)}: no producer"
            " had told the kernel program that one lives; see capture.orphan_timeout_seconds."
        )
    what = "events of the ring" if loss.kind == "events" else "coalesced entries"
    count = f"{loss.lost:,}" if loss.lost is not None else f"{loss.behind - loss.first:,} bytes of"
    return f"{loss.node}: {count} {what} never came{since}; each is one packet or more."


def _overdue(row: Row) -> str:
    place = f"{row.place.node} {row.place.interface} {row.place.direction}"
    if row.overdue.missing:
        return (
            f"Not settled: {place}: {_amount(row.overdue.missing)} consumed but not stored for more than"
            f" {GRACE_SECONDS} s; is streams running? See `ayaflow doctor`."
        )
    return (
        f"Not settled: {place}: {_amount(row.overdue.surplus)} stored whose epoch the kernel's ledger has not closed"
        f" for more than {GRACE_SECONDS} s; did the producer stop without a clean end? Start it again: it goes on"
        " where it was."
    )


def _rollup_overdue(rollup: RollupDifference) -> str:
    return (
        f"Not settled: {rollup.table} lacks {_amount(rollup.difference)} that are in flows ({rollup.node}"
        f" {rollup.interface}) for more than {GRACE_SECONDS} s; is streams running? It puts them there when it starts."
    )


def _exact(report: Report) -> str:
    rows = report.rows
    seen, stored = total(row.seen for row in rows), total(row.stored for row in rows)
    parts = [f"{_amount(stored)} stored"]
    for name, count in (
        ("not IP", total(row.non_ip for row in rows)),
        ("malformed", total(row.malformed for row in rows)),
        ("of devices with unknown link headers", total(row.unknown_link for row in rows)),
        ("dropped and counted", total(row.dropped for row in rows)),
        ("in flight", total(row.in_flight.net() for row in rows)),
    ):
        if count:
            parts.append(f"{_amount(count)} {name}")
    nodes = len({row.place.node for row in rows})
    coalesced = total(row.coalesced for row in rows)
    detail = f" {_amount(coalesced)} of them came coalesced by flow." if coalesced else ""
    coming = total(rollup.difference for rollup in report.rollups_in_flight)
    rollups = f"The rollups still lack {_amount(coming)}." if coming else "The rollups agree."
    return (
        f"Exact: {_amount(seen)} seen by the kernel on {nodes} node{'s' if nodes > 1 else ''} ="
        f" {' + '.join(parts)}.{detail} {rollups}"
    )


def _amount(count: Count) -> str:
    return f"{count.packets:,} packet{'' if count.packets == 1 else 's'} ({count.bytes:,} bytes)"


def as_json(report: Report, since: datetime, until: datetime) -> dict[str, Any]:
    """The same figures; limits that were not given are null."""
    return {
        "exact": report.exact,
        "settled": report.settled,
        "empty": report.empty,
        "since": None if since <= EARLIEST else iso(since),
        "until": None if until >= LATEST else iso(until),
        "message": " ".join(line.strip() for line in sentences(report)),
        "rows": [_row_json(row) for row in report.rows],
        "nodes": [
            {
                "node": reach.node,
                "stored_until": iso(reach.stored_until) if reach.stored_until else None,
                "ledger_until": iso(reach.ledger_until) if reach.ledger_until else None,
            }
            for reach in report.reaches
        ],
        "rollups": [_rollup_json(rollup) for rollup in report.rollups],
        "rollups_in_flight": [
            _rollup_json(rollup) | {"overdue": rollup.overdue} for rollup in report.rollups_in_flight
        ],
        "losses": [asdict(loss) | {"noticed": iso(loss.noticed)} for loss in report.losses],
    }


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
    ):
        result[f"{name}_packets"], result[f"{name}_bytes"] = count.packets, count.bytes
    result["overdue"] = asdict(row.overdue)
    result["differences"] = {stage: asdict(getattr(row, stage)) for stage in _STAGES}
    result["first_wrong_window"] = None if row.first_wrong_window is None else iso(row.first_wrong_window)
    return result

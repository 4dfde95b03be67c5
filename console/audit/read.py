"""What the audit compares, read from the ledger and the tables."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from common.errors import QueryError, ServiceUnavailable
from common.times import iso
from console.audit import names, reach_sql
from console.audit import sql as audit_sql
from console.audit.model import compare
from console.audit.readings import (
    ORDER_SECONDS,
    Cell,
    Count,
    Difference,
    EpochTotals,
    Gone,
    Hole,
    Loss,
    Place,
    Readings,
    RollupDifference,
    WindowTotals,
)
from console.audit.settled import GONE_SECONDS, Gap, Reach
from console.audit.sql import Rewindowed
from console.query.times import EARLIEST, LATEST
from console.store.client import Parameters, Store
from schemas.clickhouse import dropped
from schemas.clickhouse.rollups import ROLLUPS

_TAIL_SECONDS = 600  # what was consumed so long ago is stored, or the audit tells of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """What is audited: epochs that end in (since, until], and the windows they touch; UTC."""

    since: datetime = EARLIEST
    until: datetime = LATEST  # the default: as far as all is settled
    node: str = ""  # every one
    from_the_first: bool = False  # nobody said since when

    @property
    def asked_until(self) -> float | None:
        """Up to when all is to be settled, seconds since the Unix epoch; None: nobody said."""
        return None if self.until >= LATEST else self.until.timestamp()

    def within_retention(self, now: datetime, retention_days: int) -> "Range":
        """Without what the TTL of flows may have removed already: the ledger and the rollups live longer.

        Raises QueryError when nothing is left.
        """
        oldest = (now - timedelta(days=retention_days)).replace(minute=0, second=0, microsecond=0) + timedelta(hours=2)
        if self.until <= oldest:
            raise QueryError(
                f"the raw windows are kept for {retention_days} days (clickhouse.flows_retention_days);"
                " there is nothing left to compare in this range"
            )
        return replace(self, since=max(self.since, oldest))

    def behind_shorter_retention(self, store: Store) -> "Range":
        """Likewise, where the retention was shorter before than it is now."""
        newest = _one(store.select(dropped.SHORTER), "newest")
        if not newest:
            return self
        oldest = datetime.fromtimestamp(newest, UTC) + timedelta(days=1, hours=2)
        if self.until <= oldest:
            raise QueryError(
                f"clickhouse.flows_retention_days was shorter before: raw windows from before {iso(newest + 86_400)}"
                " may be removed; there is nothing left to compare in this range"
            )
        return replace(self, since=max(self.since, oldest))

    def behind_dropped(self, store: Store) -> "Range":
        """Where nobody said since when: without the days up to the last that went for want of room."""
        if not self.from_the_first:
            return self
        newest = _one(store.select(dropped.NEWEST), "newest")
        behind = datetime.fromtimestamp(newest, UTC) + timedelta(days=1, hours=2) if newest else self.since
        return replace(self, since=max(self.since, behind))


def read(store: Store, span: Range) -> Readings:
    """One reading of everything that is compared."""
    now = _one(store.select(reach_sql.NOW), "now_us") / 1e6
    since, until = int(span.since.timestamp()), int(span.until.timestamp())
    everything: dict[str, str | int] = {
        "since_us": int(span.since.timestamp() * 1e6),
        "until_us": int(span.until.timestamp() * 1e6),
        "oldest": max(0, since - audit_sql.MARGIN_SECONDS),
        "newest": min(until + audit_sql.MARGIN_SECONDS, int(LATEST.timestamp())),
        "heard_us": int((now - GONE_SECONDS) * 1e6),
        "node": span.node,
    }
    seconds = min(until, time.time()) - since

    def ask(sql: str) -> list[dict[str, Any]]:
        return store.select(sql, used(sql, everything))

    # First how far all have come: what shows it is there for all questions behind it, and proves nothing of what comes
    # between them. Then the ledger before flows: what is stored in between is surplus of a window that is still open.
    reaches = ask(reach_sql.REACHES)
    gaps = ask(reach_sql.gaps(seconds)) if _one(ask(reach_sql.rings(seconds)), "suspicious") else []
    epochs = ask(audit_sql.epochs(seconds))
    ranges = [Rewindowed(row["begin"], row["until"], row["bucket_seconds"]) for row in ask(audit_sql.REWINDOWED)]
    windows = ask(audit_sql.windows(seconds, ranges))
    gone = ask(audit_sql.gone(seconds)) if _one(ask(dropped.NEWEST), "newest") else []
    begun = {row["node"] for row in epochs} - {row["node"] for row in reaches}  # meanwhile: the next reading has them
    epochs, windows = ([row for row in rows if row["node"] not in begun] for rows in (epochs, windows))
    losses = ask(audit_sql.LOSSES) + ask(audit_sql.REFUSED)
    holes = ask(audit_sql.holes(seconds))
    rollups = [row for table, about in ROLLUPS.items() for row in _rollup(store, table, about.seconds, span)]
    return Readings(
        now=now,
        epochs=tuple(_epochs(row) for row in epochs),
        windows=tuple(_windows(row) for row in windows),
        gone=tuple(Gone(place=_place(row), count=_count(row, ""), lacking=_count(row, "lacking_")) for row in gone),
        reaches=_reaches(reaches, gaps),
        rollups=tuple(
            RollupDifference(
                table=row["table"],
                node=row["node"],
                interface=row["interface"],
                periods=row["periods"],
                first_period=row["first_period"],
                difference=_count(row, ""),
                open_until=row["open_until"],
            )
            for row in rollups
        ),
        losses=tuple(Loss(**row) for row in losses),
        holes=tuple(_hole(row) for row in holes),
        names=names.totals(ask(names.epochs(seconds)), ask(names.READ), ask(names.STORED)),
    )


def settled_until(store: Store, span: Range, *, node_timeout_seconds: float) -> float | None:
    """Up to when all is stored that was seen in a range; seconds since the Unix epoch, None: no node is known.

    It is what `read` and `compare` come to, of the last minutes of the range alone: what is in flight is in these.
    """
    now = _one(store.select(reach_sql.NOW), "now_us") / 1e6
    until = min(span.until.timestamp(), now)
    since = max(span.since.timestamp(), until - _TAIL_SECONDS)
    if since >= until:
        return None
    values: dict[str, str | int] = {
        "since_us": int(since * 1e6),
        "until_us": int(until * 1e6),
        "oldest": max(0, int(since) - _TAIL_SECONDS),
        "newest": int(until) + _TAIL_SECONDS,
        "heard_us": int((now - GONE_SECONDS) * 1e6),
        "node": span.node,
    }

    def ask(sql: str) -> list[dict[str, Any]]:
        return store.select(sql, used(sql, values))

    reaches = _reaches(ask(reach_sql.REACHES), [])
    known = {reach.node for reach in reaches}
    ranges = [Rewindowed(row["begin"], row["until"], row["bucket_seconds"]) for row in ask(audit_sql.REWINDOWED)]
    windows = [row for row in ask(audit_sql.windows(until - since, ranges)) if row["node"] in known]
    found = compare(
        Readings(now=now, epochs=(), windows=tuple(map(_windows, windows)), reaches=reaches, rollups=()),
        until=until,
        node_timeout_seconds=node_timeout_seconds,
    )
    return min(found.settled_until, until) if found.nodes else None


def _one(rows: list[dict[str, Any]], column: str) -> int:
    """The value of a query that has always a row."""
    if not rows or column not in rows[0]:
        raise ServiceUnavailable("ClickHouse answers a question with nothing; is it ClickHouse that answers?")
    return int(rows[0][column])


def _rollup(store: Store, table: str, period: int, span: Range) -> list[dict[str, Any]]:
    if span.node and "node" not in ROLLUPS[table].keys:
        return []  # of one node nothing can be said
    since, until = int(span.since.timestamp()), int(span.until.timestamp())
    where: dict[str, str | int] = {
        "from": -(-since // period) * period,
        "to": until // period * period,
        "node": span.node,
    }
    look, explain = (audit_sql.rollup(table, explain=explain) for explain in (False, True))
    if not store.select(look, used(look, where)):
        return []
    return store.select(explain, used(explain, where | {"order": ORDER_SECONDS}))


def used(sql: str, parameters: Parameters) -> Parameters:
    """The parameters that a question has."""
    return {name: value for name, value in parameters.items() if f"{{{name}:" in sql}


def _count(row: Mapping[str, Any], prefix: str) -> Count:
    return Count(packets=int(row[f"{prefix}packets"]), bytes=int(row[f"{prefix}bytes"]))


def _difference(row: Mapping[str, Any], stage: str) -> Difference:
    return Difference(missing=_count(row, f"{stage}_missing_"), surplus=_count(row, f"{stage}_surplus_"))


def _place(row: Mapping[str, Any]) -> Place:
    return Place(node=row["node"], interface=row["interface"], direction=row["direction"])


def _epochs(row: Mapping[str, Any]) -> EpochTotals:
    return EpochTotals(
        place=_place(row),
        epochs=row["epochs"],
        seen=_count(row, "seen_"),
        emitted=_count(row, "emitted_"),
        coalesced=_count(row, "coalesced_"),
        unclosed_epochs=row["unclosed_epochs"],
        unclosed=_count(row, "unclosed_"),
        non_ip=_count(row, "non_ip_"),
        malformed=_count(row, "malformed_"),
        unknown_link=_count(row, "unknown_link_"),
        ring_full=_count(row, "ring_full_"),
        consumed=_count(row, "consumed_"),
        device=_count(row, "device_"),
        kernel=_difference(row, "kernel"),
        kafka=_difference(row, "kafka"),
    )


def _hole(row: Mapping[str, Any]) -> Hole:
    return Hole(
        place=_place(row),
        minutes=row["minutes"],
        first_minute=row["first_minute"],
        device_packets=int(row["device_packets"]),
        unseen_packets=int(row["unseen_packets"]),
    )


def _reaches(rows: list[dict[str, Any]], gaps: list[dict[str, Any]]) -> tuple[Reach, ...]:
    missing = {
        row["node"]: Gap(since=row["end_us"] / 1e6, first=row["first"], epochs=int(row["epochs"])) for row in gaps
    }
    found = []
    for row in rows:
        recorded_ms, (end_us, ended, start_us, window_seconds) = row["newest"]
        found.append(
            Reach(
                node=row["node"],
                kafka_partition=row["kafka_partition"] if row["stored_until"] else None,
                stored_until=row["stored_until"],
                begun=row["begun_us"] / 1e6,
                inside=bool(row["inside"]),
                ledger_until=start_us / 1e6,
                closed_until=end_us / 1e6,
                read_until=row["read_us"] / 1e6,
                recorded=recorded_ms / 1e3,
                ended=bool(ended),
                window_seconds=window_seconds,
                gap=missing.get(row["node"]),
            )
        )
    return tuple(found)


def _windows(row: Mapping[str, Any]) -> WindowTotals:
    return WindowTotals(
        place=_place(row),
        chosen=_count(row, "chosen_"),
        open=_count(row, "open_"),
        cells=tuple(
            Cell(
                window_begin=start,
                window_seconds=seconds,
                consumed=Count(packets=consumed_packets, bytes=consumed_bytes),
                stored=Count(packets=stored_packets, bytes=stored_bytes),
                last_epoch_end=end_us / 1e6,
            )
            for start, seconds, consumed_packets, consumed_bytes, stored_packets, stored_bytes, end_us in row["cells"]
        ),
    )

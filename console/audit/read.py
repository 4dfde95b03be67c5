"""`ayaflow audit`: reads the ledger and the tables, compares them, prints the result."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TextIO

from common.errors import QueryError
from console.audit import model, settle
from console.audit import report as audit_report
from console.audit import sql as audit_sql
from console.audit.model import (
    Cell,
    Count,
    Difference,
    EpochTotals,
    Loss,
    Place,
    Reach,
    Readings,
    RollupDifference,
    WindowTotals,
)
from console.query.times import EARLIEST, LATEST
from console.store.client import Parameters, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """What is audited: epochs that end in (since, until], and the windows they touch; UTC."""

    since: datetime = EARLIEST
    until: datetime = LATEST
    node: str = ""  # every one

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
        return Range(since=max(self.since, oldest), until=self.until, node=self.node)


def read(store: Store, span: Range) -> Readings:
    """One reading of everything that is compared."""
    since, until = int(span.since.timestamp()), int(span.until.timestamp())
    everything: dict[str, str | int] = {
        "since_us": int(span.since.timestamp() * 1e6),
        "until_us": int(span.until.timestamp() * 1e6),
        "oldest": max(0, since - audit_sql.MARGIN_SECONDS),
        "newest": min(until + audit_sql.MARGIN_SECONDS, int(LATEST.timestamp())),
        "node": span.node,
    }
    seconds = min(until, time.time()) - since

    def ask(sql: str) -> list[dict[str, Any]]:
        return store.select(sql, _used(sql, everything))

    # the ledger before flows: what is stored in between shows as surplus of a window that is still open
    epochs = ask(audit_sql.epochs(seconds))
    windows = ask(audit_sql.windows(seconds))
    reaches = ask(audit_sql.REACH)
    losses = ask(audit_sql.LOSSES)
    rollups = [row for period, table in audit_sql.ROLLUPS.items() for row in _rollup(store, table, period, span)]
    return Readings(
        epochs=tuple(_epochs(row) for row in epochs),
        windows=tuple(_windows(row) for row in windows),
        reaches=tuple(
            Reach(node=row["node"], stored_until=row["stored_until"], ledger_until=row["ledger_until_us"] / 1e6)
            for row in reaches
        ),
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
    )


def _rollup(store: Store, table: str, period: int, span: Range) -> list[dict[str, Any]]:
    since, until = int(span.since.timestamp()), int(span.until.timestamp())
    where: dict[str, str | int] = {
        "from": -(-since // period) * period,
        "to": until // period * period,
        "node": span.node,
    }
    if not store.select(audit_sql.rollup(table, explain=False), where):
        return []
    return store.select(audit_sql.rollup(table, explain=True), where | {"order": model.ORDER_SECONDS})


def run(store: Store, span: Range, *, form: str, out: TextIO, wait_seconds: float = 0) -> int:
    """Audit, print, and return the exit code: 0 when all that is settled is exact.

    `wait_seconds`: wait so long until nothing is in flight any more.
    """
    settling = settle.Settling(time.monotonic, wait_seconds=wait_seconds)
    while settling.again(report := model.compare(read(store, span), now=time.time())):
        time.sleep(settle.PAUSE_SECONDS)
    if form == "json":
        out.write(json.dumps(audit_report.as_json(report, span.since, span.until), ensure_ascii=False) + "\n")
    else:
        audit_report.show(report, out)
    return 0 if report.exact and (report.settled or not wait_seconds) else 1


def _used(sql: str, parameters: Parameters) -> Parameters:
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
        kernel=_difference(row, "kernel"),
        kafka=_difference(row, "kafka"),
    )


def _windows(row: Mapping[str, Any]) -> WindowTotals:
    return WindowTotals(
        place=_place(row),
        chosen=_count(row, "chosen_"),
        open=_count(row, "open_"),
        cells=tuple(
            Cell(
                window_start=start,
                window_seconds=seconds,
                consumed=Count(packets=consumed_packets, bytes=consumed_bytes),
                stored=Count(packets=stored_packets, bytes=stored_bytes),
                last_epoch_end=end_us / 1e6,
            )
            for start, seconds, consumed_packets, consumed_bytes, stored_packets, stored_bytes, end_us in row["cells"]
        ),
    )

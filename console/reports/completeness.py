"""How complete a range is, in a few figures of the ledger: what stands beside every other figure of it. Pure.

The audit proves; this only adds up what the tables say, so that nobody reads a hole as silence.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from common.times import iso
from console.audit.sql import IN_MARGIN, IN_RANGE, NODE, ledger
from schemas.clickhouse import dropped
from schemas.clickhouse.rollups import ROLLUPS, SMALLEST
from schemas.names import NAME_STATUSES

_NAMELESS = tuple(status for status in NAME_STATUSES if status != "named")


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness:
    """Of all traffic of a range, whatever is filtered out of it; packets."""

    seen_packets: int = 0  # by the kernel's hooks; 0: nobody watched, or nothing of it is stored yet
    recorded_packets: int = 0  # as events, or coalesced
    coalesced_packets: int = 0  # of these, those that the kernel added up by flow
    dropped_packets: int = 0  # no room in the ring
    unread_packets: int = 0  # not IP, malformed, or of an unknown link: counted, not recorded
    unstored_packets: int = 0  # recorded, and not read from Kafka: on their way, or missing
    unclosed_epochs: int = 0  # of which the kernel's counters never came
    losses: int = 0  # gaps between the kernel and the tables, and what is refused or went for want of room
    lost_packets: int = 0  # in these, as far as their number is known
    inspected_packets: int = 0  # that may hold a name; 0: names are not read
    copied_packets: int = 0  # of these, those that were copied to be read
    named_packets: int = 0  # of which a name came
    unnamed_packets: int = 0  # of which none came: encrypted, incomplete, malformed, without one, lost
    table: str = SMALLEST  # that the two below are about: what answers was read from
    rollup_missing_records: int = 0  # of its whole periods that are over: rows of flows that a rollup has not
    unkept_packets: int = 0  # of its whole periods that are settled: packets that streams read and that it has not
    settled_until: float | None = None  # seconds since the Unix epoch: all is stored that was seen; None: no node

    def of_traffic(self) -> dict[str, int]:
        """What the kernel saw and what became of it, alone."""
        counted = ("seen_packets", "recorded_packets", "coalesced_packets", "dropped_packets", "unread_packets")
        return {name: getattr(self, name) for name in counted}

    def as_json(self, since: datetime, until: datetime) -> dict[str, Any]:
        """With its range, times as ISO 8601."""
        settled = None if self.settled_until is None else iso(self.settled_until, digits=6)
        return {"since": iso(since, digits=6), "until": iso(until, digits=6), **asdict(self), "settled_until": settled}


def totals(span_seconds: float) -> str:
    """One row: what the ledger has of the range. Parameters as in console.audit.sql."""
    return f"""
SELECT sum(l.seen_packets) AS seen_packets, sum(l.emitted_packets + l.coalesced_packets) AS recorded_packets,
       sum(l.coalesced_packets) AS coalesced_packets, sum(l.ring_full_packets) AS dropped_packets,
       sum(l.non_ip_packets + l.malformed_packets + l.unknown_link_packets) AS unread_packets,
       sumIf(greatest(toInt64(l.emitted_packets + l.coalesced_packets) - toInt64(arraySum(l.consumed_packets)), 0),
             l.closed) AS unstored_packets,
       countIf(NOT l.closed AND l.interface != '') AS unclosed_epochs,
       sumIf(l.inspected_packets, l.closed) AS inspected_packets, sumIf(l.copied_packets, l.closed) AS copied_packets
FROM (SELECT * {ledger(IN_RANGE, span_seconds)}) AS l
"""  # noqa: S608  constants


TABLES = ("flows", *ROLLUPS, "packets")
"""Those that answers about traffic are read from."""


def rollup(table: str) -> str:
    """One row: what a rollup lacks of whole periods [from, to); of one node where it knows them."""
    of_node = NODE if "node" in ROLLUPS[table].keys else "1"
    records = "sum(if(src_addr = dst_addr, 1, 2))" if ROLLUPS[table].sides else "count()"
    return f"""
SELECT greatest(toInt64(flows.records) - toInt64(rolled.records), 0) AS rollup_missing_records
FROM (
    SELECT {records} AS records FROM flows
    WHERE window_begin >= toDateTime({{from:UInt32}}, 'UTC') AND window_begin < toDateTime({{to:UInt32}}, 'UTC')
      AND {dropped.comparable("window_begin")} AND {of_node}
) AS flows, (
    SELECT sum(r.records) AS records FROM {table} AS r
    WHERE r.time >= toDateTime({{from:UInt32}}, 'UTC') AND r.time < toDateTime({{to:UInt32}}, 'UTC')
      AND {dropped.comparable("r.time")} AND {of_node.replace("node =", "r.node =")}
) AS rolled
"""  # noqa: S608  constants


def unkept(table: str, span_seconds: float, gone: Iterable[str]) -> str:
    """One row: packets that streams consumed for whole periods [from, to), and flows, or a rollup, has not.

    Of each node apart, where the table knows them, lest they cancel out. `gone`: days that are told of as losses.
    """
    about = ROLLUPS.get(table)
    node = "node" if about is None or "node" in about.keys else "''"
    time, stored = ("time", "r.packets + r.packets_rev") if about else ("window_begin", "packets + packets_rev")
    once = " AND role != 'responder'" if about and about.sides else ""
    days = ", ".join(f"'{day}'" for day in gone)

    def inside(moment: str) -> str:
        left = f" AND toDate({moment}) NOT IN ({days})" if days else ""
        return f"{moment} >= toDateTime({{from:UInt32}}, 'UTC') AND {moment} < toDateTime({{to:UInt32}}, 'UTC'){left}"

    consumed = f"arrayMap((begin, packets) -> if({inside('begin')}, packets, 0), consumed_windows, consumed_packets)"
    of_node = NODE if node == "node" else "1"
    return f"""
SELECT sum(greatest(n.packets, 0)) AS unkept_packets FROM (
    SELECT node, sum(packets) AS packets FROM (
        SELECT {node} AS node, toInt64(sum(arraySum({consumed}))) AS packets
        {ledger(IN_MARGIN, span_seconds)} GROUP BY node
        UNION ALL
        SELECT {node} AS node, -toInt64(sum({stored})) AS packets FROM {table} AS r
        WHERE {inside(time)} AND {of_node}{once} GROUP BY node
    ) GROUP BY node
) AS n
"""  # noqa: S608  constants


PACKETS = f"""
SELECT greatest(toInt64(flows.packets) - toInt64(kept.packets), 0) AS unkept_packets
FROM (
    SELECT sum(f.packets + f.packets_rev) AS packets FROM flows AS f
    WHERE f.window_begin >= toDateTime({{from:UInt32}}, 'UTC') AND f.window_begin < toDateTime({{to:UInt32}}, 'UTC')
      AND {NODE.replace("node =", "f.node =")}
) AS flows, (
    SELECT sum(p.packets) AS packets FROM packets AS p
    WHERE p.time >= toDateTime({{from:UInt32}}, 'UTC') AND p.time < toDateTime({{to:UInt32}}, 'UTC')
      AND toStartOfMinute(p.time) >= toStartOfMinute(toDateTime({{from:UInt32}}, 'UTC'))
      AND {NODE.replace("node =", "p.node =")}
) AS kept
"""  # noqa: S608  constants
"""One row: what the table packets lacks of whole windows [from, to): it keeps them for a short time, or began later."""


def of_live(totals: Mapping[str, int]) -> Completeness:
    """From sums of live messages (console.live.state.PASSED): what was heard since it was first listened to."""
    unread = sum(totals[f"{why}_packets"] for why in ("non_ip", "malformed", "unknown_link"))
    return Completeness(
        seen_packets=totals["packets"] + totals["ring_full_packets"] + unread,
        recorded_packets=totals["packets"],
        coalesced_packets=totals["coalesced_packets"],
        dropped_packets=totals["ring_full_packets"],
        unread_packets=unread,
    )


def of(
    ledger: Mapping[str, Any],
    losses: Iterable[Mapping[str, Any]] = (),
    names: Iterable[Mapping[str, Any]] = (),
    *,
    table: str = SMALLEST,
    rollup_missing_records: int = 0,
    unkept_packets: int = 0,
    settled_until: float | None = None,
) -> Completeness:
    """From the row of `totals`, and the rows of LOSSES and REFUSED (console.audit.sql) and READ (console.audit.names).

    `settled_until`: seconds since the Unix epoch, infinite: for good.
    """
    found, read = list(losses), list(names)
    return Completeness(
        **{name: max(0, int(value)) for name, value in ledger.items()},
        losses=len(found),
        lost_packets=sum(int(each["lost"] or 0) for each in found if "names" not in each["kind"]),
        named_packets=sum(int(row["named"]) for row in read),
        unnamed_packets=sum(int(row[name]) for row in read for name in (*_NAMELESS, "lost")),
        table=table,
        rollup_missing_records=rollup_missing_records,
        unkept_packets=unkept_packets,
        settled_until=settled_until if settled_until is not None and math.isfinite(settled_until) else None,
    )

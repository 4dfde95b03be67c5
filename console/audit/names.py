"""The audit of names: what the kernel copied, what was read of it, what came of that, what is stored. Pure.

    kernel    an epoch's counters: inspected = copied + skipped (ring full, over budget, table full)
    kafka     an epoch: copied = what the producer read of it, as streams heard by the names topic
    producer  what it read: open before + copies = in rows + unused + lost + open, message by message
    store     an insert: the transactions that names_ledger says it has = those in the table names

What was copied and not read yet is in flight, until copies of a later epoch of the same ring were read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from console.audit.sql import IN_RANGE, NODE, ledger
from schemas.names import NAME_STATUSES

SKIPPED = ("ring_full", "over_budget", "table_full")
_LATER = f"clock > toDateTime({{oldest:UInt32}}, 'UTC') AND {NODE}"
_NEAR = f"{_LATER} AND clock <= toDateTime({{newest:UInt32}}, 'UTC')"
"""Messages that may have copies of epochs in the range: they are read in seconds, or when a producer is back."""
_LATER_EPOCHS = 2  # CPUs write the end of one and the beginning of the next at once
_IN_RANGE = f"""clock > fromUnixTimestamp64Micro({{since_us:Int64}}, 'UTC')
      AND clock <= fromUnixTimestamp64Micro({{until_us:Int64}}, 'UTC') AND {NODE}"""


def epochs(span_seconds: float) -> str:
    """What the kernel inspected and copied, and what was read of it: a row a node."""
    counted = ", ".join(
        f"sum(l.{name}_packets) AS {name}" for name in ("inspected", "copied", *(f"skipped_{why}" for why in SKIPPED))
    )
    skipped = " + ".join(f"k.skipped_{why}" for why in SKIPPED)
    inspected = f"{ledger(IN_RANGE, span_seconds)} AND closed AND inspected_packets > 0"
    return f"""
SELECT k.node AS node, sum(k.inspected) AS inspected, sum(k.copied) AS copied,
       {", ".join(f"sum(k.skipped_{why}) AS skipped_{why}" for why in SKIPPED)},
       sum(abs(toInt64(k.inspected) - toInt64(k.copied + {skipped}))) AS kernel,
       sum(r.read) AS read,
       sumIf(greatest(toInt64(k.copied) - toInt64(r.read), 0), k.last + {_LATER_EPOCHS} <= n.newest) AS missing,
       sumIf(greatest(toInt64(k.copied) - toInt64(r.read), 0), k.last + {_LATER_EPOCHS} > n.newest) AS in_flight,
       sum(greatest(toInt64(r.read) - toInt64(k.copied), 0)) AS surplus
FROM (
    SELECT l.node AS node, l.ring_id AS ring_id, l.epoch AS epoch, l.last_epoch AS last, {counted}
    FROM (SELECT * {inspected}) AS l
    GROUP BY node, ring_id, epoch, last
) AS k
GLOBAL LEFT JOIN (
    SELECT m.node AS node, m.ring_id AS ring_id, w.epoch AS epoch, sum(m.copies_of_it) AS read
    FROM (
        SELECT node, ring_id, each, copies_of_it FROM names_ledger
        ARRAY JOIN epochs AS each, epoch_copies AS copies_of_it
        WHERE {_NEAR}
    ) AS m GLOBAL ASOF INNER JOIN (SELECT DISTINCT node, ring_id, epoch, last_epoch {inspected}) AS w
        ON m.node = w.node AND m.ring_id = w.ring_id AND m.each >= w.epoch
    WHERE m.each <= w.last_epoch
    GROUP BY node, ring_id, epoch
) AS r ON k.node = r.node AND k.ring_id = r.ring_id AND k.epoch = r.epoch
GLOBAL LEFT JOIN (
    SELECT node, ring_id, max(arrayMax(epochs)) AS newest FROM names_ledger WHERE notEmpty(epochs) AND {_LATER}
    GROUP BY node, ring_id
) AS n ON k.node = n.node AND k.ring_id = n.ring_id
GROUP BY node
ORDER BY node
"""  # noqa: S608  constants of this file


READ = f"""
SELECT node, {", ".join(f"sum({status}_copies) AS {status}" for status in NAME_STATUSES)},
       sum(unused_copies) AS unused, sum(lost_copies) AS lost, sum(abs(missing_copies)) AS unexplained,
       argMax(open_copies, clock) AS open, sum(transactions) AS transactions
FROM names_ledger
WHERE {_IN_RANGE}
GROUP BY node
ORDER BY node
"""  # noqa: S608  constants of this file
"""What came of the copies that were read: a row a node."""

_BLOCK = "node, topic_id, kafka_partition, kafka_offset_start"
_FIRST = "(SELECT if(count() = 0, now(), min(names.received)) FROM names)"
"""As far as names goes back: its retention is shorter than that of its ledger. Without rows it goes nowhere."""
STORED = f"""
SELECT node, sum(abs(toInt64(told) - toInt64(stored))) AS differing
FROM (
    SELECT {_BLOCK}, sum(told) AS told, sum(stored) AS stored, max(told_at) AS received
    FROM (
        SELECT {_BLOCK}, toInt64(transactions) AS told, toInt64(0) AS stored, received AS told_at
        FROM names_ledger WHERE {_IN_RANGE} AND received >= {_FIRST}
        UNION ALL
        SELECT {_BLOCK}, toInt64(0) AS told, toInt64(count) AS stored, toDateTime(0, 'UTC') AS told_at
        FROM names WHERE {NODE}
          AND received BETWEEN (SELECT min(received) FROM names_ledger WHERE {_IN_RANGE})
                           AND (SELECT max(received) FROM names_ledger WHERE {_IN_RANGE})
    )
    GROUP BY {_BLOCK}
)
WHERE toUnixTimestamp(received) > 0
  AND (topic_id, kafka_partition, kafka_offset_start) NOT IN (
      SELECT topic_id, kafka_partition, max(kafka_offset_start) FROM names_ledger GROUP BY topic_id, kafka_partition)
GROUP BY node
ORDER BY node
"""  # noqa: S608  constants of this file
"""Inserts whose rows are not what names_ledger says, but for the newest of each partition: a row a node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NameTotals:
    """The names of one node. All but `transactions` are packets, or their copies."""

    node: str
    inspected: int = 0
    copied: int = 0
    skipped_ring_full: int = 0
    skipped_over_budget: int = 0
    skipped_table_full: int = 0
    read: int = 0  # of those that were copied
    in_flight: int = 0  # copied, and not read yet
    named: int = 0  # of those that were read in this time
    incomplete: int = 0
    malformed: int = 0
    encrypted: int = 0
    nameless: int = 0
    unused: int = 0
    lost: int = 0
    open: int = 0
    transactions: int = 0
    kernel: int = 0  # inspected, and neither copied nor skipped
    missing: int = 0  # copied, and never read
    surplus: int = 0  # read, and not copied
    unexplained: int = 0  # read, and of no end
    differing: int = 0  # transactions that are not stored as it is told

    @property
    def differs(self) -> bool:
        """Some stage is known to be wrong."""
        return bool(self.kernel or self.missing or self.surplus or self.unexplained or self.differing)


def totals(*answers: Iterable[Mapping[str, Any]]) -> tuple[NameTotals, ...]:
    """From the rows of epochs, READ and STORED."""
    nodes: dict[str, dict[str, Any]] = {}
    for row in (row for answer in answers for row in answer):
        known = nodes.setdefault(row["node"], {"node": row["node"]})
        known |= {name: int(value) for name, value in row.items() if name != "node"}
    return tuple(NameTotals(**nodes[node]) for node in sorted(nodes))


def differences(names: Iterable[NameTotals]) -> list[str]:
    """What is wrong, in sentences."""
    found = []
    for each in names:
        for count, what in (
            (each.kernel, "packets that may hold a name were neither copied nor counted as skipped"),
            (each.missing, "copies of packets never came to streams, although later ones did"),
            (each.surplus, "copies of packets came to streams that the kernel did not count"),
            (each.unexplained, "copies were read by the producer, and it does not say what came of them"),
            (each.differing, "transactions are not in the table names as the table names_ledger says"),
        ):
            if count:
                found.append(f"{each.node}: names: {count:,} {what}.")
    return found


def note(names: Iterable[NameTotals]) -> str | None:
    """What may be said of names besides; None: nothing was inspected."""
    every = [*names]
    inspected, copied = sum(each.inspected for each in every), sum(each.copied for each in every)
    if not inspected:
        return None
    skipped = [
        f"{count:,} skipped ({why.replace('_', ' ')})"
        for why in SKIPPED
        if (count := sum(getattr(each, f"skipped_{why}") for each in every))
    ]
    ends = [
        f"{count:,} {what}"
        for what in (*NAME_STATUSES, "unused", "lost", "open")
        if (count := sum(getattr(each, what) for each in every))
    ]
    parts = " + ".join([f"{copied:,} copied", *skipped])
    return (
        f"Names: {inspected:,} packets that may hold one = {parts}. Of what was read: {', '.join(ends) or 'nothing'}."
    )

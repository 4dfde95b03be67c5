"""What the audit found, in sentences: of what it speaks, what differs, what is not settled and why. Pure."""

import math
from collections.abc import Iterable
from itertools import groupby

from common.times import iso
from console.audit import names
from console.audit.around import Around, Held
from console.audit.model import Report, Row
from console.audit.readings import Count, Difference, Hole, Loss, RollupDifference, total
from console.audit.settled import Reason, Settled, Standing
from schemas.clickhouse import dropped

STAGES = {
    "kernel": "the kernel's own outcomes do not add up to what it saw",
    "kafka": "what the kernel handed over is not what streams consumed from Kafka",
    "store": "what streams consumed is not what the table flows holds",
}
_LOST = {"events": "events of the ring", "entries": "coalesced entries", "copies": "copies for names"}
_MOST_NODES = 20


def heading(report: Report, since: float | None) -> str:
    """Of what the audit speaks: the range, up to which moment, the nodes."""
    begin = "From the first that is kept" if since is None else f"From {iso(since)}"
    named = [node.node + _standing(node) for node in report.nodes[:_MOST_NODES]]
    if more := len(report.nodes) - len(named):
        named.append(f"{more:,} more")
    nodes = ": ".join(filter(None, (_plural(len(report.nodes), "node"), ", ".join(named))))
    return f"{begin} until {_moment(report.until)}; {nodes}."


def _standing(node: Settled) -> str:
    if node.standing is Standing.ENDED:
        return f" (ended at {_moment(node.reach.closed_until)})"
    if node.standing is Standing.GONE:
        return f" (nothing since {_moment(node.reach.closed_until)})"
    return ""


def sentences(report: Report, around: Around) -> list[str]:
    """The verdict first."""
    notes = [*_notes(report, around)]
    found = _differences(report)
    late = _unsettled(report, around)
    if found:
        return ["Not exact:", *(f"  {line}" for line in found), *late, *notes]
    if late:
        return [*late, *notes]
    if report.empty:
        return ["There is nothing to audit yet: the ledger and the table flows are empty in this range.", *notes]
    return [_exact(report), *notes]


def _differences(report: Report) -> list[str]:
    found = [line for stage in STAGES for row in report.rows if (line := _wrong(row, stage))]
    found += [_unclosed(row) for row in report.rows if row.unclosed_epochs]
    found += [_unseen(row, row.hole) for row in report.rows if row.hole]
    found += [_lost(loss) for loss in report.losses if loss.kind != dropped.KIND]
    found += _went(report.losses)
    found += [
        f"{_place(row)}: of the days that went, {amount(Difference.of(row.gone_lacking).missing)} fewer and"
        f" {amount(Difference.of(row.gone_lacking).surplus)} more went, or came since, than streams consumed for them."
        for row in report.rows
        if row.gone_lacking
    ]
    found += names.differences(report.names)
    found += [
        f"{rollup.table} differs from flows by {amount(rollup.difference)} in {rollup.periods} period(s) from"
        f" {iso(rollup.first_period)} on ({_where(rollup)})."
        for rollup in report.rollups
    ]
    return found


def _wrong(row: Row, stage: str) -> str:
    difference: Difference = getattr(row, stage)
    if not difference:
        return ""
    parts = [f"{amount(difference.missing)} missing"] if difference.missing else []
    parts += [f"{amount(difference.surplus)} too many"] if difference.surplus else []
    since = ""
    if stage == "store" and row.first_wrong_window is not None:
        since = f", from the window of {iso(row.first_wrong_window)} on"
    return f"{_place(row)}: {STAGES[stage]}: {' and '.join(parts)}{since}."


def _place(row: Row) -> str:
    return f"{row.place.node} {row.place.interface} {row.place.direction}"


def _unclosed(row: Row) -> str:
    return (
        f"{_place(row)}: {amount(row.unclosed)} stored of"
        f" {row.unclosed_epochs:,} epoch(s) whose counters never came: their ring was given up, or messages were lost."
        " What else the kernel saw in them is not known."
    )


def _unseen(row: Row, hole: Hole) -> str:
    return (
        f"{_place(row)}: of {_plural(hole.device_packets, 'packet')} by the device's own counters in"
        f" {_plural(hole.minutes, 'minute')} from {iso(hole.first_minute)} on, {hole.unseen_packets:,} were not seen:"
        " the hook was not there, or something before it (XDP, TCX, a full backlog) took them."
    )


def _lost(loss: Loss) -> str:
    since = f" (noticed at {iso(loss.noticed)})"
    if loss.kind in {"messages", "names"}:
        topic = "names, " if loss.kind == "names" else ""
        return (
            f"{topic}partition {loss.kafka_partition}: up to {loss.lost:,} message(s), offsets {loss.first:,} to"
            f" {loss.behind - 1:,}, were removed from Kafka before streams acknowledged them{since}, see"
            " kafka.packets_retention_hours, or somebody moved the consumer group over them."
        )
    if loss.kind == "idle":
        return (
            f"{loss.node}: nothing was counted from {iso(loss.first / 1e9)} to {iso(loss.behind / 1e9)}: no producer"
            " had told the kernel program that one lives; see capture.orphan_timeout_seconds."
        )
    if loss.kind == "refused":
        return (
            f"{loss.node}: {loss.lost:,} packet(s) of the window {iso(loss.first)} are in the table refused and not in"
            f" flows, since ClickHouse refuses them{since}; see its column error. They are stored when it takes them."
        )
    if loss.kind == "refused names":
        return (
            f"{loss.node}: {loss.lost:,} row(s) of names of {iso(loss.first)} are in the table refused, not in names,"
            f" since ClickHouse refuses them{since}; see its column error. They are stored when it takes them."
        )
    if what := _LOST.get(loss.kind):
        count = f"{loss.lost:,}" if loss.lost is not None else f"{loss.behind - loss.first:,} bytes of"
        return f"{loss.node}: {count} {what} never came{since}; each is one packet or more."
    # kinds that are told by their name: what is known of them is in the row
    where = f"{loss.node or 'all nodes'}, partition {loss.kafka_partition}"
    count = "" if loss.lost is None else f" {loss.lost:,}"
    return f"{where}: lost:{count} {loss.kind} from {loss.first:,} to {loss.behind:,}{since}."


def _went(losses: Iterable[Loss]) -> list[str]:
    """A sentence a drop."""
    of_drops = sorted(
        (loss for loss in losses if loss.kind == dropped.KIND), key=lambda loss: (loss.first, loss.noticed)
    )
    said = []
    for (first, noticed), each in groupby(of_drops, key=lambda loss: (loss.first, loss.noticed)):
        nodes = [*each]
        packets = sum(loss.lost or 0 for loss in nodes)
        whose = nodes[0].node if len(nodes) == 1 else f"{len(nodes):,} nodes"
        said.append(
            f"{iso(first / 1e9)[:10]}: {packets:,} packet(s) of {whose} were dropped by the cap at {iso(noticed)}, for"
            " want of room (clickhouse.max_bytes, reserve_bytes); the table dropped has more."
        )
    return said


def _unsettled(report: Report, around: Around) -> list[str]:
    """What is not settled, and what is known of why."""
    if report.settled:
        return []
    moment = f" since {_moment(report.settled_until)}" if report.settled_until else ""
    lines = [f"Not settled{moment}:"]
    lines += [f"  {_behind(node, around)}" for node in report.behind]
    lines += [f"  {_rollup_overdue(rollup)}" for rollup in report.rollups_in_flight if rollup.overdue]
    if around.late():
        lines.append(f"  {around.backlog_said}.")
    if around.held:
        lines.append(f"  {_held(around.held)}")
    lines += [f"  streams, as asked from here: {_ended(trouble)}" for trouble in around.troubles]
    return lines


def _behind(node: Settled, around: Around) -> str:
    reach = node.reach
    if not reach.recorded:
        return (
            f"{node.node}: windows from {_moment(reach.closed_until)} on are stored, and none of its epochs is known."
        )
    since = _moment(node.until)
    if node.reason is Reason.FLIGHT:
        return f"{node.node}: packets of windows from {since} on are consumed and not stored."
    if node.reason is Reason.GAP and reach.gap:
        return (
            f"{node.node}: {reach.gap.epochs:,} epoch(s) from {reach.gap.first:,} on, which began at {since}, are not"
            " in the ledger, although later ones are."
        )
    return _newest(node, since, around)


def _newest(node: Settled, since: str, around: Around) -> str:
    """Why nothing came after its newest epoch."""
    nothing = f"{node.node}: nothing that it saw after {since} is in the ledger"
    if around.holds_back(node.node):
        return f"{nothing}, and its producer has not sent all that it has."
    if around.kafka_unknown:
        return f"{nothing}, and Kafka cannot be asked for it."
    if not node.silent:
        return (
            f"{node.node}: its newest epoch ended at {since}, and was recorded just now: streams is catching up, or the"
            " clock of that node is behind."
        )
    if around.nothing_waits:
        return (
            f"{node.node} has sent nothing since {since}. If it was switched off, audit until then: --until {since};"
            " else look there: `ayaflow doctor`."
        )
    return f"{nothing}."


def _where(rollup: RollupDifference) -> str:
    """As far as the rollup knows it."""
    return f"{rollup.node} {rollup.interface}".strip() or "all nodes"


def _rollup_overdue(rollup: RollupDifference) -> str:
    return (
        f"{rollup.table} lacks {amount(rollup.difference)} that are in flows ({_where(rollup)});"
        " streams puts them there when it starts."
    )


def _held(held: Held) -> str:
    parts = [f"has {held.spool_bytes:,} bytes on disk that are not sent yet"] if held.spool_bytes else []
    parts += [f"says: {_ended(held.error)}"] if held.error else []
    return f"The producer of {held.node} {_ended(', and '.join(parts))}"


def _notes(report: Report, around: Around) -> Iterable[str]:
    """What is to be known besides, whatever the verdict."""
    if around.kafka_unknown:
        yield f"Whether Kafka holds more is not known: this is what the ledger proves. {_ended(around.backlog_said)}"
    elif around.backlog and around.backlog.get("messages"):
        age = around.backlog.get("oldest_age_seconds", 0)
        messages = _plural(around.backlog["messages"], "message")
        yield f"Kafka holds {messages} that streams has not acknowledged; the oldest is {age:.0f} s old."
    if around.held and report.settled:
        yield _held(around.held)
    if said := names.note(report.names):
        yield said
    if ahead := total(row.in_flight.surplus for row in report.rows):
        yield f"{amount(ahead)} more are stored ahead of their ledger row."


def _exact(report: Report) -> str:
    rows = report.rows
    seen = total(row.seen for row in rows)
    stored = total(row.stored for row in rows) - total(row.in_flight.surplus for row in rows)
    parts = [f"{amount(stored)} stored"]
    for name, count in (
        ("not IP", total(row.non_ip for row in rows)),
        ("malformed", total(row.malformed for row in rows)),
        ("of devices with unknown link headers", total(row.unknown_link for row in rows)),
        ("dropped and counted", total(row.dropped for row in rows)),
        ("in flight", total(row.in_flight.missing for row in rows)),
    ):
        if count:
            parts.append(f"{amount(count)} {name}")
    coalesced = total(row.coalesced for row in rows)
    detail = f" {amount(coalesced)} of them came coalesced by flow." if coalesced else ""
    coming = total(rollup.difference for rollup in report.rollups_in_flight)
    rollups = f"The rollups still lack {amount(coming)}." if coming else "The rollups agree."
    nodes = _plural(len({row.place.node for row in rows}), "node")
    return f"Exact: {amount(seen)} seen by the kernel on {nodes} = {' + '.join(parts)}.{detail} {rollups}"


def amount(count: Count) -> str:
    """`1 packet (60 bytes)`."""
    return f"{_plural(count.packets, 'packet')} ({count.bytes:,} bytes)"


def _plural(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _moment(seconds: float) -> str:
    return iso(seconds) if math.isfinite(seconds) else "now"


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."

"""How complete a range is, in a sentence below a table. Pure."""

from datetime import datetime

from common.times import iso
from console.reports.completeness import Completeness
from console.show import tables

_BEHIND_SECONDS = 1.0  # of a range that ends now


def sentence(found: Completeness, until: datetime) -> str:
    """`99.9 % of 1,000 packets that the kernel saw are recorded (…); settled until …`. Times are UTC."""
    parts = [of_traffic(found)]
    if found.losses:
        parts.append(
            f"{found.losses:,} {'loss' if found.losses == 1 else 'losses'} of {found.lost_packets:,} packets or more "
            "(see ayaflow audit)"
        )
    if found.rollup_missing_records:
        lacking = f"{found.rollup_missing_records:,} rows of flows"
        parts.append(f"{found.table} lacks {lacking} (see ayaflow audit --rollups)")
    if found.unkept_packets:
        parts.append(f"{found.unkept_packets:,} packets are not, or no longer, in the table {found.table}")
    if named := found.named_packets + found.unnamed_packets:
        parts.append(f"{tables.percent(found.named_packets, named)} of what was read for names has one")
    if found.settled_until is not None:
        whole = found.settled_until > until.timestamp() - _BEHIND_SECONDS
        parts.append("all of it is settled" if whole else f"settled until {iso(found.settled_until)}")
    return "; ".join(parts)


def of_traffic(found: Completeness) -> str:
    """The part about what the kernel saw."""
    seen = found.seen_packets
    if not seen:
        return "nothing says how complete this is: no packet was counted in this time"
    told = {
        f"{tables.percent(found.coalesced_packets, seen)} added up by flow": found.coalesced_packets,
        f"{found.dropped_packets:,} dropped": found.dropped_packets,
        f"{found.unread_packets:,} not IP or not readable": found.unread_packets,
        f"{found.unstored_packets:,} not stored yet": found.unstored_packets,
        f"{found.unclosed_epochs:,} epochs unclosed": found.unclosed_epochs,
    }
    more = ", ".join(text for text, count in told.items() if count)
    of_all = f"{tables.percent(found.recorded_packets, seen)} of {seen:,} packets that the kernel saw are recorded"
    return f"{of_all} ({more})" if more else of_all

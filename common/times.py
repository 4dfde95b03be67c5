"""How a moment is written for people and programs. Pure."""

from datetime import UTC, datetime
from typing import Literal

_CUTS = {0: "seconds", 3: "milliseconds", 6: "microseconds"}


def iso(moment: datetime | float, *, digits: Literal[0, 3, 6] = 0) -> str:
    """ISO 8601 in UTC: `2026-05-01T12:00:00Z`. A number is seconds since 1970.

    `digits` of the second's fraction are kept; the rest is cut off, not rounded.
    """
    utc = moment.astimezone(UTC) if isinstance(moment, datetime) else datetime.fromtimestamp(moment, UTC)
    return utc.isoformat(timespec=_CUTS[digits]).removesuffix("+00:00") + "Z"

"""How a moment is written for people and programs. Pure, but for the zone of this machine."""

import re
from datetime import UTC, datetime
from typing import Literal

_CUTS = {0: "seconds", 3: "milliseconds", 6: "microseconds"}
_UTC = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")


def iso(moment: datetime | float, *, digits: Literal[0, 3, 6] = 0) -> str:
    """ISO 8601 in UTC: `2026-05-01T12:00:00Z`. A number is seconds since 1970.

    `digits` of the second's fraction are kept; the rest is cut off, not rounded.
    """
    utc = moment.astimezone(UTC) if isinstance(moment, datetime) else datetime.fromtimestamp(moment, UTC)
    return utc.isoformat(timespec=_CUTS[digits]).removesuffix("+00:00") + "Z"


def local(text: str) -> str:
    """A text with its times in UTC, as `iso` writes them, by this machine's clock: `2026-05-01T14:00:00+02:00`."""
    return _UTC.sub(lambda found: datetime.fromisoformat(found[0]).astimezone().isoformat(), text)

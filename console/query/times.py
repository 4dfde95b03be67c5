"""Points in time as people write them: `10m`, `yesterday`, `2026-05-01T12:00`. Pure; the clock is given."""

import re
from datetime import UTC, datetime, timedelta

from common.errors import QueryError
from common.times import iso

FORMS = (
    "10m, 2h, 1d, 30s (ago), now, today, yesterday, or ISO 8601 such as 2026-05-01T12:00:00Z (UTC without an offset)"
)
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(2106, 2, 7, tzinfo=UTC)  # ClickHouse's DateTime ends here

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"-?((?:\d+(?:\.\d+)?[smhdw])+)")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def parse(text: str, *, now: datetime, option: str = "time") -> datetime:
    """A moment, in UTC. `now` is aware; errors name `option`. Raises QueryError that lists the forms."""
    word = text.strip().lower()
    now = now.astimezone(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    words = {"now": now, "today": midnight, "yesterday": midnight - timedelta(days=1)}
    if word in words:
        return words[word]
    ago = _AGO.fullmatch(word)
    if ago:
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(ago[1]))
        return max(EARLIEST, now - timedelta(seconds=min(seconds, now.timestamp())))
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise QueryError(f"{option} {text!r} is not a time; write {FORMS}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        moment = LATEST + timedelta(days=1)
    if not EARLIEST <= moment <= LATEST:
        raise QueryError(f"{option} {text!r} is outside of 1970 to 2106, which is what the tables can hold")
    return moment


def parse_range(since: str, until: str, *, now: datetime, prefix: str = "--") -> tuple[datetime, datetime]:
    """`--since` and `--until`; the first is earlier. Raises QueryError; `prefix` is how it names the two."""
    names = f"{prefix}since", f"{prefix}until"
    first, last = parse(since, now=now, option=names[0]), parse(until, now=now, option=names[1])
    if first >= last:
        raise QueryError(f"{names[0]} {since} ({iso(first)}) is not before {names[1]} {until} ({iso(last)})")
    return first, last

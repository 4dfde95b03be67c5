"""Points in time as people write them: `10m`, `yesterday`, `2026-05-01T12:00`. The clock is given."""

import re
from datetime import UTC, datetime, time, timedelta

from common.errors import QueryError
from common.times import iso

FORMS = (
    "10m, 2h, 1d, 30s (ago), now, today, yesterday, or ISO 8601 such as 2026-05-01T12:00:00Z (UTC without an offset)"
)
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(2106, 2, 7, tzinfo=UTC)  # ClickHouse's DateTime ends here

_DAYS = {"today": 0, "yesterday": 1}  # ago
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"-?((?:\d+(?:\.\d+)?[smhdw])+)")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def parse(text: str, *, now: datetime, option: str = "time", local: bool = False) -> datetime:
    """A moment, in UTC. `now` is aware; errors name `option`. Raises QueryError that lists the forms.

    `local`: days, and times without an offset, are those of this machine's clock; of an hour that it shows twice, the
    first is meant.
    """
    word = text.strip().lower()
    midnight = datetime.combine(now.astimezone(None if local else UTC), time.min)
    now = now.astimezone(UTC)
    if word == "now":
        return now
    if word in _DAYS:
        return _utc(midnight - timedelta(days=_DAYS[word]), local=local)
    ago = _AGO.fullmatch(word)
    if ago:
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(ago[1]))
        return max(EARLIEST, now - timedelta(seconds=min(seconds, now.timestamp())))
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        forms = FORMS.replace("UTC without", "local time without") if local else FORMS
        raise QueryError(f"{option} {text!r} is not a time; write {forms}") from None
    try:
        moment = _utc(moment, local=local)
    except (OverflowError, ValueError):
        moment = LATEST + timedelta(days=1)
    if not EARLIEST <= moment <= LATEST:
        raise QueryError(f"{option} {text!r} is outside of 1970 to 2106, which is what the tables can hold")
    return moment


def _utc(moment: datetime, *, local: bool) -> datetime:
    """In UTC; without an offset it is UTC already, or of this machine's clock."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None and not local else moment.astimezone(UTC)


def parse_range(
    since: str | None, until: str | None, *, now: datetime, prefix: str = "--", local: bool = False
) -> tuple[datetime, datetime]:
    """`--since` and `--until`; the first is earlier, None is an open end. Raises QueryError; `prefix` is how it names
    the two.
    """
    first, last = EARLIEST, LATEST
    if since is not None:
        first = parse(since, now=now, option=f"{prefix}since", local=local)
    if until is not None:
        last = parse(until, now=now, option=f"{prefix}until", local=local)
    if first >= last:
        raise QueryError(f"{prefix}since {since} ({iso(first)}) is not before {prefix}until {until} ({iso(last)})")
    return first, last

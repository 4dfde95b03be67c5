"""What of a LiveStats message is taken: anybody may write to the topic, and says what he likes. Pure.

What a message says is shown, added to and compared, so each value is held to what it can be.
"""

import ipaddress
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from common.errors import DecodeError
from schemas.fields import FIELDS, MOST_NAME, Kind
from schemas.names import MOST_DOMAIN

MOST_OCTETS = 4 << 20  # of a message: 1,000 connections take 200 kB
MOST_ROWS = 10_000
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2106, 1, 1, tzinfo=UTC)
_MOST_COUNT = 2**53  # what JSON's readers take; bytes of eight days at 100 Gbit/s
_MOST_MS = 2**31
_LIVE = tuple(field for field in FIELDS if field.live and field.name != "node")


def check(stats: Mapping[str, Any]) -> None:
    """Raises DecodeError with the first value that cannot be."""
    _name(stats, "node", empty=False)
    _time(stats, "time")
    _number(stats, "interval_ms", _MOST_MS)
    for name in ("active_flows", "open_windows", "lag_messages"):
        _number(stats, name, _MOST_COUNT)
    for name in ("interfaces", "top"):
        if len(stats[name]) > MOST_ROWS:
            raise DecodeError(f"a LiveStats with {len(stats[name])} {name}")
    for interface in stats["interfaces"]:
        _name(interface, "interface")
        for name, value in interface.items():
            if name not in {"interface", "direction"}:
                _number(interface, name, _MOST_COUNT, value)
    for flow in stats["top"]:
        _flow(flow)


def _flow(flow: Mapping[str, Any]) -> None:
    for field in _LIVE:
        for name in field.names:
            match field.kind:
                case Kind.NAME | Kind.CHOICE:
                    _name(flow, name)
                case Kind.DOMAIN:
                    _name(flow, name, most=MOST_DOMAIN)
                case Kind.ADDRESS:
                    _address(flow, name, empty=field.tunnel)
                case Kind.TIME:
                    _time(flow, name)
                case _:
                    _number(flow, name, min(field.largest, _MOST_COUNT), least=field.smallest)


def _name(of: Mapping[str, Any], name: str, *, empty: bool = True, most: int = MOST_NAME) -> None:
    text = of[name]
    if not isinstance(text, str) or len(text) > most or not (text or empty):
        raise DecodeError(f"a LiveStats whose {name} is no name: {str(text)[:40]!r}")


def _time(of: Mapping[str, Any], name: str) -> None:
    moment = of[name]
    if not isinstance(moment, datetime) or not _FIRST <= moment < _LAST:
        raise DecodeError(f"a LiveStats whose {name} is before 1970 or after 2105")


def _number(of: Mapping[str, Any], name: str, most: int, value: Any = None, *, least: int = 0) -> None:
    number = of[name] if value is None else value
    if not isinstance(number, int) or not least <= number <= most:
        raise DecodeError(f"a LiveStats whose {name} is impossible: {str(number)[:40]}")


def _address(of: Mapping[str, Any], name: str, *, empty: bool) -> None:
    text = of[name]
    try:
        if text or not empty:
            ipaddress.ip_address(text[:64])
    except (ValueError, TypeError) as error:
        raise DecodeError(f"a LiveStats whose {name} is no address: {str(text)[:40]!r}") from error

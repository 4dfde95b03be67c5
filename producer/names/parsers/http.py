"""Host and method of an HTTP/1 request (RFC 9112). Pure."""

import re
from typing import NamedTuple

METHODS = ("", "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE")
"""Known ones; the column of Names has their places, 0 for others."""

_NUMBERS = {method.encode(): number for number, method in enumerate(METHODS)}
_LINE = re.compile(rb"([A-Z][A-Z_-]{0,31}) ([^\s]{1,8192}) (HTTP/[12]\.[0-9])(\r?\n)?")
_HOST = re.compile(rb"\r?\nhost:[ \t]*([^\r\n]*)(\r?\n)?", re.IGNORECASE)
_END = re.compile(rb"\r?\n\r?\n")
_NAME = re.compile(r"(?:\[([0-9a-fA-F:.%]+)\]|([^\[\]:@/\s\\]{1,255}))(?::[0-9]{1,5})?", re.ASCII)


class Request(NamedTuple):
    """What of a request's head could be read."""

    method: int  # place in METHODS
    host: str  # lower case, without port and final dot; "" without one
    version: str  # http/1.1, as ALPN has it
    is_whole: bool  # all of the head is there, or Host is


def request(octets: bytes) -> Request | None:
    """Of a request's first octets; None when they are none."""
    line = _LINE.match(octets)
    if line is None:
        return None
    end = _END.search(octets)
    head = octets[: end.end()] if end else octets
    found = _HOST.search(head, line.end(3))
    host = _host(found[1]) if found and found[2] else ""
    if not host and line[1] == b"CONNECT":
        host = _host(line[2])
    return Request(_NUMBERS.get(line[1], 0), host, line[3].decode("ascii").lower(), end is not None or bool(host))


def _host(octets: bytes) -> str:
    try:
        match = _NAME.fullmatch(octets.strip(b" \t").decode("ascii"))
    except UnicodeDecodeError:
        return ""
    if match is None or not (match[1] or match[2]).isprintable():
        return ""
    return (match[1] or match[2]).lower().removesuffix(".")

"""What the headers that browsers send say of the page behind a request, and who is refused by them. Pure.

A page of any site can make the browser of this machine ask 127.0.0.1: by a form, an image, a script, a WebSocket.
Browsers say so in Sec-Fetch-Site and Origin; a page that reaches us under a name of its own (DNS rebinding) shows in
Host. Programs that are no browsers send neither Sec-Fetch-Site nor Origin.
"""

import re
from collections.abc import Mapping

from common.address import Address, names_loopback
from common.errors import SettingsError

_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?P<host>[^/?#]+)")
_OWN_SITES = {"none", "same-origin"}  # typed or bookmarked; asked by our own page


def refusal(headers: Mapping[str, str], *, loopback_names_only: bool, any_site: bool = False) -> tuple[int, str] | None:
    """Status and sentence for a request that a page of another origin caused; None for all others.

    `headers` by name in any case that its mapping takes for lower case; several of one name joined by a comma.
    `any_site`: a page of any site may have led to it, whatever Sec-Fetch-Site says.
    """
    host = headers.get("host", "")
    if host and not _is_address(host):
        return 400, f"the Host header {host[:80]!r} is no HOST:PORT"
    if host and loopback_names_only and not names_loopback(host):  # HTTP/1.0 sends none
        return 403, f"asked as {host[:80]!r}: this service is for this machine only; use 127.0.0.1 or localhost"
    site = headers.get("sec-fetch-site", "none")
    if site not in _OWN_SITES and not any_site:
        return 403, f"a page of another origin may not ask here (Sec-Fetch-Site: {site[:40]!r})"
    return _of_origin(headers["origin"], host) if "origin" in headers else None


def _of_origin(origin: str, host: str) -> tuple[int, str] | None:
    match = _ORIGIN.fullmatch(origin)
    if origin != "null" and (match is None or not _is_address(match["host"])):
        return 400, f"the Origin header {origin[:80]!r} is no SCHEME://HOST:PORT"
    if match is None or match["host"].lower() != host.lower():
        return 403, f"a page of another origin may not ask here (Origin: {origin[:80]!r})"
    return None


def _is_address(text: str) -> bool:
    try:
        Address.parse(text, "Host", default_port=80)
    except SettingsError:
        return False
    return True

"""Proxies of the environment ($http_proxy and its like): they are for the world outside, never for this machine."""

from collections.abc import MutableMapping

_PROXIES = {"http_proxy", "https_proxy", "all_proxy"}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def spare_loopback(environment: MutableMapping[str, str]) -> None:
    """Make all HTTP clients of this process and its children ask loopback themselves, by what all of them read."""
    if not any(value and name.lower() in _PROXIES for name, value in environment.items()):
        return
    spared = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if spared.strip() != "*":  # which is for all, and only if it is alone
        environment["no_proxy"] = ",".join([*filter(None, [spared]), *_LOOPBACK])

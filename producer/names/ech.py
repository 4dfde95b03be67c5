"""Encrypted ClientHello (RFC 9849): which hellos surely have one. Pure.

A client without a configuration sends an extension of random octets that looks the same (GREASE), so that nobody can
tell. What can be known: the hello names a server that only stands for others, by a configuration that DNS gave out.
"""

from collections import OrderedDict

from producer.names.columns import NO_ECH, OFFERED_ECH, REAL_ECH
from producer.names.parsers import hello

STANDING_FOR_OTHERS = frozenset({"cloudflare-ech.com"})
"""Names that a hello has in the clear only when the real one is encrypted."""

_VERSION = 0xFE0D
_MOST = 1024


class EchConfigs:
    """Numbers and public names of the configurations that were seen in HTTPS records, the newest 1,024."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, int], None] = OrderedDict()

    def learn(self, configs: bytes) -> None:
        """An ECHConfigList; what cannot be one is left out."""
        at, end = 2, min(len(configs), 2 + int.from_bytes(configs[:2], "big"))
        while at + 4 <= end:
            version = int.from_bytes(configs[at : at + 2], "big")
            size = int.from_bytes(configs[at + 2 : at + 4], "big")
            found = _public_name(configs[at + 4 : min(end, at + 4 + size)]) if version == _VERSION else None
            if found:
                self._known[found] = None
                self._known.move_to_end(found)
            at += 4 + size
        while len(self._known) > _MOST:
            self._known.popitem(last=False)

    def of(self, found: hello.Hello) -> int:
        """NO_ECH, OFFERED_ECH or REAL_ECH."""
        if found.ech == hello.HAS_ESNI and not found.name:
            return REAL_ECH
        if found.ech != hello.OUTER_ECH:
            return NO_ECH
        is_real = found.name in STANDING_FOR_OTHERS or (found.name, found.ech_config) in self._known
        return REAL_ECH if is_real else OFFERED_ECH


def _public_name(contents: bytes) -> tuple[str, int] | None:
    """Of an ECHConfigContents: its public name, lower case, and its number."""
    at = 3  # number, KEM
    for _ in range(2):  # the key, the ciphers
        at += 2 + int.from_bytes(contents[at : at + 2], "big")
    at += 1  # longest name
    if at >= len(contents):
        return None
    name = contents[at + 1 : at + 1 + contents[at]]
    return (name.decode("ascii").lower(), contents[0]) if name and name.isascii() else None

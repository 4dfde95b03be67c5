"""What of names and addresses leaves this node. Pure.

Applied to all that is sent: a name that is dropped or hashed here is nowhere in the clear behind.
"""

import hmac
import ipaddress
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from producer.names.columns import NONE, Names, no_names
from producer.names.join import FlowNames
from schemas.packets import MAPPED_PREFIX, U8

MODES = ("none", "hash", "drop")
_HASH_DIGITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """How names and the addresses beside them are made unreadable.

    hash: HMAC-SHA256 by the key, so that one name is the same on all nodes with that key and nobody without it can try
    names out. Prefixes: of the clients', servers' and answers' addresses of names (not of flows), so many bits stay.
    """

    mode: str = "none"  # one of MODES
    key: bytes = b""  # of hash
    prefix4: int = 32
    prefix6: int = 128

    def __post_init__(self) -> None:
        if self.mode not in MODES or (self.mode == "hash" and not self.key):
            raise ValueError(f"no redaction: {self.mode!r}, {len(self.key)} octets of key")

    def name(self, name: str) -> str:
        """A name as it may leave."""
        if self.mode == "none" or not name:
            return name
        return "" if self.mode == "drop" else _hashed(self.key, name)

    def names(self, names: Names) -> Names:
        """Rows as they may leave, without the addresses that only the join needs."""
        if self.mode == "none" and (self.prefix4, self.prefix6) == (32, 128):
            return names
        rows = names.rows.copy()
        mask4, mask6 = _mask(96 + self.prefix4), _mask(self.prefix6)
        for end in ("client", "server"):
            is_ipv4 = (rows[end][:, :12] == np.frombuffer(MAPPED_PREFIX, np.uint8)).all(axis=1)
            rows[end] &= np.where(is_ipv4[:, np.newaxis], mask4, mask6)
        if self.mode == "drop":
            rows["name"] = rows["answers"] = NONE
            return no_names()._replace(rows=rows, alpns=names.alpns, ja4s=names.ja4s)
        return no_names()._replace(
            rows=rows,
            names=[self.name(name) for name in names.names],
            answer_sets=[tuple(self._answer(answer) for answer in answers) for answers in names.answer_sets],
            alpns=names.alpns,
            ja4s=names.ja4s,
        )

    def flows(self, found: FlowNames) -> FlowNames:
        """The flows' names as they may leave."""
        if self.mode == "none":
            return found
        if self.mode == "drop":
            nothing = np.zeros_like
            return found._replace(
                domains=[],
                flow_domain=np.full_like(found.flow_domain, NONE),
                flow_domain_source=nothing(found.flow_domain_source),
                flow_domain_count=nothing(found.flow_domain_count),
            )
        return found._replace(domains=[self.name(domain) for domain in found.domains])

    def _answer(self, answer: str) -> str:
        try:
            address = ipaddress.ip_address(answer)
        except ValueError:
            return self.name(answer)
        bits = self.prefix4 if address.version == 4 else self.prefix6
        return str(ipaddress.ip_network((address, bits), strict=False).network_address)


@lru_cache(65_536)
def _hashed(key: bytes, name: str) -> str:
    return hmac.digest(key, name.encode(), "sha256").hex()[:_HASH_DIGITS]


def _mask(bits: int) -> U8:
    return np.frombuffer(((1 << 128) - (1 << (128 - bits))).to_bytes(16, "big"), np.uint8)

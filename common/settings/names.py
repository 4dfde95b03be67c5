"""Settings of names: what addresses are called."""

import ipaddress
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from common.address import Address
from common.errors import SettingsError
from common.settings.base import Section

DNS_PORT = 53


class NamesSettings(Section):
    """Names of flows (docs/names.md)."""

    redact: Literal["none", "hash", "drop"] = Field(
        "none",
        description="What leaves a node for a name: none: the name itself; hash: its keyed hash, the same on all nodes "
        "with that key; drop: nothing.",
    )
    redact_key_file: Path | None = Field(
        None, description="The key of `hash`, at least 16 octets, in a file that only the producer reads."
    )
    prefix_v4: int = Field(
        32, ge=0, le=32, description="Bits of IPv4 addresses that stay in ayaflow.names; flows keep theirs."
    )
    prefix_v6: int = Field(128, ge=0, le=128, description="Likewise of IPv6 addresses.")
    reverse: bool = Field(
        False,
        description="The console asks DNS what addresses without a name are called; such names are marked `reverse`.",
    )
    reverse_servers: list[str] = Field(
        [], description="Servers that are asked for it, ADDRESS or ADDRESS:PORT; empty: those of /etc/resolv.conf."
    )

    @field_validator("reverse_servers")
    @classmethod
    def _servers(cls, value: list[str]) -> list[str]:
        for text in value:
            server(text)
        return value


def server(text: str) -> tuple[str, int]:
    """Address and port of a DNS server. Raises ValueError; a name is none, as it would have to be asked for, too."""
    bare = f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text
    try:
        address = Address.parse(bare, "names.reverse_servers", default_port=DNS_PORT)
        known = not ipaddress.ip_address(address.host).is_unspecified
    except (ValueError, SettingsError):
        known = False
    if not known:
        raise ValueError(f"a DNS server is given by its address, such as 192.0.2.53 (it is {text!r})")
    return address.host, address.port

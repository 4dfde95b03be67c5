"""Settings of names: what addresses are called."""

import ipaddress

from pydantic import Field, field_validator

from common.address import Address
from common.errors import SettingsError
from common.settings.base import Section

DNS_PORT = 53


class NamesSettings(Section):
    """Names of flows (docs/names.md)."""

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

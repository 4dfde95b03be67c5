"""Where something listens: HOST:PORT of a setting, and a socket that listens there."""

import ipaddress
import os
import re
import socket
from dataclasses import dataclass
from typing import Self

from common.errors import EnvironmentProblem, SettingsError

_HOST_PORT = re.compile(r"(?:\[(?P<six>[^][/@\s]*:[^][/@\s]*)]|(?P<host>[^][:/@\s]*))(?::(?P<port>[0-9]{1,5}))?")
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  all addresses: this machine is asked on loopback


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A TCP address that a setting names."""

    host: str  # a name, or a number without brackets
    port: int
    setting: str  # where it comes from, for messages

    @classmethod
    def parse(cls, text: str, setting: str, *, default_port: int | None = None) -> Self:
        """`127.0.0.1:9464`, `[::1]:9464`, `kafka1:9092`, `:9464` (all addresses).

        The port may be left out where there is a default. Raises SettingsError that names the setting.
        """
        match = _HOST_PORT.fullmatch(text.strip())
        port = (match["port"] or default_port) if match else None
        if match is None or port is None or int(port) > 65_535:
            raise SettingsError(f"{setting}: write it as HOST:PORT, an IPv6 address as [::1]:PORT (it is {text!r})")
        return cls(host=match["six"] or match["host"] or "0.0.0.0", port=int(port), setting=setting)  # noqa: S104

    @property
    def text(self) -> str:
        """HOST:PORT, with brackets around an IPv6 address."""
        return _text(self.host, self.port)

    @property
    def reachable(self) -> str:
        """HOST:PORT to ask on this machine: what listens on all addresses is asked on loopback."""
        return _text(_ANY.get(self.host, self.host), self.port)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine gets there."""
        name = self.host.lower()
        if name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            number = ipaddress.ip_address(name)
        except ValueError:
            return False
        mapped = number.ipv4_mapped if isinstance(number, ipaddress.IPv6Address) else None
        return (mapped or number).is_loopback


def listen(address: Address, *, backlog: int = 128) -> socket.socket:
    """A TCP socket that listens there. Raises EnvironmentProblem that names the setting."""
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((address.host, address.port), family=family, backlog=backlog)
    except OSError as error:
        # create_server adds to the text of its errors; a name that does not resolve has no number of the system's
        why = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise EnvironmentProblem(
            f"cannot listen on {address.text}: {why}. Stop what uses the port, or set {address.setting}"
        ) from error


def names_loopback(header: str) -> bool:
    """Whether a Host header, with a port or without, is a loopback name of this machine."""
    try:
        return Address.parse(header, "Host", default_port=80).is_loopback
    except SettingsError:  # no address at all
        return False


def _text(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

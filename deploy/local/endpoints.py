"""Where the local servers listen, and who is in the way. Reads /proc; opens no connection that stays."""

import contextlib
import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from common.errors import SettingsError
from common.settings import Settings

PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An address that a setting names."""

    host: str  # without brackets
    port: int  # TCP
    setting: str  # the setting it comes from, for messages

    @property
    def text(self) -> str:
        """host:port, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether it is a loopback address, so that it is ours to serve."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse(text: str, setting: str, default_port: int | None = None) -> Endpoint:
    """`127.0.0.1:9092` or `[::1]:9092` -> Endpoint. Raises SettingsError that names the setting."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port or default_port
    except ValueError as error:
        raise SettingsError(f"{setting}: write it as HOST:PORT (it is {text!r})") from error
    if not host or port is None:
        raise SettingsError(f"{setting}: write it as HOST:PORT (it is {text!r})")
    return Endpoint(host=host, port=port, setting=setting)


def kafka(settings: Settings) -> Endpoint:
    """The first bootstrap server."""
    first = settings.kafka.bootstrap_servers.split(",")[0].strip()
    return parse(first, "kafka.bootstrap_servers")


def clickhouse(settings: Settings) -> Endpoint:
    """The host and port of clickhouse.url."""
    parts = urlsplit(settings.clickhouse.url)
    return parse(parts.netloc.rpartition("@")[2], "clickhouse.url", 443 if parts.scheme == "https" else 8123)


def in_use(endpoint: Endpoint) -> bool:
    """Whether something already listens there."""
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((endpoint.host, endpoint.port))
        except OSError:
            return True
    return False


def owner(port: int) -> str | None:
    """`java (process 4711)` that listens on a TCP port, or None when /proc does not tell."""
    inodes = {inode for table in ("tcp", "tcp6") for inode in _listening_inodes(table, port)}
    if not inodes:
        return None
    for process in PROC.iterdir():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it ended, or is not ours to look at
            for descriptor in (process / "fd").iterdir():
                if _target(descriptor) in inodes:
                    return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    return None


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:
        return ""  # closed meanwhile; the others of the process still count


def _listening_inodes(table: str, port: int) -> list[str]:
    try:
        rows = (PROC / "net" / table).read_text().splitlines()[1:]
    except OSError:
        return []
    found = []
    for row in rows:
        fields = row.split()
        if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:  # 0A: TCP_LISTEN
            found.append(f"socket:[{fields[9]}]")
    return found


def refusal(endpoint: Endpoint) -> str:
    """The sentence for a port that is taken."""
    who = owner(endpoint.port)
    return (
        f"port {endpoint.port} is in use"
        + (f" by {who}" if who else "")
        + f". Stop what uses it, or set {endpoint.setting}"
    )

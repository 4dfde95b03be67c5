"""Where the local servers listen, and who is in the way. Reads /proc; opens no connection that stays."""

import contextlib
import socket
from pathlib import Path

from common.address import Address
from common.clickhouse import endpoints
from common.settings import ClickHouseSettings, KafkaSettings

PROC = Path("/proc")


def kafka(settings: KafkaSettings) -> Address:
    """The first bootstrap server."""
    return Address.parse(settings.bootstrap_servers.split(",")[0], "kafka.bootstrap_servers")


def clickhouse(settings: ClickHouseSettings) -> Address:
    """The first host."""
    return endpoints(settings.url)[0].address


def in_use(address: Address) -> bool:
    """Whether something already listens there."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
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


def refusal(address: Address) -> str:
    """The sentence for a port that is taken."""
    who = owner(address.port)
    return (
        f"port {address.port} is in use"
        + (f" by {who}" if who else "")
        + f". Stop what uses it, or set {address.setting}"
    )

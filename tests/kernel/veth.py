"""A pair of virtual interfaces that carries only what a test sends."""

import contextlib
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from tests.waiting import until

_numbers = count()
_AT_ONCE = 64  # a quarter of what a veth with XDP has room for
_SOFTNET, _BACKLOG = Path("/proc/net/softnet_stat"), 11  # a line a CPU; the column of packets that it was sent
_SOL_PACKET, _PACKET_VNET_HDR = 263, 15
_VNET_GSO_TCPV4, _VNET_NEEDS_CSUM = 1, 1


@contextlib.contextmanager
def pair(mtu: int = 1500) -> Iterator[tuple[str, str]]:
    """Two interfaces, up, without addresses; what one sends the other receives."""
    number = next(_numbers)
    names = (f"aya{os.getpid() % 100_000}a{number}", f"aya{os.getpid() % 100_000}b{number}")
    ip("link", "add", names[0], "mtu", str(mtu), "type", "veth", "peer", "name", names[1], "mtu", str(mtu))
    try:
        for name in names:
            Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")  # no router solicitations
            ip("link", "set", name, "arp", "off", "up")
        yield names
    finally:
        ip("link", "del", names[0])


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def tc(*arguments: str) -> str:
    return subprocess.run(["tc", *arguments], check=True, capture_output=True, text=True).stdout


def send(interface: str, *frames: bytes) -> None:
    """All of them have passed the other end when this returns, and none was dropped for want of room."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:  # closing one takes 10 ms: one for all frames
        raw.bind((interface, 0))
        for at in range(0, len(frames), _AT_ONCE):
            for frame in frames[at : at + _AT_ONCE]:
                raw.send(frame)
            until(_nothing_waits)


def _nothing_waits() -> bool:
    """Whether each CPU has taken what it was sent: on a busy machine that is not at once."""
    return not any(int(line.split()[_BACKLOG], 16) for line in _SOFTNET.read_text().splitlines())


def send_gso(interface: str, frame: bytes, *, headers: int, segment: int) -> None:
    """An IPv4 TCP super-packet as a hypervisor hands it over: it knows its segments' size, not their number."""
    vnet = struct.pack("=BBHHHH", _VNET_NEEDS_CSUM, _VNET_GSO_TCPV4, headers, segment, 34, 16)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        raw.bind((interface, 0))
        raw.send(vnet + frame)

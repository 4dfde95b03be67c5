"""A pair of virtual interfaces that carries only what a test sends."""

import contextlib
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path

_numbers = count()
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
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:  # closing one takes 10 ms: one for all frames
        raw.bind((interface, 0))
        for frame in frames:
            raw.send(frame)


def send_gso(interface: str, frame: bytes, *, headers: int, segment: int) -> None:
    """An IPv4 TCP super-packet as a hypervisor hands it over: it knows its segments' size, not their number."""
    vnet = struct.pack("=BBHHHH", _VNET_NEEDS_CSUM, _VNET_GSO_TCPV4, headers, segment, 34, 16)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        raw.bind((interface, 0))
        raw.send(vnet + frame)

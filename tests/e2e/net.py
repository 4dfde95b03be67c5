"""Two hosts in namespaces of their own, joined by a bridge in ours; `a` is behind the interface that is watched."""

import ipaddress
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


def run(*words: str, check: bool = True) -> str:
    """A command's output; an AssertionError with its messages when it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert not check or done.returncode == 0, f"{' '.join(words)}: {done.stderr or done.stdout}"
    return done.stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One namespace with one interface."""

    namespace: str
    interface: str
    ipv4: str
    ipv6: str
    mac: str

    def python(self, module: str, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start a module of tests.e2e in the namespace."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, sys.executable, "-m", f"tests.e2e.{module}", *words],
            text=True,
            stdout=subprocess.PIPE,
            **options,
        )

    def connections(self) -> str:
        """Its TCP sockets that still have something to send or to hear, one a line."""
        open_ = ("state", "connected", "exclude", "time-wait")
        return run("ip", "netns", "exec", self.namespace, "ss", "--tcp", "--numeric", "--no-header", *open_)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Both hosts, and the ends of their cables in our namespace."""

    a: Host
    b: Host
    watched: str  # our end of a's cable
    other: str  # our end of b's cable


OFFLOADS = ("tso", "gso", "gro", "tx", "rx", "sg")


@contextmanager
def two_hosts(*, offloads: bool) -> Iterator[Network]:
    """Without offloads each frame that is seen is one on the wire."""
    tag = f"{os.getpid() % 10000}"
    bridge, watched, other = f"ayb{tag}", f"ayw{tag}", f"ayo{tag}"
    hosts = [
        Host(
            namespace=f"aya-{name}-{tag}",
            interface=f"aye{tag}{name}",
            ipv4=f"198.18.0.{i}",
            ipv6=f"fd00:a9a:f::{i}",
            mac=f"02:a9:00:00:00:0{i}",
        )
        for i, name in enumerate("ab", 1)
    ]
    try:
        run("ip", "link", "add", bridge, "type", "bridge", "mcast_snooping", "0")
        for host, end in zip(hosts, (watched, other), strict=True):
            _cable(host, end, bridge, offloads=offloads)
        run("ip", "link", "set", bridge, "up")
        for host, peer in zip(hosts, reversed(hosts), strict=True):
            for address in (peer.ipv4, peer.ipv6):  # no neighbour discovery among what is counted
                run(
                    "ip",
                    "-n",
                    host.namespace,
                    "neigh",
                    "replace",
                    address,
                    "lladdr",
                    peer.mac,
                    "dev",
                    host.interface,
                    "nud",
                    "permanent",
                )
        yield Network(a=hosts[0], b=hosts[1], watched=watched, other=other)
    finally:
        for host in hosts:
            run("ip", "netns", "del", host.namespace, check=False)
        for link in (bridge, watched, other):
            run("ip", "link", "del", link, check=False)


def _cable(host: Host, end: str, bridge: str, *, offloads: bool) -> None:
    run("ip", "netns", "add", host.namespace)
    run("ip", "link", "add", end, "type", "veth", "peer", "name", host.interface, "netns", host.namespace)
    inside = ("ip", "-n", host.namespace)
    run(*inside, "link", "set", host.interface, "address", host.mac)
    run(*inside, "addr", "add", f"{host.ipv4}/24", "dev", host.interface)
    run(*inside, "addr", "add", f"{host.ipv6}/64", "dev", host.interface, "nodad")
    if not offloads:
        switches = [word for feature in OFFLOADS for word in (feature, "off")]
        run("ip", "netns", "exec", host.namespace, "ethtool", "-K", host.interface, *switches)
        run("ethtool", "-K", end, *switches)
    run(*inside, "link", "set", "lo", "up")
    run(*inside, "link", "set", host.interface, "up")
    run("ip", "link", "set", end, "master", bridge, "up")


def is_ours(text: str) -> bool:
    """Whether an address, IPv4 as a.b.c.d, is one of the two hosts'."""
    address = ipaddress.ip_address(text)
    net: ipaddress.IPv4Network | ipaddress.IPv6Network = (
        ipaddress.ip_network("198.18.0.0/24") if address.version == 4 else ipaddress.ip_network("fd00:a9a:f::/64")
    )
    return address in net

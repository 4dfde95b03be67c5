"""Two hosts behind a router, which is our namespace: what one sends to the other passes two interfaces of the node."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.net import Host, run

WATCHED = "ayr*"  # the router's ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """The hosts, and our ends of their cables."""

    a: Host
    b: Host
    ends: tuple[str, str]

    @contextlib.contextmanager
    def conversations(self) -> Iterator[None]:
        """Both talk, by UDP, TCP and ICMP, from the beginning of the block until its end."""
        with self._serving():
            talk = self.a.python("traffic", "talk", self.a.ipv4, self.b.ipv4, self.a.ipv6, self.b.ipv6)
            try:
                yield
                assert talk.poll() is None, f"the traffic ended with {talk.returncode}"
            finally:
                _end(talk)

    @contextlib.contextmanager
    def exchange(self, port: int) -> Iterator[list[int]]:
        """Datagrams from this port of a to b, and the answer to each; behind the block, how many."""
        sent: list[int] = []
        with self._serving():
            words = (self.a.ipv4, self.b.ipv4, str(port))
            asking = self.a.python("traffic", "exchange", *words, stdin=subprocess.PIPE)
            try:
                yield sent
                output, _ = asking.communicate(timeout=60)
                sent.append(int(output))
            finally:
                asking.kill()

    @contextlib.contextmanager
    def _serving(self) -> Iterator[None]:
        server = self.b.python("traffic", "serve", self.b.ipv4, self.b.ipv6)
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            yield
        finally:
            _end(server)


def _end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    process.communicate(timeout=60)


@contextlib.contextmanager
def router() -> Iterator[Router]:
    """Make it, in the network namespace that we are in."""
    tag = f"{os.getpid() % 10000}"
    hosts = [
        Host(
            namespace=f"ayr-{name}-{tag}",
            interface=f"aye{tag}{name}",
            ipv4=f"198.18.{i}.2",
            ipv6=f"fd00:a9a:{i}::2",
            mac=f"02:a9:00:00:0{i}:02",
        )
        for i, name in enumerate("ab", 1)
    ]
    ends = (f"ayr{tag}a", f"ayr{tag}b")
    try:
        for family in ("ipv4/conf/all", "ipv6/conf/all"):
            Path(f"/proc/sys/net/{family}/forwarding").write_text("1")
        for host, end in zip(hosts, ends, strict=True):
            _cable(host, end)
        yield Router(a=hosts[0], b=hosts[1], ends=ends)
    finally:
        for host in hosts:
            run("ip", "netns", "del", host.namespace, check=False)
        for end in ends:
            run("ip", "link", "del", end, check=False)


def _cable(host: Host, end: str) -> None:
    """To a host whose way to all others is our end. Neighbours are told: nothing but what is sent passes."""
    inside = ("ip", "-n", host.namespace)
    mac = "02:a9:00:00:00:01"
    run("ip", "netns", "add", host.namespace)
    run("ip", "link", "add", end, "type", "veth", "peer", "name", host.interface, "netns", host.namespace)
    run("ip", "link", "set", end, "address", mac)
    run(*inside, "link", "set", host.interface, "address", host.mac)
    run(*inside, "link", "set", "lo", "up")
    run(*inside, "link", "set", host.interface, "up")
    run("ip", "link", "set", end, "up")
    for address, octets, family in ((host.ipv4, 24, "0.0.0.0/0"), (host.ipv6, 64, "::/0")):
        gate = address[:-1] + "1"
        extra = ("nodad",) if ":" in address else ()
        run("ip", "addr", "add", f"{gate}/{octets}", "dev", end, *extra)
        run(*inside, "addr", "add", f"{address}/{octets}", "dev", host.interface, *extra)
        run(*inside, "route", "add", family, "via", gate, "dev", host.interface)
        run("ip", "neigh", "replace", address, "lladdr", host.mac, "dev", end, "nud", "permanent")
        run(*inside, "neigh", "replace", gate, "lladdr", mac, "dev", host.interface, "nud", "permanent")

"""The producer's hooks on interfaces that a test makes, without Kafka."""

import contextlib
import fcntl
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

from producer.capture.devices import READ_NS
from producer.capture.epochs import Epochs
from producer.clock import WallClock
from producer.interfaces import namespaces
from producer.interfaces.attach.attacher import ChildAttacher
from producer.interfaces.hooks import Hooks
from producer.interfaces.observer import Observer
from producer.interfaces.selection import Selection
from producer.interfaces.troubles import Trouble
from producer.kernel import child, pins
from producer.kernel.abi import SECONDARY
from producer.kernel.ring import submitted
from producer.kernel.run import begin_run
from producer.roles.privileged import Machine, Privileged
from schemas.packets import EpochCounters
from tests.kernel import veth
from tests.kernel.harness import FLOW_ENTRIES, LOADER, layout
from tests.waiting import until

PORT = 5353
TUNSETIFF, TUNSETLINK, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x400454CD, 0x1, 0x1000
PREFIX = f"ai{os.getpid() % 10_000}"
Node = Callable[..., "Watching"]


class Watching:
    """The producer's hooks, without Kafka."""

    def __init__(
        self, directory: Path, log: Path, patterns: list[str], *, all_namespaces: bool, ways: tuple[str, ...]
    ) -> None:
        directory.mkdir(parents=True)
        self.node = pins.node_of(directory)
        request = {
            "node": self.node,
            "loader": LOADER,
            "pin_directory": str(directory),
            "ring_pages": 64,
            "flow_entries": FLOW_ENTRIES,
            "decapsulate": [],
            "inspect": 0,
            "copy_pages": 0,
        }
        opened_ns = child.run("load", request, log=log).values["opened_ns"]
        kernel = self._kernel = begin_run(directory, layout(64), ring_id=1, opened_ns=opened_ns)
        kernel.config.live(2**63, 0)
        self.ring = kernel.ring
        self.ahead_ns = 0  # of the monotonic clock
        self.epochs = Epochs(
            maps=kernel.maps,
            state=kernel.state,
            clock=WallClock(lambda: time.monotonic_ns() + self.ahead_ns),
            producer_position=self.ring.producer_position,
        )
        self.names: dict[int, str] = {}
        self.watched: tuple[str, ...] = ()
        self.helper = Privileged.begin(node=self.node, directory=directory, logs=log.parent, elsewhere=all_namespaces)
        self.hooks = Hooks(
            adopted={},
            selection=Selection.of(patterns),
            observer=Observer(all_namespaces=all_namespaces, machine=Machine(self.helper)),
            attacher=ChildAttacher(self.helper, run=1, ways=ways),
            tables=kernel.tables,
            epochs=self.epochs,
            monotonic=time.monotonic_ns,
            on_change=self._change,
        )
        self._position = 0
        self.vlans: set[int] = set()  # of packets of ours
        self.hooks.begin()
        self.epochs.devices.follow(self.hooks.device_counts)

    def _change(self, names: dict[int, str], watched: tuple[str, ...], _: tuple[Trouble, ...]) -> None:
        self.names, self.watched = names, watched

    def until(self, condition: Callable[[], bool]) -> None:
        """Go on until it holds."""

        def step() -> bool:
            self.hooks.step()
            return condition()

        until(step, lambda: self.watched)

    def passages(self, marks: int, seconds: float = 0.3) -> list[tuple[str, str, bool]]:
        """Where packets of ours were seen: interface, direction, primary. Waits for `marks` of them and a little."""
        found: list[tuple[str, str, bool]] = []

        def read() -> bool:
            found.extend(self._read())
            return len(found) >= marks

        until(read, lambda: found)
        time.sleep(seconds)
        return sorted(found + self._read())

    def _read(self) -> list[tuple[str, str, bool]]:
        end = self.ring.readable(self._position)
        records = self.ring.span(self._position, end)
        events = records["event"][submitted(records)].copy()
        self.ring.release(end)
        self._position = end
        ours = events[events["dst_port"] == PORT]
        self.vlans |= {int(vlan) for vlan in ours["vlan_id"]}
        return [
            (self.names[int(e["slot"])], ("ingress", "egress")[e["direction"]], not e["flags"] & SECONDARY)
            for e in ours
        ]

    def reading(self) -> dict[tuple[str, int], EpochCounters]:
        """Close an epoch with which the devices are read -> its rows by interface and direction."""
        self.ahead_ns += READ_NS
        closed = self.epochs.close()
        self.epochs.confirm(closed.number)
        return {(row.interface, row.direction): row for row in closed.counters if row.primary}

    def close(self) -> None:
        self.hooks.close()
        self.helper.__exit__()
        self._kernel.close()


@pytest.fixture
def watch(way: str, bpffs: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Node]:
    directory = pins.node_directory(bpffs, f"net.{abs(hash(request.node.name)) % 10**9}")
    made: list[Watching] = []

    def watch(*patterns: str, all_namespaces: bool = False) -> Watching:
        log = tmp_path / "k.log"
        made.append(Watching(directory, log, list(patterns), all_namespaces=all_namespaces, ways=(way,)))
        return made[0]

    yield watch
    for each in made:
        child.run("detach", {"node": each.node}, log=tmp_path / "detach.log")
        each.close()
    pins.remove(directory)


@contextlib.contextmanager
def made(*commands: str) -> Iterator[None]:
    """Interfaces of the test. Those with PREFIX, and namespaces, go at the end."""
    try:
        for command in commands:
            veth.ip(*command.replace("@", PREFIX).split())
        quiet()
        yield
    finally:
        for name in namespaces.named():
            if name.startswith(PREFIX):
                veth.ip("netns", "del", name)
        for _, name in socket.if_nameindex():
            if name.startswith(PREFIX):
                with contextlib.suppress(subprocess.CalledProcessError):  # its other end took it away
                    veth.ip("link", "del", name)


def quiet() -> None:
    for _, name in socket.if_nameindex():
        if name.startswith(PREFIX):
            Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")


def frame(destination: str = "ff:ff:ff:ff:ff:ff", *, tagged: bool = False) -> bytes:
    ether = Ether(src="02:00:00:00:00:01", dst=destination)
    layer2 = ether / Dot1Q(vlan=5) if tagged else ether
    return bytes(layer2 / IP(src="10.9.0.1", dst="10.9.0.2") / UDP(sport=1, dport=PORT) / Raw(bytes(30)))


def send_in(namespace: str | None, interface: str, octets: bytes) -> None:
    with namespaces.entered(f"/run/netns/{namespace}" if namespace else None):
        veth.send(interface, octets)


def of(name: str) -> str:
    return name.replace("@", PREFIX)


PAIR = "link add @a type veth peer name @b"
UP = ("link set @a up arp off", "link set @b up arp off")


@contextlib.contextmanager
def tun_device(name: str, link_type: int) -> Iterator[int]:
    """A tun device, up, that says that it is of this type -> its descriptor."""
    tun = os.open("/dev/net/tun", os.O_RDWR)
    try:
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
        fcntl.ioctl(tun, TUNSETLINK, link_type)
        quiet()
        veth.ip("link", "set", name, "up")
        yield tun
    finally:
        os.close(tun)

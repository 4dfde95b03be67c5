"""Nanoseconds a packet that looking for names adds, beside the program without it: both take turns in one run.

Of TEST_RUN all data are linear; a payload shorter than what is looked at is read by the helper that those that are not
linear need, and data with a SYN are looked at however many of them come. On a veth, what a local TCP sender sends is
not linear.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

from tests.bench.kernel import Programs, bpf_statistics, programs
from tests.bench.places import pair
from tests.bench.results import Row
from tests.kernel.name_frames import hello, query, quic, tcp, udp
from tests.kernel.veth import ip

_LARGE = (b"\x17\x03\x03" + bytes(range(256)) * 6)[:1448]
OTHER = {
    "TCP, 1448 octets": (tcp(_LARGE), 20),
    "TCP, 1448 octets, always looked at": (tcp(_LARGE, flags="S"), 20),
    "TCP, 15 octets, always looked at, by the helper": (tcp(b"\x17\x03\x03" + bytes(12), flags="S"), 35),
    "TCP, a bare ACK": (tcp(b"", flags="A"), 20),
    "UDP, 1200 octets": (udp(b"\x17" * 1200), 20),
    "UDP, 60 octets": (udp(b"\x17" * 60), 20),
}
MATCHING = {
    "DNS, 33 octets": (udp(query()), 150),
    "DNS, 200 octets": (udp(query() + bytes(167)), 150),
    "a ClientHello of 517 octets": (tcp(hello(517)), 150),
    "a ClientHello of 1000 octets": (tcp(hello(1000)), 150),
    "a ClientHello of 1024 octets": (tcp(hello(1024)), 150),
    "a ClientHello of 1448 octets": (tcp(hello(1448)), None),
    "QUIC, 1200 octets": (udp(quic(1)), None),
    "a ClientHello of 2000 octets": (tcp(hello(2000)), None),
}
FLOWS, ROUNDS = {4: "4 flows", 16_384: "16 k flows"}, 120
TRANSACTIONS, HELLOS = 10_000, 2_000
_PORT = 5_555
_RECORD, _REQUEST = b"\x17\x03\x03" + bytes(697), b"GET /" + b"a" * 995
ON_A_VETH = {
    "no name, on a veth, not linear: connections of 7 MB by a local sender": (_RECORD, 10_000, 1, 35),
    "no name, on a veth, not linear: connections of 28 kB": (_RECORD, 40, 60, 35),
    "no name, on a veth, not linear: connections of 7 kB, all of them looked at": (_RECORD, 10, 240, 35),
    "copied, on a veth, not linear: HTTP requests of 1000 octets": (_REQUEST, 40, 60, 150),
}
"""Payload of a segment, segments of a connection, connections, target."""


def run() -> Iterator[Row]:
    with programs() as plain, programs(2048) as inspecting:
        for ours in (plain, inspecting):
            ours.watch(0)
        for flows, label in FLOWS.items():
            for what, (frame, target) in OTHER.items():
                yield _compared(plain, inspecting, frame, f"no name, {label}: {what}", flows, target)
        for what, (frame, wanted) in MATCHING.items():
            yield _compared(plain, inspecting, frame, f"copied: {what}", 4, wanted, repeat=1_000)
        with bpf_statistics():
            yield from _on_a_veth(plain, inspecting)
    yield from _reading()


def _compared(
    plain: Programs,
    inspecting: Programs,
    frame: bytes,
    what: str,
    flows: int,
    target: float | None,
    repeat: int = 10_000,
) -> Row:
    times: dict[str, list[int]] = {"plain": [], "inspecting": []}
    for ours in (plain, inspecting):
        ours.flows(flows)
    for _ in range(ROUNDS):
        times["plain"].append(plain.once("hook_bench_ingress", frame, repeat))
        times["inspecting"].append(inspecting.once("hook_bench_ingress", frame, repeat))
    before, after = (lowest(each) for each in times.values())
    return _more(what, before, after, target)


def _more(what: str, before: float, after: float, target: float | None) -> Row:
    """What the program that inspects takes more than the one without."""
    return Row(
        what=what,
        value=after - before,
        unit="ns more",
        at_most=target,
        against="the program without",
        ratio=after / before,
    )


def _reading() -> Iterator[Row]:
    command = [sys.executable, "-m", "tests.bench.names_cost", str(TRANSACTIONS), str(HELLOS)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    label = f"producer: {TRANSACTIONS:,} DNS transactions and {HELLOS:,} hellos a second, from copies to messages"
    yield Row(what=f"{label}: CPU", value=found["cpu"], unit="of a core", at_most=0.2)
    yield Row(what=f"{label}: memory", value=found["mb"], unit="MB more", at_most=25)


def lowest(times: list[int]) -> float:
    """The mean of the lowest tenth: others use the machine."""
    few = sorted(times)[: max(1, len(times) // 10)]
    return sum(few) / len(few)


def _on_a_veth(plain: Programs, inspecting: Programs) -> Iterator[Row]:
    """A local sender's segments, in turns."""
    with pair() as (sender, receiver), _apart(sender, receiver) as address:
        for what, (payload, segments, connections, target) in ON_A_VETH.items():
            times: dict[str, list[int]] = {"plain": [], "inspecting": []}
            for _ in range(10):
                for name, ours in (("plain", plain), ("inspecting", inspecting)):
                    with ours.attached("hook_ayaflow_egress", sender, "egress"):
                        time_before, runs_before = ours.statistics("hook_ayaflow_egress")
                        for _ in range(connections):
                            _send(address, payload, segments)
                        time_after, runs_after = ours.statistics("hook_ayaflow_egress")
                    ours.release()
                    times[name].append(round((time_after - time_before) / (runs_after - runs_before)))
            before, after = (sum(sorted(each)[:3]) / 3 for each in times.values())
            yield _more(what, before, after, target)


_SINK = """
import socket
with socket.create_server(("10.213.0.2", {port})) as server:
    print("ready", flush=True)
    while True:
        with server.accept()[0] as connection:
            while connection.recv(1 << 20):
                pass
"""


@contextlib.contextmanager
def _apart(sender: str, receiver: str) -> Iterator[tuple[str, int]]:
    """The receiver in a namespace of its own, with somebody who reads all -> where."""
    name = f"{receiver}n"
    ip("netns", "add", name)
    try:
        ip("link", "set", receiver, "netns", name)
        ip("addr", "add", "10.213.0.1/30", "dev", sender)
        ip("link", "set", sender, "arp", "on")
        for arguments in ("addr add 10.213.0.2/30 dev", "link set arp on up dev"):
            ip("-n", name, *arguments.split(), receiver)
        command = ["ip", "netns", "exec", name, sys.executable, "-c", _SINK.format(port=_PORT)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as sink:
            assert sink.stdout is not None
            sink.stdout.readline()
            try:
                yield "10.213.0.2", _PORT
            finally:
                sink.kill()
        ip("-n", name, "link", "set", receiver, "netns", str(os.getpid()))
    finally:
        ip("netns", "del", name)


def _send(address: tuple[str, int], payload: bytes, segments: int) -> None:
    """Segments of one connection, each by itself."""
    with socket.create_connection(address) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(segments):
            connection.sendall(payload)

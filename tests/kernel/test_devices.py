"""The devices' own counters beside ours, on devices of several kinds: whatever passes by a hook, they count."""

import contextlib
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from producer.kernel import pins
from schemas.packets import EGRESS, INGRESS
from tests.kernel import veth
from tests.kernel.attached import detach
from tests.kernel.watching import PAIR, PREFIX, UP, Node, Watching, frame, made, of, quiet, tun_device

pytestmark = pytest.mark.root

DROP = b"int drop(struct xdp_md *ctx) { return XDP_DROP; }"


def compared(node: Watching, interface: str) -> dict[int, tuple[int, int, int]]:
    """By direction: seen, counted by the device, unseen."""
    rows = node.reading()
    return {
        direction: (row.seen_packets, row.device_packets, row.unseen_packets)
        for (name, direction), row in rows.items()
        if name == of(interface)
    }


def both_ways(packets: int) -> None:
    """Through a: what it receives, and what it sends."""
    veth.send(of("@b"), *[frame()] * packets)
    veth.send(of("@a"), *[frame()] * packets)


def unhook(interface: str, way: str) -> None:
    """As somebody else would; nobody looks."""
    for direction, name in enumerate(pins.PROGRAMS):
        if way == "tcx":
            detach(interface, direction)
        else:
            veth.tc("filter", "del", "dev", interface, name)


def holes(node: Watching) -> set[tuple[str, str, int]]:
    return {(hole.interface, hole.direction, hole.unseen_packets) for hole in node.epochs.devices.holes}


def test_a_veth_counts_what_its_hooks_see(watch: Node) -> None:
    with made(PAIR, *UP):
        node = watch(of("@a"))
        node.reading()
        both_ways(100)
        assert compared(node, "@a") == {INGRESS: (100, 100, 0), EGRESS: (100, 100, 0)}
        assert not holes(node)


def test_packets_on_a_device_that_lost_its_hooks_are_counted_by_it(watch: Node, way: str) -> None:
    with made(PAIR, *UP):
        node = watch(of("@a"))
        node.reading()
        both_ways(50)
        node.reading()
        both_ways(50)
        unhook(of("@a"), way)
        both_ways(400)
        assert compared(node, "@a") == {INGRESS: (50, 450, 400), EGRESS: (50, 450, 400)}
        assert holes(node) == {(of("@a"), "ingress", 400), (of("@a"), "egress", 400)}


def test_a_device_made_anew_that_has_no_hooks_is_noticed(watch: Node) -> None:
    with made(PAIR, *UP):
        node = watch(of("@a"))
        node.reading()
        both_ways(50)
        node.reading()
        index = socket.if_nametoindex(of("@a"))
        veth.ip("link", "del", of("@a"))
        for command in (f"{PAIR} index 2000000".replace("@a", f"@a index {index}"), *UP):
            veth.ip(*of(command).split())
        quiet()
        node.reading()  # from 0 on
        both_ways(400)
        assert compared(node, "@a") == {INGRESS: (0, 400, 400), EGRESS: (0, 400, 400)}


def test_what_an_xdp_program_takes_is_counted_by_the_device(watch: Node) -> None:
    with made(PAIR, *UP):
        node = watch(of("@a"))
        node.reading()
        with dropping(of("@a")):
            both_ways(400)
            assert compared(node, "@a") == {INGRESS: (0, 400, 400), EGRESS: (400, 400, 0)}
        assert holes(node) == {(of("@a"), "ingress", 400)}


@contextlib.contextmanager
def dropping(interface: str) -> Iterator[None]:
    """An XDP program of somebody else drops all that the interface receives."""
    import bcc

    module = bcc.BPF(text=DROP)
    try:
        module.attach_xdp(interface.encode(), module.load_func(b"drop", bcc.BPF.XDP), 0)
        yield
    finally:
        module.remove_xdp(interface.encode(), 0)
        module.cleanup()


def test_super_packets_are_no_hole(watch: Node) -> None:
    with made(f"{PAIR} mtu 9000", *UP):
        node = watch(of("@a"))
        node.reading()
        headers = 54
        packet = frame()[:headers] + bytes(30_000)
        for _ in range(50):
            veth.send_gso(of("@a"), _tcp(packet), headers=headers, segment=1_400)
            veth.send_gso(of("@b"), _tcp(packet), headers=headers, segment=1_400)
        rows = compared(node, "@a")
        assert {unseen for *_, unseen in rows.values()} == {0}
        assert {seen for seen, *_ in rows.values()} == {50 * 22}
        assert not holes(node)


def _tcp(packet: bytes) -> bytes:
    return packet[:23] + b"\x06" + packet[24:46] + b"\x50" + packet[47:]


def test_tun_loopback_and_bridge_count_what_their_hooks_see(watch: Node) -> None:
    with (
        made(PAIR, *UP, "link add @br type bridge", "link set @a master @br", "link set @br up"),
        tun_device(of("@t"), 65534) as tun,
    ):
        node = watch(f"{PREFIX}*", "lo")
        node.reading()
        packet = frame()[14:]
        for _ in range(40):
            os.write(tun, packet)
        veth.send(of("@t"), *[packet] * 40)
        for _ in range(40):
            os.read(tun, 2048)
        veth.send(of("@b"), *[frame()] * 40)  # to the bridge
        veth.send(of("@br"), *[frame()] * 40)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
            for _ in range(40):
                plain.sendto(b"x", ("127.0.0.1", 9))
        rows = node.reading()
        assert {name for name, _ in rows} == {"lo", *(of(name) for name in ("@a", "@b", "@br", "@t"))}
        assert all(row.device_packets >= 40 and not row.unseen_packets for row in rows.values())
        assert not holes(node)


def test_readings_in_the_middle_of_a_flood_are_no_hole(watch: Node) -> None:
    with made(PAIR, *UP):
        node = watch(of("@a"), of("@b"))
        node.reading()
        ended = threading.Event()

        def flood() -> None:
            while not ended.is_set():
                both_ways(500)

        counted = Counter[tuple[str, int]]()
        thread = threading.Thread(target=flood)
        thread.start()
        try:
            for _ in range(40):
                time.sleep(0.03)
                counted.update({passage: row.device_packets for passage, row in node.reading().items()})
                assert not holes(node)
        finally:
            ended.set()
            thread.join()
        assert (+counted).keys() == {(of(name), direction) for name in ("@a", "@b") for direction in (INGRESS, EGRESS)}

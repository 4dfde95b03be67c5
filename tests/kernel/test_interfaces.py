"""Interfaces that come, go and stand on each other: hooks follow them, one passage of each packet is primary."""

import contextlib
import os
import socket
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from producer.interfaces import namespaces
from tests.kernel import veth
from tests.kernel.attached import detach, hooks
from tests.kernel.tagging import pushed
from tests.kernel.watching import PAIR, PORT, PREFIX, UP, Node, Watching, frame, made, of, quiet, send_in, tun_device
from tests.waiting import until

pytestmark = pytest.mark.root


def test_an_interface_that_comes_is_watched_and_one_that_goes_is_forgotten(watch: Node) -> None:
    with made("link add @x type veth peer name @y", "link set @x up", "link set @y up"):
        node = watch(f"{PREFIX}*", f"!{PREFIX}b")
        assert node.watched == (of("@x"), of("@y"))
        with made():
            for command in (PAIR, *UP):
                veth.ip(*of(command).split())
            quiet()
            node.until(lambda: of("@a") in node.watched)
            assert of("@b") not in node.watched
            veth.send(of("@b"), frame())
            assert node.passages(1) == [(of("@a"), "ingress", True)]
        node.until(lambda: not node.watched)
        for _ in range(4):
            node.epochs.confirm(node.epochs.close().number)
        with made(PAIR, *UP):
            node.until(lambda: node.watched == (of("@a"),))
            veth.send(of("@a"), frame())
            assert node.passages(1) == [(of("@a"), "egress", True)]
            counted = node.epochs.close().counters
            assert [(c.interface, c.direction, c.emitted_packets) for c in counted if c.emitted_packets] == [
                (of("@a"), 1, 1)
            ]


def test_a_renamed_interface_is_another(watch: Node) -> None:
    with made(PAIR, *UP):
        node = watch(f"{PREFIX}*", f"!{PREFIX}b")
        veth.ip("link", "set", of("@a"), "down")
        veth.ip("link", "set", of("@a"), "name", of("@c"))
        veth.ip("link", "set", of("@c"), "up")
        node.until(lambda: node.watched == (of("@c"),))
        veth.send(of("@b"), frame())
        assert node.passages(1) == [(of("@c"), "ingress", True)]


def counts_on_a(node: Watching) -> None:
    """What `a` receives, and what it sends."""
    veth.send(of("@b"), frame())
    assert node.passages(1) == [(of("@a"), "ingress", True)]
    veth.send(of("@a"), frame())
    assert node.passages(1) == [(of("@a"), "egress", True)]


@pytest.mark.parametrize("way", ["clsact"])
@pytest.mark.parametrize("how", ["filter", "qdisc", "replaced"])
def test_filters_that_somebody_removed_or_replaced_are_put_back(watch: Node, how: str) -> None:
    with made(PAIR, *UP):
        node = watch(of("@a"))
        if how == "filter":
            veth.tc("filter", "del", "dev", of("@a"), "ingress")
        elif how == "qdisc":
            veth.tc("qdisc", "del", "dev", of("@a"), "clsact")
        else:
            passes = ("prio", "17", "handle", "1", "bpf", "da", "bytecode", "1,6 0 0 4294967295")
            veth.tc("filter", "replace", "dev", of("@a"), "ingress", *passes)
            assert hooks(of("@a")) == {"clsact egress"}
        node.until(lambda: hooks(of("@a")) == {"clsact ingress", "clsact egress"})
        node.until(lambda: node.hooks._attaching is None)
        counts_on_a(node)


@pytest.mark.parametrize("way", ["tcx"])
def test_links_that_somebody_detached_are_put_back(watch: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer.interfaces.hooks.SWEEP_NS", 200_000_000)  # nothing tells of it
    with made(PAIR, *UP):
        node = watch(of("@a"))
        detach(of("@a"), 0)
        assert hooks(of("@a")) == {"tcx egress"}
        node.until(lambda: hooks(of("@a")) == {"tcx ingress", "tcx egress"})
        node.until(lambda: node.hooks._attaching is None)
        counts_on_a(node)


def test_an_interface_made_anew_with_the_same_name_and_index_has_hooks_again(watch: Node) -> None:
    with made(
        "link add @a index 4711 type veth peer name @b index 4712", "link set @a up arp off", "link set @b up arp off"
    ):
        node = watch(of("@a"))
        for _ in range(3):
            veth.ip("link", "set", "lo", "mtu", "65535")  # something is heard: no other look for 100 ms
            node.hooks.step()
            again = f"link del @a\nlink add @a index 4711 type veth peer name @b index 4712\n{chr(10).join(UP)}\n"
            subprocess.run(["ip", "-batch", "-"], input=of(again), text=True, check=True)
            quiet()
            node.until(lambda: len(hooks(of("@a"))) == 2)
            node.until(lambda: node.hooks._attaching is None)
            counts_on_a(node)
        veth.ip("link", "set", "lo", "mtu", "65536")


@pytest.mark.parametrize("way", ["tcx"])
def test_an_interface_that_moves_to_where_nobody_looks_is_let_go(watch: Node) -> None:
    with made("netns add @n1", PAIR, *UP):
        node = watch(f"{PREFIX}*")
        veth.ip("link", "set", of("@a"), "netns", of("@n1"))
        node.until(lambda: node.watched == (of("@b"),))
        with namespaces.entered(f"/run/netns/{of('@n1')}"):
            until(lambda: not hooks(of("@a")))


def test_the_two_ends_of_a_veth_pair_count_a_packet_once(watch: Node) -> None:
    with made(PAIR, *UP):
        node = watch(f"{PREFIX}*")
        veth.send(of("@a"), frame())
        passages = node.passages(2)
        assert [p[:2] for p in passages] == [(of("@a"), "egress"), (of("@b"), "ingress")]
        assert sum(primary for *_, primary in passages) == 1


BRIDGED = (
    "netns add @n1",
    "netns add @n2",
    "link add @br type bridge",
    "link add @p1 type veth peer name in1 netns @n1",
    "link add @p2 type veth peer name in2 netns @n2",
    "link set @p1 master @br",
    "link set @p2 master @br",
    "link set @br up",
    "link set @p1 up",
    "link set @p2 up",
    "-n @n1 link set in1 up",
    "-n @n2 link set in2 up",
)


@pytest.mark.parametrize("tagged", [False, True])
def test_on_a_bridge_with_veths_each_packet_is_primary_once(watch: Node, *, tagged: bool) -> None:
    with made(*BRIDGED):
        node = watch(f"{PREFIX}*", all_namespaces=True)
        inside = [of("@n1/in1"), of("@n2/in2")]
        node.until(lambda: set(inside) <= set(node.watched))
        # from a container, flooded: in1 -> p1 -> (the bridge itself, and p2 -> in2)
        send_in(of("@n1"), "in1", frame(tagged=tagged))
        passages = node.passages(5)
        assert Counter(p[:2] for p in passages) == {
            (inside[0], "egress"): 1,
            (of("@p1"), "ingress"): 1,
            (of("@br"), "ingress"): 1,
            (of("@p2"), "egress"): 1,
            (inside[1], "ingress"): 1,
        }
        assert [p[:2] for p in passages if p[2]] == [(of("@p1"), "ingress")]
        # from the machine itself to both ports: two packets on two cables
        veth.send(of("@br"), frame(tagged=tagged))
        assert [p[:2] for p in node.passages(5) if p[2]] == [(of("@p1"), "egress"), (of("@p2"), "egress")]
        assert node.vlans == ({5} if tagged else {0})


def test_a_bridge_of_which_not_all_ports_are_watched_stays_primary(watch: Node) -> None:
    with made(*BRIDGED):
        node = watch(of("@br"))
        send_in(of("@n1"), "in1", frame())
        assert node.passages(1) == [(of("@br"), "ingress", True)]


@pytest.mark.parametrize("tagged", [False, True])
def test_a_device_on_another_is_not_primary_when_that_is_watched(watch: Node, bpffs: Path, *, tagged: bool) -> None:
    # with a tag pushed on its way down, a macvlan does what a VLAN device does (for which kernels need a module)
    tag = pushed(of("@m"), 5, bpffs / "tagging") if tagged else contextlib.nullcontext()
    with made(PAIR, *UP, "link add link @a name @m type macvlan mode bridge", "link set @m up"):
        node = watch(of("@a"), of("@m"))
        with tag:
            veth.send(of("@m"), frame())
        assert node.passages(2) == [(of("@a"), "egress", True), (of("@m"), "egress", False)]
        assert node.vlans == ({5} if tagged else {0})


@pytest.mark.parametrize(
    ("link_type", "outcome"),
    [
        pytest.param(65534, "emitted", id="none"),
        pytest.param(256, "emitted", id="slip"),
        pytest.param(778, "emitted", id="gre"),
        pytest.param(823, "emitted", id="ip6gre"),
        pytest.param(32, "unknown_link", id="infiniband"),
        pytest.param(804, "unknown_link", id="ieee802.15.4"),
    ],
)
@pytest.mark.parametrize("source", ["10.77.0.1", "8.0.0.1"])  # its octets look like an EtherType
def test_a_device_is_read_by_its_link_type(watch: Node, link_type: int, outcome: str, source: str) -> None:
    packet = bytes(IP(src=source, dst="10.77.0.2") / UDP(sport=1, dport=PORT) / Raw(bytes(30)))
    with made(), tun_device(of("@t"), link_type) as tun:
        node = watch(of("@t"))
        os.write(tun, packet)
        veth.send(of("@t"), packet)
        assert os.read(tun, 2048) == packet
        counted = [row for row in node.epochs.close().counters if row.interface]
        assert [(row.direction, row.seen_packets, getattr(row, f"{outcome}_packets")) for row in counted] == [
            (0, 1, 1),
            (1, 1, 1),
        ]
        assert {getattr(row, f"{outcome}_bytes") for row in counted} == {len(packet)}
        assert len(node.passages(0)) == (2 if outcome == "emitted" else 0)
        assert node.hooks.unknown_links == (() if outcome == "emitted" else (f"{of('@t')} (link type {link_type})",))


def test_what_loopback_receives_is_not_primary(watch: Node) -> None:
    node = watch("lo")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.sendto(b"x" * 30, ("127.0.0.1", PORT))
    found = [passage for passage in node.passages(2) if passage[0] == "lo"]
    assert ("lo", "egress", True) in found
    assert ("lo", "ingress", False) in found
    assert ("lo", "ingress", True) not in found


def test_a_forwarded_packet_is_primary_where_it_came_in(watch: Node) -> None:
    router, interfaces = of("@r"), ("w1", "w2")
    with made(
        "netns add @r",
        "netns add @n1",
        "netns add @n2",
        "-n @n1 link add e1 type veth peer name w1 netns @r",
        "-n @n2 link add e2 type veth peer name w2 netns @r",
        "-n @r addr add 10.7.1.1/24 dev w1",
        "-n @r addr add 10.7.2.1/24 dev w2",
        "-n @n1 addr add 10.7.1.2/24 dev e1",
        "-n @n2 addr add 10.7.2.2/24 dev e2",
        "-n @r link set w1 up",
        "-n @r link set w2 up",
        "-n @n1 link set e1 up",
        "-n @n2 link set e2 up",
        "-n @n1 route add default via 10.7.1.1",
    ):
        with namespaces.entered(f"/run/netns/{router}"):
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        node = watch(*(f"{router}/{name}" for name in interfaces), all_namespaces=True)
        node.until(lambda: len(node.watched) == 2)
        with namespaces.entered(f"/run/netns/{of('@n1')}"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
            plain.sendto(b"x" * 30, ("10.7.2.2", PORT))
        assert node.passages(2) == [(f"{router}/w1", "ingress", True), (f"{router}/w2", "egress", False)]


def test_a_namespace_that_comes_later_is_watched_and_forgotten(watch: Node) -> None:
    node = watch(f"{PREFIX}*", all_namespaces=True)
    with made(
        "netns add @n1", "link add @h type veth peer name in1 netns @n1", "link set @h up", "-n @n1 link set in1 up"
    ):
        inside = of("@n1/in1")
        node.until(lambda: {inside, of("@h")} <= set(node.watched))
        send_in(of("@n1"), "in1", frame())
        assert node.passages(2) == [(of("@h"), "ingress", True), (inside, "egress", False)]
    node.until(lambda: not node.watched)

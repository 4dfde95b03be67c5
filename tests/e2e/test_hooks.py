"""What others do to the interfaces that are watched: a running producer, a starting one, traffic that is counted."""

import contextlib
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer.kernel import pins, tcx
from tests.e2e.fix_producer import Node, by_flow, check_ledger, frames, once, running, stop
from tests.e2e.test_producer_death import Sender, sent_to
from tests.kernel import veth
from tests.kernel.attached import detach, hooks
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.kafka]

BOTH = {"tcx ingress", "tcx egress"}
PACKETS = 400


@pytest.fixture(autouse=True)
def _has_tcx(root_and_bcc: None) -> None:
    if not tcx.is_known():
        pytest.skip("this kernel has no TCX")


@pytest.fixture
def node(bpffs: Path, tmp_path: Path, kafka_broker: str) -> Iterator[Node]:
    """Watches all pairs of the tests, those that come later, too."""
    node = Node(tmp_path, bpffs, kafka_broker, "aya*", capture_epoch_ms=100)
    try:
        yield node
    finally:
        node.clean()


def watched(node: Node, *names: str) -> None:
    until(lambda: set(names) <= set(node.health().get("interfaces", ())), node.output.read_text)


def counted(bootstrap: str, node: Node) -> dict[tuple[str, str], int]:
    """Packets in Kafka by interface and direction."""
    found: dict[tuple[str, str], int] = {}
    batches = sent_to(bootstrap, node)
    check_ledger(batches)
    for (key, what), number in by_flow(batches).items():
        if what == "packets":
            found[key[:2]] = found.get(key[:2], 0) + number
    return found


def send(interface: str) -> None:
    veth.send(interface, *(octets for octets, _ in frames(PACKETS)))


@contextlib.contextmanager
def with_an_ingress_qdisc() -> Iterator[tuple[str, str]]:
    """A pair; on the second one, which the bandwidth plugin of containers does so."""
    with veth.pair() as (a, b):
        veth.tc("qdisc", "add", "dev", b, "handle", "ffff:", "ingress")
        yield a, b


def test_an_interface_with_an_ingress_qdisc_is_counted_by_a_producer_that_starts(node: Node, kafka_broker: str) -> None:
    with with_an_ingress_qdisc() as (a, b):
        with running(node) as process:
            watched(node, a, b)
            send(a)
            send(b)
            assert stop(process) == 0
        assert "ingress" in veth.tc("qdisc", "show", "dev", b)
    assert counted(kafka_broker, node) == {(i, d): PACKETS for i in (a, b) for d in ("ingress", "egress")}


def test_an_interface_with_an_ingress_qdisc_is_counted_by_a_producer_that_runs(node: Node, kafka_broker: str) -> None:
    with running(node) as process, with_an_ingress_qdisc() as (a, b):
        watched(node, a, b)
        send(a)
        send(b)
        assert stop(process) == 0
    assert counted(kafka_broker, node) == {(i, d): PACKETS for i in (a, b) for d in ("ingress", "egress")}


def test_without_tcx_what_leaves_by_such_an_interface_is_not_seen_and_that_is_said(
    node: Node, kafka_broker: str
) -> None:
    with with_an_ingress_qdisc() as (a, b), running(node.attaching_by("clsact")) as process:
        watched(node, a, b)
        (trouble,) = until(lambda: node.health().get("unwatched", ()), node.output.read_text)
        assert trouble["interface"] == b
        assert f"what leaves by {b} is not seen: there is an `ingress` qdisc" in trouble["error"]
        assert not node.health()["ok"]
        send(a)
        send(b)
        assert stop(process) == 0
    assert counted(kafka_broker, node) == {(a, "ingress"): PACKETS, (a, "egress"): PACKETS, (b, "ingress"): PACKETS}


def test_others_can_add_and_remove_their_ingress_qdisc_beside_us(node: Node, kafka_broker: str) -> None:
    with veth.pair() as (a, b), running(node) as process:
        watched(node, a, b)
        veth.tc("qdisc", "add", "dev", b, "handle", "ffff:", "ingress")
        send(a)
        veth.tc("qdisc", "del", "dev", b, "ingress")
        send(a)
        assert stop(process) == 0
    assert counted(kafka_broker, node) == {(a, "egress"): 2 * PACKETS, (b, "ingress"): 2 * PACKETS}


def test_an_interface_made_anew_with_the_same_name_and_index_is_counted(node: Node, kafka_broker: str) -> None:
    """While something else is heard, so that the producer does not look for 100 ms."""
    make = "link add ayanew index 4711 type veth peer name wnew index 4712\nlink set ayanew up\nlink set wnew up\n"
    with running(node) as process:
        try:
            subprocess.run(["ip", "-batch", "-"], input=make, text=True, check=True)
            watched(node, "ayanew")
            before = "link set lo mtu 65535\nlink del ayanew\n"
            subprocess.run(["ip", "-batch", "-"], input=before + make, text=True, check=True)
            until(lambda: hooks("ayanew") == BOTH, node.output.read_text)
            send("wnew")
            assert stop(process) == 0
        finally:
            veth.ip("link", "del", "ayanew")
            veth.ip("link", "set", "lo", "mtu", "65536")
    seen = by_flow(sent_to(kafka_broker, node))
    wanted = Counter(("ayanew", "ingress", *key) for _, key in frames(PACKETS))
    assert {key: seen[key, "packets"] for key in wanted if key[3]} == {key: n for key, n in wanted.items() if key[3]}


def test_a_hook_that_somebody_detached_is_put_back_and_what_comes_then_is_counted(
    node: Node, kafka_broker: str
) -> None:
    with veth.pair() as (a, b), running(node) as process:
        watched(node, a, b)
        detach(b, 0)
        assert hooks(b) == {"tcx egress"}
        until(lambda: hooks(b) == BOTH, node.output.read_text, seconds=60)
        until(lambda: "somebody removed our hooks; they are back" in node.output.read_text())
        send(a)
        assert stop(process) == 0
    assert counted(kafka_broker, node) == {(a, "egress"): PACKETS, (b, "ingress"): PACKETS}


def test_two_producers_count_the_same_interfaces_each_for_itself(
    node: Node, bpffs: Path, tmp_path: Path, kafka_broker: str
) -> None:
    second = tmp_path / "second"
    second.mkdir()
    other = Node(second, bpffs, kafka_broker, "aya*", capture_epoch_ms=100)
    try:
        with veth.pair() as (a, b):
            with running(node) as one, running(other) as two:
                watched(node, a, b)
                watched(other, a, b)
                send(a)
                assert stop(one) == 0
                assert hooks(a) == hooks(b) == BOTH
                send(a)
                assert stop(two) == 0
            assert not hooks(a) | hooks(b)
    finally:
        other.clean()
    assert counted(kafka_broker, node) == {(a, "egress"): PACKETS, (b, "ingress"): PACKETS}
    assert counted(kafka_broker, other) == {(a, "egress"): 2 * PACKETS, (b, "ingress"): 2 * PACKETS}


@pytest.mark.parametrize("size", [1 << 20, 1 << 18], ids=["the same run", "another"])
def test_from_filters_to_tcx_each_packet_is_counted_once(node: Node, size: int, kafka_broker: str) -> None:
    """A producer that used filters was killed; the next one, which need not, goes on, or has a run of its own."""
    with veth.pair() as pair:
        node.environment["AYAFLOW_CAPTURE_RING_BYTES"] = str(1 << 20)
        process = node.attaching_by("clsact").start()
        watched(node, *pair)
        assert hooks(pair[0]) == {"clsact ingress", "clsact egress"}
        with Sender(pair, 10_000) as sender:
            sender.sends(2_000)
            process.kill()
            process.wait()
            node.environment["AYAFLOW_CAPTURE_RING_BYTES"] = str(size)
            del node.environment["TEST_WAYS"]
            process = node.start()
            node.wait_for(process)
            assert hooks(pair[0]) == hooks(pair[1]) == BOTH
            assert "clsact" not in veth.tc("qdisc", "show", "dev", pair[0])
            sender.sends(2_000)
        until(lambda: not pins.set_aside_runs(node.pin_directory), node.output.read_text)
        assert stop(process) == 0
        # where the machine is busy, a veth refuses whole bursts: what arrived is counted, before any hook
        arrived = int(Path(f"/sys/class/net/{pair[1]}/statistics/rx_packets").read_text())
    batches = sent_to(kafka_broker, node)
    assert counted(kafka_broker, node) == {(pair[0], "egress"): sender.packets, (pair[1], "ingress"): arrived}
    once(batches)

"""Packets that pass our hooks by are named by health while it lasts, and by the audit for good."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from producer.capture.devices import READ_NS
from producer.kernel import tcx
from tests.e2e.fix_producer import frames, stop
from tests.e2e.test_producer_death import made
from tests.integration.fix_streams import pipeline
from tests.kernel import veth
from tests.kernel.attached import detach, hooks
from tests.kernel.test_devices import dropping
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.kafka, pytest.mark.clickhouse]

Harm = Callable[[str], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def unhooked(interface: str) -> Iterator[None]:
    """Somebody detaches our programs; the kernel tells nobody."""
    for direction in (0, 1):
        detach(interface, direction)
    yield


@contextlib.contextmanager
def still(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """The producer does nothing meanwhile: it would put a hook back between two packets."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize(
    ("harm", "blind"),
    [
        pytest.param(
            unhooked,
            {"ingress", "egress"},
            id="a hook detached",
            marks=pytest.mark.skipif(not tcx.is_known(), reason="needs TCX (Linux 6.6)"),
        ),
        pytest.param(dropping, {"ingress"}, id="XDP before it"),
    ],
)
def test_what_no_hook_saw_is_named_while_it_lasts_and_in_the_audit(
    harm: Harm, blind: set[str], kafka_broker: str, clickhouse_server: str, bpffs: Path, tmp_path: Path
) -> None:
    octets = [each for each, _ in frames(400)]
    with (
        pipeline(kafka_broker, clickhouse_server) as p,
        made(bpffs, tmp_path, kafka_broker, kafka_topic_prefix=p.prefix) as (node, (a, b)),
    ):
        p.start()
        process = node.start()
        node.wait_for(process)
        for each in (a, b):
            veth.send(each, *octets)
        health = node.wait_for(process, packets=1_600)
        assert (health["ok"], health["unseen"]) == (True, [])
        time.sleep(READ_NS / 1e9 + 3)  # the first reading of a device is short, and generous; another follows it
        with contextlib.ExitStack() as harmed:
            with still(process):
                harmed.enter_context(harm(a))
                for each in (a, b):
                    veth.send(each, *octets)
            wanted = {(a, direction) for direction in blind}

            def told() -> set[tuple[str, str]]:
                holes = node.health()["unseen"]
                return {(each["interface"], each["direction"]) for each in holes if each["unseen_packets"] >= 390}

            until(lambda: told() == wanted, node.output.read_text)
            health = node.wait_for(process, ok=False)
        assert f"{a} {min(blind)}: " in health["error"]
        assert f'ayaflow_producer_unseen_packets_total{{direction="ingress",interface="{a}"}}' in node.metrics()
        wait_for_hooks(a)
        for each in (a, b):
            veth.send(each, *octets)
        assert stop(process) == 0
        seen = 2 * 1_600 + 1_600 - 400 * len(blind)
        p.until(lambda: p.stored_packets() >= seen)
        p.until(lambda: p.audit()[1]["nodes"][0]["settled_until"] is None)  # it ended: for good
        code, report = p.audit()
        assert (code, report["exact"], report["settled"], report["differs"]) == (1, False, True, True)
        found = {(row["interface"], row["direction"]): row["unseen_packets"] for row in report["rows"]}
        assert {place for place, unseen in found.items() if unseen} == wanted
        assert f"{node.name} {a} ingress: of" in report["message"]
        assert p.stored_packets() == seen
        assert (
            p.count("SELECT sum(device_packets) FROM ledger WHERE device_epochs > 0") >= 2 * 800
        )  # but the last seconds
        assert p.stop() == 0


def wait_for_hooks(interface: str) -> None:
    """Until the sweep has looked."""
    end = time.monotonic() + 60
    while len(hooks(interface)) < 2:
        assert time.monotonic() < end
        time.sleep(0.2)

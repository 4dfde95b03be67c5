"""A producer that runs may do nothing: it counts all the same, and new interfaces are attached by its helper."""

import os
import pwd
import signal
import subprocess
from pathlib import Path

import pytest

from producer.interfaces import namespaces
from producer.kernel import pins
from schemas.avro.codec import Codec
from tests.e2e.fix_producer import Node, batches_of, check_ledger, frames, once, running, stop
from tests.kernel import veth
from tests.kernel.attached import hooks
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.kafka]

SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
ATTACHES = 1 << 12 | 1 << 39  # CAP_NET_ADMIN, CAP_BPF


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def helper_of(pid: int) -> int:
    """The helper's first process, of a producer; of that, the one that serves."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def may_do_nothing(pid: int, user: pwd.struct_passwd) -> None:
    said = status(pid)
    assert {name: int(said[name], 16) for name in SETS} == dict.fromkeys(SETS, 0)
    assert (said["Uid"].split(), said["Gid"].split()) == ([str(user.pw_uid)] * 4, [str(user.pw_gid)] * 4)
    assert (said["Groups"], said["NoNewPrivs"]) == ("", "1")


def counted(kafka_broker: str, node: Node) -> tuple[int, int]:
    """Packets that were emitted, and that were seen and not emitted; the ledger is exact, and nothing comes twice."""
    batches = [Codec().decode_packet_batch(value) for value in batches_of(kafka_broker, node)]
    once(batches)
    sums = check_ledger(batches)
    return sums["emitted"], sums["seen"] - sums["emitted"]


def test_it_counts_and_attaches_without_any_capability(
    kafka_broker: str, bpffs: Path, passable: Path, unprivileged_user: pwd.struct_passwd
) -> None:
    with veth.pair() as (a, b):
        node = Node(passable, bpffs, kafka_broker, "aya*", capture_loader="auto")
        with running(node) as process:
            may_do_nothing(process.pid, unprivileged_user)
            said = status(helper_of(process.pid))
            assert {name: int(said[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == dict.fromkeys(
                ("CapPrm", "CapEff", "CapBnd"), ATTACHES
            )
            assert said["NoNewPrivs"] == "1"
            veth.send(a, *(octets for octets, _ in frames(1_000)))
            node.wait_for(process, ok=True, packets=2_000, queue=0)
            with veth.pair() as (c, d):
                until(lambda: {c, d} <= set(node.health()["interfaces"]), node.output.read_text)
                veth.send(c, *(octets for octets, _ in frames(500)))
                node.wait_for(process, ok=True, packets=3_000, queue=0)
            until(lambda: node.health()["interfaces"] == [a, b], node.output.read_text)
            may_do_nothing(process.pid, unprivileged_user)
            assert stop(process) == 0, node.output.read_text()
        assert not hooks(a) | hooks(b)
    assert not node.pin_directory.exists()
    assert counted(kafka_broker, node) == (3_000, 0)
    spool = passable / "spool" / node.name
    assert (spool.stat().st_uid, spool.stat().st_mode & 0o777) == (unprivileged_user.pw_uid, 0o700)
    assert (passable / "logs").stat().st_uid == 0


def test_what_was_removed_comes_back_by_the_helper_also_in_namespaces_of_others(
    kafka_broker: str, bpffs: Path, passable: Path, unprivileged_user: pwd.struct_passwd
) -> None:
    space = f"roles{os.getpid()}"
    with veth.pair() as (a, b):
        node = Node(passable, bpffs, kafka_broker, f"{a},{space}/{b}", capture_namespaces=True, capture_loader="auto")
        with running(node) as process:
            veth.ip("netns", "add", space)
            try:
                veth.ip("link", "set", b, "netns", space)
                veth.ip("-n", space, "link", "set", b, "up")
                inside = f"{space}/{b}"
                until(lambda: node.health()["interfaces"] == sorted([a, inside]), node.output.read_text)
                may_do_nothing(process.pid, unprivileged_user)
                veth.send(a, *(octets for octets, _ in frames(400)))
                until(lambda: node.health()["packets"] >= 800, lambda: str(node.health()))  # IPv6 may speak up inside
                assert stop(process) == 0, node.output.read_text()
                with namespaces.entered(str(namespaces.path_of(space))):
                    assert not hooks(b)
            finally:
                veth.ip("-n", space, "link", "set", b, "netns", str(os.getpid()))
                veth.ip("netns", "del", space)
    assert not node.pin_directory.exists()


def test_the_end_of_the_helper_is_told_and_costs_no_packet(
    kafka_broker: str, bpffs: Path, passable: Path, unprivileged_user: pwd.struct_passwd
) -> None:
    with veth.pair() as (a, _):
        node = Node(passable, bpffs, kafka_broker, a, capture_loader="auto")
        with running(node) as process:
            veth.send(a, *(octets for octets, _ in frames(300)))
            os.kill(helper_of(process.pid), signal.SIGKILL)
            until(lambda: node.health()["ok"] is False, node.output.read_text)
            assert "helper that attaches to interfaces has ended" in node.health()["error"]
            veth.send(a, *(octets for octets, _ in frames(300)))
            until(lambda: node.health()["packets"] == 600, lambda: str(node.health()))
            after = node.killed_and_started(process)
            node.wait_for(after, ok=True, interfaces=[a])
            veth.send(a, *(octets for octets, _ in frames(300)))
            until(lambda: node.health()["packets"] >= 300, lambda: str(node.health()))
            assert stop(after) == 0, node.output.read_text()
        assert not hooks(a)
    assert not node.pin_directory.exists()
    assert counted(kafka_broker, node) == (900, 0)


def test_a_helper_that_was_killed_is_started_again_and_attaches(
    kafka_broker: str, bpffs: Path, passable: Path, unprivileged_user: pwd.struct_passwd
) -> None:
    with veth.pair() as (a, b):
        node = Node(passable, bpffs, kafka_broker, "aya*", capture_loader="auto")
        with running(node) as process:
            veth.send(a, *(octets for octets, _ in frames(300)))
            killed = helper_of(helper_of(process.pid))
            os.kill(killed, signal.SIGKILL)
            with veth.pair() as (c, d):
                until(lambda: {c, d} <= set(node.health()["interfaces"]), node.output.read_text)
                assert node.health()["ok"], node.health()
                assert helper_of(helper_of(process.pid)) != killed
                veth.send(c, *(octets for octets, _ in frames(300)))
                node.wait_for(process, ok=True, packets=1_200, queue=0)
            may_do_nothing(process.pid, unprivileged_user)
            assert stop(process) == 0, node.output.read_text()
        assert "it was started again" in node.output.read_text()
        assert not hooks(a) | hooks(b)
    assert not node.pin_directory.exists()
    assert counted(kafka_broker, node) == (1_200, 0)


def test_a_helper_ends_with_its_producer_and_the_next_one_goes_on(
    kafka_broker: str, bpffs: Path, passable: Path, unprivileged_user: pwd.struct_passwd
) -> None:
    with veth.pair() as (a, _):
        node = Node(passable, bpffs, kafka_broker, a, capture_loader="auto")
        process = node.start()
        node.wait_for(process)
        helper = helper_of(process.pid)
        veth.send(a, *(octets for octets, _ in frames(300)))
        process.kill()
        process.wait()
        until(lambda: not Path(f"/proc/{helper}/stat").exists() or status(helper)["State"][0] == "Z", str)
        assert hooks(a)  # what is attached counts on
        veth.send(a, *(octets for octets, _ in frames(300)))
        with running(node) as process:
            may_do_nothing(process.pid, unprivileged_user)
            veth.send(a, *(octets for octets, _ in frames(300)))
            node.wait_for(process, ok=True, queue=0)
            assert stop(process) == 0, node.output.read_text()
        assert not hooks(a)
    assert not node.pin_directory.exists()
    assert counted(kafka_broker, node) == (900, 0)


def test_started_by_who_has_three_capabilities_it_gives_them_up(
    kafka_broker: str, passable: Path, unprivileged_user: pwd.struct_passwd, root_and_bcc: None
) -> None:
    """As a service of systemd has it, or a container."""
    bpffs = passable / "bpf"
    bpffs.mkdir()
    pins.mount(bpffs)
    try:
        for path in (bpffs, passable):
            os.chown(path, unprivileged_user.pw_uid, unprivileged_user.pw_gid)
        three = "+net_admin,+bpf,+perfmon"
        with veth.pair() as (a, b):
            node = Node(passable, bpffs, kafka_broker, "aya*", capture_loader="object")
            process = node.start(
                "setpriv",
                f"--reuid={unprivileged_user.pw_uid}",
                f"--regid={unprivileged_user.pw_gid}",
                "--clear-groups",
                f"--bounding-set=-all,{three}",
                f"--inh-caps=-all,{three}",
                f"--ambient-caps=-all,{three}",
                "--no-new-privs",
            )
            node.wait_for(process, interfaces=[a, b])
            said = status(process.pid)
            assert {name: int(said[name], 16) for name in SETS if name != "CapBnd"} == dict.fromkeys(
                (name for name in SETS if name != "CapBnd"), 0
            )
            veth.send(a, *(octets for octets, _ in frames(300)))
            node.wait_for(process, ok=True, packets=600, queue=0)
            with veth.pair() as (c, _):
                until(lambda: c in node.health()["interfaces"], node.output.read_text)
            assert stop(process) == 0, node.output.read_text()
            assert not hooks(a) | hooks(b)
        assert not node.pin_directory.exists()
    finally:
        subprocess.run(["umount", bpffs], check=True)

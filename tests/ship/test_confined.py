"""The producer with the privileges of its container in Kubernetes (deploy/chart): the real filter, the real kernel.

As root; needs libseccomp, which comes with systemd, and a JRE.
"""

import json
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.fix_producer import Node, frames, stop
from tests.fix_local import REPOSITORY, environment
from tests.kernel import veth
from tests.kernel.attached import hooks
from tests.ship.confined import command
from tests.ship.status import may_do_nothing, status
from tests.waiting import until

PROFILE = REPOSITORY / "deploy/seccomp/producer.json"


@pytest.mark.root
@pytest.mark.kafka
def test_packets_are_counted_and_a_new_interface_is_attached_with_its_capabilities_and_the_filter(
    kafka_broker: str, bpffs: Path, passable: Path, unprivileged_user: pwd.struct_passwd
) -> None:
    with veth.pair() as (a, _):
        node = Node(passable, bpffs, kafka_broker, f"{a.rstrip('0123456789')}*")  # and what comes later
        process = node.start(*command(PROFILE))
        try:
            node.wait_for(process, ok=True)
            may_do_nothing(process.pid)
            told = status(process.pid)
            assert told["Seccomp"] == "2"
            assert told["Uid"].split() == [str(unprivileged_user.pw_uid)] * 4
            veth.send(a, *(octets for octets, _ in frames(700)))
            node.wait_for(process, ok=True, packets=700, queue=0)
            with veth.pair() as (later, _):
                until(lambda: hooks(later), node.health)
                veth.send(later, *(octets for octets, _ in frames(70)))
                node.wait_for(process, ok=True, packets=770, queue=0)
            after = node.killed_and_started(process, before=command(PROFILE))  # its folders are nobody's now
            may_do_nothing(after.pid)
            veth.send(a, *(octets for octets, _ in frames(70)))
            node.wait_for(after, ok=True, queue=0)
            assert stop(after) == 0, node.output.read_text()
        finally:
            node.clean()
        assert not hooks(a)
    assert not node.pin_directory.exists()


@pytest.mark.root
@pytest.mark.parametrize("call", ["unshare --net true", "mount -t tmpfs none /mnt"])
def test_what_it_does_not_ask_for_it_does_not_get(call: str) -> None:
    done = subprocess.run([*command(PROFILE), *call.split()], capture_output=True, text=True, check=False)
    assert done.returncode != 0


@pytest.mark.root
def test_a_profile_that_forbids_bpf_is_a_sentence(tmp_path: Path) -> None:
    told: Any = json.loads(PROFILE.read_text())
    for rule in told["syscalls"]:
        rule["names"] = [name for name in rule["names"] if name != "bpf"]
    narrow = tmp_path / "narrow.json"
    narrow.write_text(json.dumps(told))
    done = subprocess.run(
        [*command(narrow), sys.executable, "-m", "cli.main", "producer", "--data-dir", str(tmp_path / "data")],
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    [line] = done.stderr.splitlines()
    assert "a seccomp profile forbids bpf(2)" in line


def test_the_profile_has_the_form_of_the_runtimes() -> None:
    told: Any = json.loads(PROFILE.read_text())
    assert told["defaultAction"] == "SCMP_ACT_ERRNO"
    [allowed] = [
        rule["names"] for rule in told["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" and "args" not in rule
    ]
    assert allowed == sorted(set(allowed))
    assert "bpf" in allowed
    never = {
        "ptrace",
        "mount",
        "setns",
        "unshare",
        "init_module",
        "finit_module",
        "kexec_load",
        "perf_event_open",
        "keyctl",
    }
    assert not never & set(allowed)

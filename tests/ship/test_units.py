"""deploy/systemd on a booted Debian, in systemd-nspawn: packets are counted through to the table by confined units."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from tests.fix_local import REPOSITORY
from tests.kernel import veth
from tests.ship.conftest import Images
from tests.ship.podman import OUTSIDE
from tests.ship.status import may_do_nothing
from tests.ship.test_compose import PASSWORD, get, selected
from tests.waiting import until

pytestmark = [pytest.mark.ship, pytest.mark.timeout(1200)]

UNITS = REPOSITORY / "deploy/systemd"
SERVERS = ("kafka", "clickhouse")  # by units of the test: on a real machine they are elsewhere
PARTS = ("producer", "streams", "console")
CAPABILITIES = 1 << 12 | 1 << 38 | 1 << 39  # NET_ADMIN, PERFMON, BPF
PACKETS = 1000


@dataclass(frozen=True, slots=True)
class Machine:
    """A booted one."""

    init: int  # its first process, as we see it
    log: Path

    def run(self, *words: str, check: bool = True) -> str:
        """What a command says in it."""
        done = subprocess.run(
            ["nsenter", f"--target={self.init}", "--mount", "--uts", "--ipc", "--pid", "--net", "--", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0 or not check, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def of_unit(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", f"--property={name}", "--value", unit)

    def status(self, unit: str) -> dict[str, str]:
        """/proc/PID/status of a unit's process."""
        text = self.run("cat", f"/proc/{self.of_unit(unit, 'MainPID')}/status")
        return dict((part.strip() for part in line.split(":", 1)) for line in text.splitlines())  # type: ignore[misc]

    def journal(self, lines: int = 60) -> str:
        """Its newest lines."""
        return self.run("journalctl", "--no-pager", f"--lines={lines}", check=False)


def installed(root: Path, interface: str) -> None:
    """Put the units and the settings where docs/operations.md says."""
    for path in UNITS.iterdir():
        if path.suffix in {".service", ".mount"}:
            shutil.copy(path, root / "etc/systemd/system")
    shutil.copy(UNITS / "ayaflow.sysusers", root / "usr/lib/sysusers.d/ayaflow.conf")
    settings = yaml.safe_load((UNITS / "ayaflow.yaml").read_text())
    settings["node"] = "unit"
    settings["capture"]["interfaces"] = [interface]
    settings["clickhouse"] |= {"username": "ayaflow", "password": PASSWORD}
    settings["streams"] = {"window_seconds": 2}
    (root / "etc/ayaflow").mkdir()
    file = root / "etc/ayaflow/ayaflow.yaml"
    file.write_text(yaml.safe_dump(settings))
    file.chmod(0o600)
    for name in SERVERS:
        (root / f"etc/systemd/system/test-{name}.service").write_text(
            f"[Service]\nExecStart=/opt/ayaflow/bin/ayaflow {name} --config /etc/ayaflow/ayaflow.yaml"
            f" --data-dir /var/lib/test-{name} --set local.kafka_jars_dir=/usr/share/ayaflow/jars\n"
        )


def first_of(nspawn: int) -> int | None:
    """The first process of a machine, as we see it; None: not yet, or no longer."""
    for pid in Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split():
        with contextlib.suppress(OSError):
            if re.search(r"^NSpid:.*\t1$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE):
                return int(pid)
    return None


@contextlib.contextmanager
def booted(root: Path, log: Path) -> Iterator[Machine]:
    """Boot what is in `root`, in our network namespace; it is off afterwards."""
    Path("/run/systemd").mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run/systemd"], check=True)
    before = {path.name for path in Path("/sys/fs/cgroup").iterdir() if path.is_dir()}
    with log.open("w") as output:
        nspawn = subprocess.Popen(
            [
                *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--console=pipe"),
                *("--directory", root, "--link-journal=no", "--resolv-conf=off", "--timezone=off"),
                "--capability=CAP_BPF,CAP_PERFMON,CAP_NET_ADMIN,CAP_SYS_ADMIN",
                "--system-call-filter=bpf perf_event_open",
                *("--bind-ro=/lib/modules", "--bind-ro=/usr/src"),
                "systemd.unified_cgroup_hierarchy=1",
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        )
    try:

        def init() -> int | None:
            assert nspawn.poll() is None, log.read_text()
            return first_of(nspawn.pid)

        machine = Machine(until(init, log.read_text) or 0, log)
        until(
            lambda: machine.run("systemctl", "is-system-running", check=False) in {"running", "degraded"}, log.read_text
        )
        yield machine
    finally:
        if nspawn.poll() is None and (first := first_of(nspawn.pid)):
            os.kill(first, signal.SIGRTMIN + 4)  # power off
        try:
            nspawn.wait(60)
        except subprocess.TimeoutExpired:
            nspawn.kill()
            nspawn.wait()
        made = {path for path in Path("/sys/fs/cgroup").iterdir() if path.is_dir() and path.name not in before}
        for path in sorted((one for top in made for one in (top, *top.rglob("*")) if one.is_dir()), reverse=True):
            with contextlib.suppress(OSError):
                path.rmdir()
        subprocess.run(["umount", "/run/systemd"], check=True)


@contextlib.contextmanager
def files(images: Images) -> Iterator[Path]:
    """The files of a machine that can boot."""
    podman = images.podman
    podman.run(
        *OUTSIDE,
        *("buildah", "build", "--quiet", "--isolation", "chroot", "--network", "host", "--format", "docker"),
        *("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=1000:1000"),
        *("--build-arg", f"AYAFLOW={images.name('ayaflow')}", "-t", "localhost/machine:1"),
        *("-f", REPOSITORY / "tests/ship/machine.Containerfile", REPOSITORY / "tests/ship"),
        seconds=600,
    )
    name = podman.podman("create", "localhost/machine:1").strip()
    try:
        yield Path(podman.podman("mount", name).strip())
    finally:
        podman.podman("unmount", name)
        podman.podman("rm", name)


def stored() -> int:
    """Packets in the table."""
    with contextlib.suppress(OSError):
        return int(selected("SELECT sum(packets + packets_rev) AS n FROM flows WHERE primary")[0]["n"])
    return 0


def test_units_bring_packets_into_the_table_confined_and_through_a_kill(images: Images, tmp_path: Path) -> None:
    frame = bytes(Ether(dst="02:00:00:00:00:02") / IP(src="10.1.2.3", dst="10.3.2.1") / UDP(sport=4321, dport=53))
    with veth.pair() as (a, _), files(images) as root:
        installed(root, a)
        with booted(root, tmp_path / "nspawn.log") as machine:
            for name in SERVERS:
                machine.run("systemctl", "start", f"test-{name}")
            machine.run("systemctl", "start", *(f"ayaflow-{part}" for part in PARTS))
            until(
                lambda: (get("http://127.0.0.1:8080/api/health") or {}).get("ok"),
                lambda: f"{get('http://127.0.0.1:8080/api/health')}\n{machine.journal()}",
            )
            veth.send(a, *[frame] * PACKETS)
            until(lambda: stored() == PACKETS, lambda: f"{stored()}\n{machine.journal()}")

            for part in PARTS:
                status = machine.status(f"ayaflow-{part}")
                assert "0" not in status["Uid"].split(), part
                assert status["NoNewPrivs"] == "1"
                assert status["Seccomp"] == "2"
                assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}, part
                assert int(status["CapBnd"], 16) == (CAPABILITIES if part == "producer" else 0), part
            producer = machine.of_unit("ayaflow-producer", "MainPID")
            may_do_nothing(producer, lambda path: machine.run("cat", path))

            machine.run("systemctl", "kill", "--signal=KILL", "ayaflow-producer")
            veth.send(a, *[frame] * PACKETS)  # counted in the kernel by what stayed there
            until(lambda: machine.of_unit("ayaflow-producer", "NRestarts") == "1", machine.journal)
            until(lambda: stored() == 2 * PACKETS, lambda: f"{stored()}\n{machine.journal()}")

            began = time.monotonic()
            machine.run("systemctl", "stop", *(f"ayaflow-{part}" for part in PARTS))
            assert time.monotonic() - began < 60
            for part in PARTS:
                assert machine.of_unit(f"ayaflow-{part}", "Result") == "success", machine.journal()
            assert machine.run("find", "/run/ayaflow/bpf", "-mindepth", "2") == ""
            assert json.loads(veth_programs(a)) == []


def veth_programs(interface: str) -> str:
    """Filters that are left on an interface."""
    return (
        subprocess.run(
            ["tc", "-json", "filter", "show", "dev", interface, "ingress"], capture_output=True, text=True, check=True
        ).stdout.strip()
        or "[]"
    )

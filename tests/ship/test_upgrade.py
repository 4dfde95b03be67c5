"""Data, topic and pins of the version before go on with this one, and the audit of both together is exact.

The version before is the newest tag. While nothing is released, schemas and tables are changed where they stand: it is
then the newest commit with other code and the schemas and tables of today.
"""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from deploy.local.kafka.broker import JARS
from producer.kernel import pins
from tests.e2e.system import System, ayaflow_up, logs, processes_of
from tests.fix_local import REPOSITORY
from tests.kernel import veth
from tests.waiting import until

pytestmark = [
    *(pytest.mark.ship, pytest.mark.root, pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(900)),
    pytest.mark.usefixtures("root_and_bcc"),
]

MOST_COMMITS = 100
PACKETS = 500
PORT = 4711
NODE = "upgraded"
FRAME = bytes(Ether(dst="02:00:00:00:00:02") / IP(src="10.1.2.3", dst="10.3.2.1") / UDP(sport=40_000, dport=PORT))
SCHEMAS = ("schemas/avro/*.avsc", "schemas/clickhouse/*.sql", "schemas/clickhouse/rollup*.py")
CODE = ("bpf", "common", "deploy/local", "producer", "schemas", "streams")


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()


def the_version_before() -> str:
    """A tag or a commit; empty: there is none."""
    with contextlib.suppress(subprocess.CalledProcessError):
        return git("describe", "--tags", "--abbrev=0", "HEAD^")
    for commit in git("rev-list", "--first-parent", f"--max-count={MOST_COMMITS}", "HEAD^").split():
        if git("diff", "--name-only", commit, "HEAD", "--", *SCHEMAS):
            break
        if git("diff", "--name-only", commit, "HEAD", "--", *CODE):
            return commit
    return ""


def check_out(commit: str, folder: Path) -> None:
    """Its sources, with their compiled parts; they run with the packages of this environment."""
    archive = subprocess.run(["git", "archive", commit], cwd=REPOSITORY, capture_output=True, check=True).stdout
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
    build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    done = subprocess.run(build, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def stored(system: System) -> int:
    [row] = system.rows(f"SELECT toUInt64(sum(packets + packets_rev)) AS n FROM flows WHERE dst_port = {PORT}")
    return int(row["n"])


def runs_from(folder: Path, system: System) -> bool:
    """Whether the parts are those of a checkout."""
    for pid in processes_of(system.data_dir):
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        if "streams" in words:
            return any(str(folder) in line for line in Path(f"/proc/{pid}/maps").read_text().splitlines())
    return False


def kill(system: System) -> None:
    """The producer by kill -9, which leaves its pins; then the others end as when `ayaflow up` is killed."""
    [producer] = [
        pid
        for pid in processes_of(system.data_dir)
        if "producer" in Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    ]
    system.process.send_signal(signal.SIGSTOP)  # or it starts another
    os.kill(producer, signal.SIGKILL)
    system.process.kill()
    system.process.communicate()
    until(lambda: not processes_of(system.data_dir), lambda: processes_of(system.data_dir))


def test_what_the_version_before_has_stored_and_left_goes_on(
    bpffs: Path, passable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = the_version_before()
    if not before:
        pytest.skip(
            "schemas or tables are those of the newest commit alone, and nothing is released: nothing is before"
        )
    print(f"\nfrom {git('log', '-1', '--format=%h %s', before)}")
    check_out(before, passable / "before")
    settings = {"capture": {"bpffs": str(bpffs), "loader": "object"}, "local": {"kafka_jars_dir": str(JARS)}}
    data_dir = passable / "data"
    with veth.pair() as (a, _):
        with monkeypatch.context() as patch:
            patch.setenv("PYTHONPATH", str(passable / "before"))
            patch.chdir(passable / "before")
            with ayaflow_up(data_dir, a, node=NODE, settings=settings) as system:
                veth.send(a, *[FRAME] * PACKETS)
                until(lambda: stored(system) == PACKETS, lambda: (stored(system), logs(data_dir)))
                assert runs_from(passable / "before", system)
                kill(system)
        assert pins.node_directory(bpffs, NODE).exists()
        veth.send(a, *[FRAME] * PACKETS)  # nobody runs: the kernel counts on
        with ayaflow_up(data_dir, a, node=NODE, settings=settings) as system:
            veth.send(a, *[FRAME] * PACKETS)
            until(lambda: stored(system) == 3 * PACKETS, lambda: (stored(system), logs(data_dir)))
            assert runs_from(REPOSITORY, system)
            audit = system.ayaflow("audit", "--wait", "120")
            assert audit.returncode == 0, audit.stdout + audit.stderr
            print(audit.stdout)

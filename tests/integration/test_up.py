"""`ayaflow up` as people and programs start it: real Kafka, ClickHouse, kernel program and Faust. Needs root."""

import contextlib
import fcntl
import json
import os
import pty
import pwd
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest
import yaml

from deploy.local.up.account import SYSTEM_USER
from producer.roles.capabilities import NUMBERS
from tests.fix_local import environment
from tests.integration.fix_up import GROUP, Installation, first_line, health, left_over, run, stage_pid, stages, started
from tests.kernel.attached import hooks
from tests.waiting import HANG_SECONDS, until

pytestmark = [pytest.mark.root, pytest.mark.kafka, pytest.mark.clickhouse]


def test_it_prints_one_line_restarts_what_dies_and_leaves_nothing_behind(
    installation: Installation, interface: str
) -> None:
    with started(installation) as process:
        assert first_line(process, installation) == f"ready {installation.console}\n"
        no_part_is_root(installation)
        strangers_read_nothing(installation)
        for stage in ("streams", "kafka"):
            os.kill(stage_pid(installation, stage), signal.SIGKILL)
        until(lambda: {"streams", "kafka"} <= set(stages(installation, "died")), installation.log)
        until(
            lambda: stages(installation, "ready").count("kafka") == 2 and health(installation)["ok"],
            lambda: (health(installation), installation.log()),
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(HANG_SECONDS) == 0, installation.log()
        assert process.stdout is not None
        assert process.stdout.read() == ""
    assert stages(installation, "stopped") == ["producer", "streams", "console", "clickhouse", "kafka"]
    assert left_over(installation) == []
    assert not hooks(interface)
    assert not list(Path("/sys/fs/bpf").glob(f"ayaflow/up-{os.getpid()}*"))


def no_part_is_root(installation: Installation) -> None:
    """And the producer, which was, may do nothing."""
    user = pwd.getpwnam(SYSTEM_USER if everybody_can_run_us() else "root")
    assert (user.pw_uid == 0) is any(entry["action"] == "all parts run as root" for entry in installation.log())
    for stage in GROUP:
        said = status(stage_pid(installation, stage))
        assert said["Uid"].split() == [str(user.pw_uid)] * 4, stage
        if user.pw_uid:
            assert (said["Gid"].split(), said["Groups"]) == ([str(user.pw_gid)] * 4, ""), stage
    said = status(stage_pid(installation, "producer"))
    held = {name: int(said[name], 16) for name in CAPABILITIES}
    if user.pw_uid:
        assert held == dict.fromkeys(CAPABILITIES, 0)
    assert {name: bits & ~(1 << NUMBERS["CAP_DAC_OVERRIDE"]) for name, bits in held.items()} == dict.fromkeys(held, 0)
    assert said["NoNewPrivs"] == "1"
    for child in children(stage_pid(installation, "kafka")):
        assert status(child)["Uid"].split()[0] == str(user.pw_uid)


def everybody_can_run_us() -> bool:
    """Whether this checkout is where others may read."""
    try:
        tried = subprocess.run([sys.executable, "-P", "-c", "import cli.main"], user="nobody", check=False)
    except PermissionError:
        return False
    return tried.returncode == 0


CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def strangers_read_nothing(installation: Installation) -> None:
    """Nor can an unprivileged part write where root does."""
    data = installation.directory / "data"
    assert data.stat().st_mode & 0o7777 == (0o710 if everybody_can_run_us() else 0o700)
    look = "import os, sys; os.listdir(sys.argv[1])"
    for user, place in (("nobody", data), ("nobody", data / "logs"), ("nobody", data / "kafka"), (SYSTEM_USER, data)):
        tried = subprocess.run(
            ["/usr/bin/python3", "-c", look, place], user=user, capture_output=True, text=True, check=False
        )
        assert "PermissionError" in tried.stderr, (user, place)
    mine = [
        (Path(folder) / name).relative_to(data)
        for folder, folders, files in os.walk(data)
        for name in (*folders, *files)
        if not (Path(folder) / name).is_symlink() and (Path(folder) / name).stat().st_mode & 0o077
    ]
    assert [place for place in mine if (data / place).stat().st_uid != 0] == []
    assert {str(place) for place in mine} <= {"logs", "run", "run/settings.yaml", "spool"}


def test_the_view_shows_traffic_and_nothing_outlives_kill_9(installation: Installation, interface: str) -> None:
    run("ip", "addr", "add", "10.99.78.1/24", "dev", interface)
    run("ip", "neigh", "add", "10.99.78.2", "lladdr", "02:00:00:00:00:02", "dev", interface)
    pid, terminal = pty.fork()
    if pid == 0:  # the child
        os.execve(sys.executable, installation.command, {**environment(), "TERM": "xterm-256color"})
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        stop = threading.Event()
        sender = threading.Thread(target=send, args=(stop,))
        sender.start()
        try:
            shown = read_until(terminal, "10.99.78.2:4242")
        finally:
            stop.set()
            sender.join()
        for stage in GROUP:
            assert stage in shown
        os.kill(pid, signal.SIGKILL)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)
    until(lambda: not left_over(installation), lambda: left_over(installation))
    assert not hooks(interface)


def send(stop: threading.Event) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        while not stop.wait(0.02):
            sender.sendto(b"hello", ("10.99.78.2", 4242))


def read_until(terminal: int, text: str) -> str:
    shown, deadline = b"", time.monotonic() + HANG_SECONDS
    while text.encode() not in shown:
        assert time.monotonic() < deadline, shown[-4000:].decode("utf-8", "replace")
        if select.select([terminal], [], [], 0.5)[0]:
            try:
                shown += os.read(terminal, 65_536)
            except OSError:  # the other side is closed
                pytest.fail("ended: " + shown[-4000:].decode("utf-8", "replace"))
    return shown.decode("utf-8", "replace")


def run_to_its_end(installation: Installation) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        installation.command, capture_output=True, text=True, env=environment(), timeout=HANG_SECONDS, check=False
    )


def test_all_that_is_wrong_is_said_at_once_and_nothing_is_started(installation: Installation) -> None:
    settings = yaml.safe_load(installation.config.read_text())
    settings["capture"]["interfaces"] = ["nope0"]
    settings["local"]["kafka_jars_dir"] = str(installation.directory / "none")
    port = int(installation.console.rpartition(":")[2])
    installation.config.write_text(yaml.safe_dump(settings))
    with socket.create_server(("127.0.0.1", port)):
        done = run_to_its_end(installation)
    assert (done.returncode, done.stdout) == (3, "")
    for part in ("nope0", "jars are not in", f"port {port} is in use by", "set console.listen"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert left_over(installation) == []


def test_a_stage_that_cannot_start_stops_everything_and_says_why(installation: Installation) -> None:
    (installation.directory / "data/run/clickhouse/lock").mkdir(parents=True)
    done = run_to_its_end(installation)
    assert (done.returncode, done.stdout) == (3, "")
    assert "clickhouse cannot start: " in done.stderr
    assert left_over(installation) == []


@pytest.mark.wide
def test_all_parts_meet_on_an_ipv6_address(installation: Installation) -> None:
    settings = json.dumps(yaml.safe_load(installation.config.read_text())).replace("127.0.0.1", "[::1]")
    installation.config.write_text(settings)
    with started(installation) as process:
        line = first_line(process, installation)
        assert line == f"ready {installation.console.replace('127.0.0.1', '[::1]')}\n"
        asked = [sys.executable, "-m", "cli.main", "--config", str(installation.config)]
        assert run(*asked, "query", "SELECT count() >= 0 AS n", "--format", "json") == '{"n":1}\n'
        checks = json.loads(
            subprocess.run([*asked, "doctor", "--format", "json"], capture_output=True, check=False).stdout
        )["checks"]
        assert not [one for one in checks if one["name"] in GROUP and not one["ok"]]

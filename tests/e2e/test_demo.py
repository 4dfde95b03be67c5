"""`ayaflow demo` as a newcomer starts it: traffic with names at once, a day before it, and nothing left of it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local.demo import plan
from tests.e2e import net
from tests.e2e.system import logs, processes_of
from tests.fix_local import free_port
from tests.waiting import HANG_SECONDS, until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.kafka,
    pytest.mark.clickhouse,
    pytest.mark.usefixtures("root_and_bcc"),
]


class Demo:
    """One that runs."""

    def __init__(self, process: "subprocess.Popen[str]", url: str, data_dir: Path) -> None:
        self.process, self.url, self.data_dir = process, url, data_dir
        self.settings = yaml.safe_load((data_dir / "run/settings.yaml").read_text())

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """As whoever looks by SQL: reading asks for no password."""
        query = urllib.parse.urlencode({"query": f"{sql} FORMAT JSONEachRow"})
        with urllib.request.urlopen(f"{self.settings['clickhouse']['url']}/?{query}", timeout=HANG_SECONDS) as answer:
            return [json.loads(line) for line in answer.read().splitlines()]


@contextlib.contextmanager
def demo(folder: Path) -> Iterator[Demo]:
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "demo", "--set", f"console.listen=127.0.0.1:{free_port()}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = list(folder.glob("ayaflow-demo-*"))
        assert line.startswith("ready http://"), line + "".join(map(logs, found))
        yield Demo(process, line.split()[1], found[0])
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=HANG_SECONDS)
        finally:
            process.kill()
        until(lambda: not processes_of(folder))


def seen(system: Demo) -> dict[str, str]:
    """Names of the traffic of now, and where they were read."""
    rows = system.rows(
        f"SELECT domain, any(domain_source) AS source FROM flows WHERE node = '{plan.NODE}' AND domain != '' GROUP BY 1"
    )
    return {row["domain"]: row["source"] for row in rows}


def hours(system: Demo) -> int:
    """Of the day before, how many have flows."""
    [row] = system.rows(
        f"SELECT uniqExact(toStartOfHour(window_begin)) AS hours FROM flows WHERE node = '{plan.PAST_NODE}'"
    )
    return int(row["hours"])


@pytest.mark.wide
def test_it_shows_traffic_with_names_and_leaves_nothing(passable: Path) -> None:
    links, pins = net.run("ip", "-o", "link"), sorted(Path("/sys/fs/bpf").glob("ayaflow/*"))
    with demo(passable) as system:
        wanted = {"www.news.example", "vod.cinema.example", "db.office.example", "updates.mirror.example"}
        until(lambda: wanted <= seen(system).keys(), lambda: (seen(system), logs(system.data_dir)))
        passed = system.rows(f"SELECT DISTINCT interface, dst_port FROM flows WHERE node = '{plan.NODE}'")
        assert {row["interface"] for row in passed} == {plan.WATCHED}
        ports = {plan.DNS_PORT, plan.HTTP_PORT, plan.HTTPS_PORT, plan.POSTGRESQL_PORT, plan.SSH_PORT}
        assert ports <= {int(row["dst_port"]) for row in passed}
        system.process.send_signal(signal.SIGINT)
        out, err = system.process.communicate(timeout=HANG_SECONDS)
        assert system.process.returncode == 0, out + err
        assert list(passable.iterdir()) == []
    assert net.run("ip", "-o", "link") == links
    assert sorted(Path("/sys/fs/bpf").glob("ayaflow/*")) == pins


@pytest.mark.wide
def test_it_has_a_day_before_it_and_leaves_nothing_when_it_is_killed(passable: Path) -> None:
    with demo(passable) as system:
        until(lambda: hours(system) >= 23, lambda: (hours(system), logs(system.data_dir)), seconds=240)
        command = [sys.executable, "-m", "cli.main", "audit", "--config", str(system.data_dir / "run/settings.yaml")]
        audit = subprocess.run([*command, "--wait", "120"], capture_output=True, text=True, check=False)
        assert audit.returncode == 0, audit.stdout + audit.stderr
        assert {plan.NODE, plan.PAST_NODE} <= set(audit.stdout.split())
        system.process.kill()
        until(lambda: not list(passable.iterdir()), lambda: processes_of(passable))
        until(lambda: not processes_of(passable), lambda: processes_of(passable))

"""deploy/compose as it stands, by Docker Compose and our images, to packets in the table and panels of Grafana.

Kafka, ClickHouse and Prometheus are images of our own with the same programs: see stand_ins/Containerfile. Grafana's
server is not in any registry that is reached here: its dashboards' queries are asked, its screens are not drawn.
"""

import base64
import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from deploy.grafana.health import PANELS
from tests.fix_local import REPOSITORY
from tests.kernel import veth
from tests.ship.conftest import Images
from tests.ship.podman import Podman
from tests.ship.status import may_do_nothing
from tests.unit.deploy.test_grafana import grafanas
from tests.waiting import HANG_SECONDS, until

pytestmark = [pytest.mark.ship, pytest.mark.timeout(1200)]

BIN = Path(sys.executable).parent
COMPOSE = REPOSITORY / "deploy/compose"
STAND_INS = Path(__file__).with_name("stand_ins")
PASSWORD = "of-the-test"
PACKETS = 1000
PRODUCER_STARTS_WITH = ("BPF", "CHOWN", "NET_ADMIN", "PERFMON", "SETGID", "SETUID")
RUN = ("kafka", "clickhouse", "producer", "streams", "console", "prometheus")  # all but Grafana
MUST_BE_EMPTY = {"Not recorded, by reason", "Interfaces not watched", "Troubles"}  # there is no such label yet


@dataclass(frozen=True, slots=True)
class Stack:
    """What compose.yaml describes."""

    podman: Podman
    host: str
    settings: dict[str, str] = field(default_factory=dict)

    def compose(self, *words: str, check: bool = True) -> str:
        """A command of Docker Compose."""
        done = self.podman.run(
            *(BIN / "docker-compose", "-f", COMPOSE / "compose.yaml", "-f", COMPOSE / "podman.yaml"),
            *("-f", STAND_INS / "limits.yaml"),
            *("--profile", "monitoring"),
            *words,
            check=check,
            seconds=600,
            **self.settings,
            DOCKER_HOST=self.host,
        )
        return done.stdout + done.stderr


def get(url: str, **headers: str) -> Any:
    """JSON from an address; an answer that says that something is wrong, too. None: there is no answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=HANG_SECONDS) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return json.load(error)
    except OSError:
        return None


def selected(sql: str) -> list[dict[str, Any]]:
    """Rows of ClickHouse."""
    known = base64.b64encode(f"ayaflow:{PASSWORD}".encode()).decode()
    query = urllib.parse.urlencode({"query": f"{sql} FORMAT JSONEachRow", "database": "ayaflow"})
    asked = urllib.request.Request(f"http://127.0.0.1:8123/?{query}", headers={"Authorization": f"Basic {known}"})
    with urllib.request.urlopen(asked, timeout=HANG_SECONDS) as answer:
        return [json.loads(line) for line in answer.read().splitlines()]


def stand_ins(images: Images, place: Path) -> dict[str, str]:
    """Build them -> the variable of compose.yaml and the image that takes the place."""
    for file in STAND_INS.iterdir():
        shutil.copy(file, place)
    prometheus = shutil.which("prometheus") or BIN / "prometheus"
    shutil.copy(prometheus, place / "prometheus")
    made = {}
    for part in ("kafka", "clickhouse", "prometheus"):
        tag = f"localhost/stand-in-{part}:1"
        images.podman.run(
            *("buildah", "build", "--quiet", "--isolation", "chroot", "--format", "docker", "--target", part),
            *("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=1000:1000"),
            *("--build-arg", f"AYAFLOW={images.name('ayaflow')}", "-t", tag, "-f", place / "Containerfile", place),
        )
        made[f"{part.upper()}_IMAGE"] = tag
    return made


@contextmanager
def up(images: Images, place: Path, interface: str) -> Iterator[Stack]:
    """Start all of it; afterwards nothing is left of it."""
    settings = {**stand_ins(images, place), "CLICKHOUSE_PASSWORD": PASSWORD, "INTERFACES": interface, "NODE": "compose"}
    with images.podman.socket() as host, images.podman.health_checked():
        stack = Stack(images.podman, host, settings)
        try:
            print(stack.compose("up", "--detach", *RUN))
            yield stack
        except BaseException:
            print(stack.compose("ps", "--all", check=False), stack.compose("logs", "--tail=30", check=False))
            raise
        finally:
            stack.compose("down", "--volumes", "--timeout=60", check=False)


def test_compose_brings_packets_into_the_table_and_panels_have_answers(images: Images, tmp_path: Path) -> None:
    with veth.pair() as (a, _):
        frame = bytes(Ether(dst="02:00:00:00:00:02") / IP(src="10.1.2.3", dst="10.3.2.1") / UDP(sport=4321, dport=53))
        with up(images, tmp_path, a) as stack:
            until(
                lambda: (get("http://127.0.0.1:8080/api/health") or {}).get("ok"),
                lambda: get("http://127.0.0.1:8080/api/health"),
            )
            veth.send(a, *[frame] * PACKETS)
            until(
                lambda: (
                    int(selected("SELECT sum(packets + packets_rev) AS n FROM flows WHERE primary")[0]["n"]) == PACKETS
                )
            )
            said = stack.compose("exec", "-T", "console", "ayaflow", "audit", "--wait", "60")
            assert "Exact" in said
            asked_of_prometheus()
            for part in ("producer", "streams", "console"):
                state = json.loads(images.podman.podman("inspect", f"ayaflow-{part}-1"))[0]
                given = {f"CAP_{name}" for name in PRODUCER_STARTS_WITH} if part == "producer" else set()
                assert set(state["EffectiveCaps"] or ()) == given
                images.podman.podman("healthcheck", "run", f"ayaflow-{part}-1")
            may_do_nothing(json.loads(images.podman.podman("inspect", "ayaflow-producer-1"))[0]["State"]["Pid"])
        left = subprocess.run([sys.executable, "-m", "cli.main", "detach"], capture_output=True, text=True, check=True)
        assert left.stdout == "nothing of ayaflow was attached or pinned here\n"


def asked_of_prometheus() -> None:
    """Targets are up, the rules are loaded, and each panel of health has an answer where it can."""

    def targets() -> set[str]:
        found = get("http://127.0.0.1:9090/api/v1/targets")["data"]["activeTargets"]
        return {one["health"] for one in found} if len(found) == 3 else set()

    until(lambda: targets() == {"up"}, targets)
    groups = get("http://127.0.0.1:9090/api/v1/rules")["data"]["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
    assert sum(len(group["rules"]) for group in groups) > 10
    end = time.time() + 60  # rates need two scrapes, 15 s apart
    missing = {panel.title for panel in PANELS}
    while missing and time.time() < end:
        for panel in PANELS:
            for expression in panel.promql:
                query = urllib.parse.urlencode({"query": grafanas(expression)})
                found = get(f"http://127.0.0.1:9090/api/v1/query?{query}")
                assert found["status"] == "success", found
                if found["data"]["result"]:
                    missing.discard(panel.title)
        missing -= MUST_BE_EMPTY
        time.sleep(1)
    assert not missing

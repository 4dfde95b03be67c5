"""What deploy/ has for images, compose and systemd is sound: the tools of each take it. Nothing is built here."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from deploy.images import healthy, sbom
from tests.fix_local import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
CONTAINERFILE = (DEPLOY / "images/Containerfile").read_text()
BAKE: dict[str, Any] = json.loads((DEPLOY / "images/docker-bake.json").read_text())
GOLDEN = Path(__file__).with_name("golden_compose.yaml")
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
MOST_EXPOSED = {"ayaflow-producer": 2.0, "ayaflow-streams": 1.2, "ayaflow-console": 1.2}  # of 10
BIN = Path(sys.executable).parent


def said(*words: object, **variables: str) -> str:
    """What a tool says that must be content."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_hadolint_finds_nothing_to_say() -> None:
    assert said(BIN / "hadolint", "--config", ".hadolint.yaml", "deploy/images/Containerfile") == ""


def test_each_image_is_a_target_of_the_one_definition_for_both_machines() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", CONTAINERFILE, re.MULTILINE))
    for name in BAKE["group"]["default"]["targets"]:
        target = BAKE["target"][name]
        assert target["inherits"] == ["any"]
        assert target["target"] == name
        assert name in stages
    assert BAKE["target"]["any"]["platforms"] == ["linux/amd64", "linux/arm64"]
    assert {*BAKE["target"]["any"]["args"]} <= set(re.findall(r"\b([A-Z_]+)\b", CONTAINERFILE))


def test_compose_takes_the_file_and_makes_of_it_what_is_known() -> None:
    made = said(
        BIN / "docker-compose",
        *("-f", "deploy/compose/compose.yaml", "--profile", "monitoring", "config", "--no-path-resolution"),
        CLICKHOUSE_PASSWORD="secret",
    )
    assert yaml.safe_load(made) == yaml.safe_load(GOLDEN.read_text()), f"if that is meant, write it to {GOLDEN}: {made}"


def test_compose_takes_what_podman_of_debian_12_needs_beside_it() -> None:
    files = (word for name in ("compose", "podman") for word in ("-f", f"deploy/compose/{name}.yaml"))
    made = said(BIN / "docker-compose", *files, "config", CLICKHOUSE_PASSWORD="secret")
    assert "seccomp:unconfined" in yaml.safe_load(made)["services"]["producer"]["security_opt"]


def test_compose_asks_for_a_password_when_there_is_none() -> None:
    done = subprocess.run(
        [BIN / "docker-compose", "-f", DEPLOY / "compose/compose.yaml", "config"],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "set it in the file .env" in done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_systemd_knows_all_that_a_unit_says(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text().replace("/opt/ayaflow/bin/ayaflow", "/bin/true")  # it looks whether the program is there
    copy = tmp_path / unit.name
    copy.write_text(text)
    mount = "run-ayaflow-bpf.mount"
    (tmp_path / mount).write_text((DEPLOY / "systemd" / mount).read_text())
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    about = [line for line in (done.stdout + done.stderr).splitlines() if "ayaflow" in line]
    assert (done.returncode, about) == (0, [])


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_unit_is_exposed_no_more_than_it_must(unit: Path) -> None:
    told = said("systemd-analyze", "security", "--offline=true", "--no-pager", unit)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", told)
    assert found, told
    assert float(found[1]) <= MOST_EXPOSED[unit.stem], told


def test_the_list_of_an_image_s_contents_is_valid_spdx(tmp_path: Path) -> None:
    """Of this machine's packages, and of this environment's; those of an image are looked at in test_images.py."""
    environment = tmp_path / "opt/ayaflow/lib"
    environment.mkdir(parents=True)
    (environment / "python3").symlink_to(next(Path(sys.prefix).glob("lib/python3*")))
    (tmp_path / "var/lib").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg").symlink_to("/var/lib/dpkg")
    (tmp_path / "usr/share/ayaflow").mkdir(parents=True)
    (tmp_path / "usr/share/ayaflow/jars").symlink_to(DEPLOY / "local/jars")
    output = tmp_path / "sbom.spdx.json"
    output.write_text(said(BIN / "python", "deploy/images/sbom.py", "ayaflow", tmp_path))
    names = {one["name"] for one in json.loads(output.read_text())["packages"]}
    assert names >= {"python3", "libc6", "ayaflow", "numpy", "kafka-clients"}
    assert validate_full_spdx_document(parse_file(str(output))) == []


def test_the_same_contents_give_the_same_list() -> None:
    one = sbom.package("deb", "a", "1", "pkg:deb/debian/a@1")
    two = sbom.package("deb", "b", "1", "pkg:deb/debian/b@1")
    epoch = datetime.fromtimestamp(0, UTC)
    assert sbom.document("x", [one, two], epoch) == sbom.document("x", [two, one, one], epoch)


class Part(BaseHTTPRequestHandler):
    """A part whose health is the number in its server."""

    def do_GET(self) -> None:
        status: int = self.server.status  # type: ignore[attr-defined]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b'{"error": "kafka is away"}')

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def part() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Part) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("producer", 200, 0), ("producer", 503, 1), ("streams", 503, 1), ("console", 200, 0), ("console", 503, 0)],
)
def test_a_health_check_says_what_the_part_says(
    part: ThreadingHTTPServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    status: int,
    code: int,
) -> None:
    part.status = status  # type: ignore[attr-defined]
    setting = "AYAFLOW_CONSOLE_LISTEN" if name == "console" else f"AYAFLOW_{name.upper()}_METRICS_LISTEN"
    monkeypatch.setenv(setting, f"0.0.0.0:{part.server_port}")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # for the world outside
    assert healthy.main(name) == code
    assert ("kafka is away" in capsys.readouterr().err) is bool(code)


def test_a_health_check_of_a_part_that_is_not_there_says_where_it_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "ayaflow.yaml"
    file.write_text("producer:\n  metrics_listen: '[::1]:1'\n")
    monkeypatch.setenv("AYAFLOW_CONFIG", str(file))
    monkeypatch.delenv("AYAFLOW_PRODUCER_METRICS_LISTEN", raising=False)
    assert healthy.main("producer") == 1
    assert capsys.readouterr().err.startswith("http://[::1]:1/health does not answer")


def test_where_each_part_listens_is_the_default_of_its_setting() -> None:
    from common.settings import Settings

    defaults = Settings()
    for section, setting, listen, _ in healthy.PARTS.values():
        assert getattr(getattr(defaults, section), setting) == listen

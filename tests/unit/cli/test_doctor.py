"""The doctor's report, on a machine where nothing of ours runs."""

import contextlib
import json
import os
import socket
from io import StringIO
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from cli import doctor
from cli.main import main
from common.errors import EnvironmentProblem
from common.settings import (
    ClickHouseSettings,
    ConsoleSettings,
    KafkaSettings,
    ProducerSettings,
    Settings,
    StreamsSettings,
)
from console.health import Question, Verdict
from deploy.local.process import only_one
from deploy.local.up.processes import settings_file
from producer.kernel import pins


def unused() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_a_failed_check_does_not_keep_the_next_from_running() -> None:
    def fails() -> str:
        raise EnvironmentProblem("buy one")

    found = list(doctor.check([("a", lambda: "good"), ("b", fails), ("c", lambda: "good")]))
    assert [(one.name, one.ok, one.message) for one in found] == [
        ("a", True, "good"),
        ("b", False, "buy one"),
        ("c", True, "good"),
    ]


def test_with_nothing_running_each_stage_says_what_to_do(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        kafka=KafkaSettings(bootstrap_servers=unused()),
        clickhouse=ClickHouseSettings(url=f"http://{unused()}"),
        producer=ProducerSettings(metrics_listen=unused()),
        streams=StreamsSettings(metrics_listen=unused()),
        console=ConsoleSettings(listen=unused()),
    )
    out = StringIO()
    assert doctor.run(settings, as_json=True, out=out) == 1
    report = json.loads(out.getvalue())
    checks = {one["name"]: one for one in report["checks"]}
    for name in ("kafka", "clickhouse", "tables", "producer", "streams", "console", "storing", "data"):
        assert not checks[name]["ok"]
    for name in ("kafka", "clickhouse", "tables", "producer", "streams", "console", "data"):
        assert "ayaflow" in checks[name]["message"]
    assert checks["disk"]["ok"]
    text = StringIO()
    assert doctor.run(settings, out=text) == 1
    assert "FAIL" in text.getvalue()


@pytest.mark.parametrize("runs", [True, False])
def test_beside_a_running_up_the_settings_are_its_own(
    tmp_path: Path, runs: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AYAFLOW_")]:
        monkeypatch.delenv(name)
    nobody = unused()
    settings_file(tmp_path).parent.mkdir()
    settings_file(tmp_path).write_text(
        yaml.safe_dump(
            {
                "data_dir": str(tmp_path),
                "capture": {"interfaces": ["lo"]},
                "kafka": {"bootstrap_servers": nobody},
                "clickhouse": {"url": f"http://{nobody}"},
                "producer": {"metrics_listen": nobody},
                "streams": {"metrics_listen": nobody},
                "console": {"listen": nobody},
            }
        )
    )
    elsewhere = [f"--set={name}={nobody}" for name in ("kafka.bootstrap_servers", "console.listen")]
    with only_one(tmp_path, "up", "ayaflow up") if runs else contextlib.nullcontext():
        main(["doctor", "--format", "json", "--data-dir", str(tmp_path), *elsewhere])
    checks = {one["name"]: one for one in json.loads(capsys.readouterr().out)["checks"]}
    if runs:
        assert checks["settings"]["message"] == f"of the running `ayaflow up`: {settings_file(tmp_path)}"
        assert checks["interfaces"]["ok"]
        assert nobody in checks["producer"]["message"]
    else:
        assert "settings" not in checks
        assert nobody not in checks["producer"]["message"]


def test_what_a_stage_says_does_nothing_to_a_terminal() -> None:
    out = StringIO()
    Console(file=out, soft_wrap=True).print(
        doctor.table([doctor.Check(name="producer", ok=False, message="\x1b[2J\u202e says that it is not well")])
    )
    assert out.getvalue().rstrip("\n").isprintable()


def test_what_is_to_be_set_right_is_said_of_a_stage_that_is_well() -> None:
    told = {"warnings": ["the clock of node n1 is 600 s ahead of ours"], "rows_stored": 1}
    question = Question(stage="streams", place="streams", setting="x", look=lambda: Verdict(ok=True, details=told))
    [found] = doctor.check([("streams", doctor.answers(question, "do it"))])
    assert (found.ok, found.message) == (True, "answers and is well; the clock of node n1 is 600 s ahead of ours")
    assert Verdict(ok=True, details={"warnings": "not a list"}).warnings == []


def test_what_a_killed_producer_left_in_the_kernel_is_named(tmp_path: Path) -> None:
    assert doctor.left_behind(tmp_path) == "nothing in the kernel is without its producer"
    with pins.locked(pins.node_directory(tmp_path, "runs")):
        assert doctor.left_behind(tmp_path) == "nothing in the kernel is without its producer"
        pins.node_directory(tmp_path, "was.killed").mkdir()
        with pytest.raises(EnvironmentProblem, match=r"^node was\.killed: .*ayaflow detach"):
            doctor.left_behind(tmp_path)

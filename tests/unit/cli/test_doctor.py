"""The doctor's report, on a machine where nothing of ours runs."""

import json
import socket
from io import StringIO
from pathlib import Path

from cli import doctor
from common.errors import EnvironmentProblem
from common.settings import (
    ClickHouseSettings,
    ConsoleSettings,
    KafkaSettings,
    ProducerSettings,
    Settings,
    StreamsSettings,
)


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
    for name in ("kafka", "clickhouse", "tables", "producer", "streams", "console", "data"):
        assert not checks[name]["ok"]
        assert "ayaflow" in checks[name]["message"]
    assert checks["disk"]["ok"]
    text = StringIO()
    assert doctor.run(settings, out=text) == 1
    assert "FAIL" in text.getvalue()

"""How stages are asked, and what becomes of their answers; the stages are real servers of the test."""

import json
import socket
from collections.abc import Iterator
from http.client import BadStatusLine
from typing import Any

import pytest

from common import settings as settings_module
from common.errors import SettingsError
from console.health import Question, Verdict, questions
from tests.unit.console.answering import answering

UNSAID = "says that it is not well, and not why; its log, in data_dir/logs, has more"


def asked(stage: str, *, timeout_seconds: float = 5.0, **values: str) -> tuple[Question, Verdict]:
    loaded = settings_module.load(flags={name.replace("__", "."): value for name, value in values.items()})
    question = next(one for one in questions(loaded, timeout_seconds=timeout_seconds) if one.stage == stage)
    return question, question.ask()


def streams(status: int, body: Any) -> Verdict:
    with answering(status, body if isinstance(body, bytes) else json.dumps(body).encode()) as address:
        return asked("streams", streams__metrics_listen=address)[1]


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that is ours and where nobody listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{closed.getsockname()[1]}"


def test_a_stage_that_is_well_tells_its_details() -> None:
    verdict = streams(200, {"ok": True, "stage": "streams", "lag": 3})
    assert verdict == Verdict(ok=True, details={"lag": 3})
    assert verdict.sentence("streams at x") == ""


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (503, {"ok": False, "error": "ClickHouse is read-only"}, "ClickHouse is read-only"),
        (503, {"ok": False, "waiting_for": "Kafka"}, "streams at x waits for Kafka"),
        (503, {"ok": False}, f"streams at x {UNSAID}"),
        (200, {"stages": 7}, f"streams at x {UNSAID}"),
        (503, {"ok": False, "troubles": 7}, f"streams at x {UNSAID}"),
        (503, {"ok": False, "troubles": [{"error": "no room", "service": "ClickHouse"}, 7]}, "no room"),
        (
            503,
            {"ok": False, "troubles": [{"error": "no", "partition": 0, "window_begin": "W", "since": "S"}]},
            "partition 0, the window of W: no (since S)",
        ),
        (403, {"error": "192.0.2.7 may not ask here"}, "192.0.2.7 may not ask here"),
        (500, b"no", "streams at x answers 500"),
        (200, b"no", "streams at x does not answer (what answers is not a part of ayaflow)"),
        (200, [1], "streams at x does not answer (what answers is not a part of ayaflow)"),
    ],
)
def test_a_stage_that_is_not_well_says_why_or_it_is_said_of_it(status: int, body: Any, sentence: str) -> None:
    verdict = streams(status, body)
    assert (verdict.ok, verdict.sentence("streams at x")) == (False, sentence)


def test_one_worker_that_is_not_well_is_told_whichever_it_is(nobody: str) -> None:
    well = json.dumps({"ok": True, "lag": 3, "warnings": ["w1"]}).encode()
    ill = json.dumps({"ok": False, "troubles": [{"error": "no room", "partition": 2}]}).encode()
    with answering(200, well) as first, answering(503, ill) as second:
        loaded = settings_module.load(flags={"console.streams": [first, second]})
        question = next(one for one in questions(loaded, timeout_seconds=5) if one.stage == "streams")
        verdict = question.ask()
        assert (verdict.ok, verdict.sentence(question.place)) == (False, "partition 2: no room")
        assert verdict.warnings == ["w1"]
        assert [part["ok"] for part in verdict.details["parts"]] == [True, False]
        loaded = settings_module.load(flags={"console.producers": [first, nobody]})
        question = next(one for one in questions(loaded, timeout_seconds=5) if one.stage == "producer")
        verdict = question.ask()
    assert verdict.sentence(question.place) == f"the producer at {nobody} does not answer (connection refused)"


def test_all_workers_well_is_well() -> None:
    with answering(200, b'{"ok": true, "lag": 3}') as first, answering(200, b'{"ok": true}') as second:
        loaded = settings_module.load(flags={"console.streams": [first, second]})
        verdict = next(one for one in questions(loaded, timeout_seconds=5) if one.stage == "streams").ask()
    assert (verdict.ok, verdict.message, verdict.details["lag"]) == (True, "", 3)


def test_the_console_says_which_of_the_others_is_not_well() -> None:
    stages = [
        {"stage": "kafka", "ok": True, "message": ""},
        {"stage": "producer", "ok": False, "message": "the ring is full"},
        {"stage": "streams", "ok": False, "message": "later"},
    ]
    with answering(503, json.dumps({"ok": False, "stages": stages}).encode()) as address:
        _, verdict = asked("console", console__listen=address)
    assert (verdict.ok, verdict.sentence("the console at x")) == (False, "producer: the ring is full")


@pytest.mark.parametrize(("status", "ok", "message"), [(200, True, ""), (500, False, "answers 500")])
def test_clickhouse_is_well_when_it_answers_a_ping(status: int, ok: bool, message: str) -> None:
    with answering(status, b"Ok.\n") as address:
        _, verdict = asked("clickhouse", clickhouse__url=f"http://{address}")
    assert (verdict.ok, verdict.message) == (ok, message)


def test_what_is_away_is_told_with_what_to_do(nobody: str) -> None:
    question, verdict = asked("producer", producer__metrics_listen=nobody)
    assert not verdict.ok
    assert verdict.sentence(question.place) == f"the producer at {nobody} does not answer (connection refused)"
    assert verdict.advice == "start it with `ayaflow up` or `ayaflow producer`, or correct producer.metrics_listen"


def test_what_accepts_and_is_silent_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        _, verdict = asked("streams", timeout_seconds=0.1, streams__metrics_listen=address)
    assert (verdict.ok, verdict.message) == (False, "does not answer (no answer in time)")


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (BadStatusLine("SSH-2.0-OpenSSH"), "SSH-2.0-OpenSSH"),
        (OSError(), "OSError"),
    ],
)
def test_whatever_goes_wrong_is_a_verdict(error: Exception, why: str) -> None:
    def look() -> Verdict:
        raise error

    verdict = Question(stage="streams", place="streams at x", setting="x", look=look).ask()
    assert (verdict.ok, verdict.message) == (False, f"does not answer ({why})")


def test_kafka_that_is_away_is_told_in_its_clients_words(nobody: str) -> None:
    question, verdict = asked("kafka", timeout_seconds=0.3, kafka__bootstrap_servers=nobody)
    assert not verdict.ok
    assert verdict.sentence(question.place).startswith(f"Kafka at {nobody} does not answer (")


def test_a_setting_that_cannot_be_read_is_the_sentence() -> None:
    def look() -> Verdict:
        raise SettingsError("clickhouse.url: write it as http://HOST:PORT")

    verdict = Question(stage="clickhouse", place="ClickHouse at ?", setting="clickhouse.url", look=look).ask()
    assert verdict.sentence("ClickHouse at ?") == "clickhouse.url: write it as http://HOST:PORT"


def test_a_proxy_for_the_world_outside_is_not_asked(nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{nobody}")
    assert streams(200, {"ok": True}).ok


def test_clickhouse_is_asked_by_the_proxy_that_its_clients_use(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(200, b"Ok.") as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy}")
        monkeypatch.delenv("no_proxy", raising=False)
        assert asked("clickhouse", clickhouse__url="http://clickhouse.invalid:8123")[1].ok

import io
import json
import logging
from collections.abc import Iterator

import pytest

from common import logs
from common.logs import EVERY_SECONDS, LIBRDKAFKA, Limit, OncePerMinute


@pytest.fixture(autouse=True)
def keep_handlers() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


def test_json_lines_carry_the_action_and_its_fields() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    logs.get("producer").info("attached", interface="eth0")
    line = json.loads(stream.getvalue())
    assert (line["level"], line["component"], line["action"], line["interface"]) == (
        "info",
        "producer",
        "attached",
        "eth0",
    )


def test_text_is_one_line() -> None:
    stream = io.StringIO()
    logs.configure(form="text", stream=stream)
    logs.get("sink").warning("insert failed", tries=3)
    assert stream.getvalue().endswith("Z WARNING sink: insert failed tries=3\n")


def test_standard_error_is_what_it_is_when_something_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    first, then = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.stderr", first)
    logs.configure(form="text")
    monkeypatch.setattr("sys.stderr", then)
    first.close()
    logs.get("x").info("said")
    assert then.getvalue().endswith(" INFO    x: said\n")


def test_a_cause_adds_its_traceback() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    logs.get("x").error("failed", cause=ValueError("why"))
    assert "ValueError: why" in json.loads(stream.getvalue())["traceback"]


def test_lower_levels_are_left_out() -> None:
    stream = io.StringIO()
    logs.configure(level="warning", stream=stream)
    logs.get("x").info("quiet")
    assert stream.getvalue() == ""


def test_what_happens_again_and_again_is_due_once_a_minute_and_its_times_are_counted() -> None:
    now = [0.0]
    limit = Limit(lambda: now[0])
    assert [limit.due("a"), limit.due("a"), limit.due("b"), limit.due("a")] == [1, 0, 1, 0]
    now[0] = EVERY_SECONDS - 0.1
    assert limit.due("a") == 0
    now[0] = EVERY_SECONDS
    assert [limit.due("a"), limit.due("a"), limit.due("b")] == [4, 0, 1]


def test_a_limit_forgets_what_was_said_long_ago() -> None:
    now = [0.0]
    limit = Limit(lambda: now[0])
    for number in range(5_000):
        now[0] += EVERY_SECONDS / 100
        assert limit.due(number) == 1
    assert len(limit._said) <= 1_100


def test_another_library_says_each_of_its_messages_once_a_minute() -> None:
    now, stream = [0.0], io.StringIO()
    logs.configure(form="text", stream=stream)
    logging.getLogger().handlers[0].filters[:] = [OncePerMinute(lambda: now[0])]
    for second in range(121):
        now[0] = float(second)
        logging.getLogger("some.library").warning("Retrying (%r)", second)
        logging.getLogger(LIBRDKAFKA).error("%s [%s] %s", "FAIL", "rdkafka#producer-1", f"after {second} ms")
        logging.getLogger(LIBRDKAFKA).error("%s [%s] %s", "TLS", "rdkafka#producer-1", "certificate expired")
    lines = stream.getvalue().splitlines()
    assert [line.split(" ", 1)[1] for line in lines if "FAIL" in line] == [
        "ERROR   librdkafka: FAIL [rdkafka#producer-1] after 0 ms",
        "ERROR   librdkafka: FAIL [rdkafka#producer-1] after 60 ms times=60",
        "ERROR   librdkafka: FAIL [rdkafka#producer-1] after 120 ms times=60",
    ]
    assert len(lines) == 9  # three of each


def test_our_own_lines_are_not_limited() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    for _ in range(3):
        logs.get("x").info("attached")
    assert len(stream.getvalue().splitlines()) == 3


def test_texts_that_are_all_different_are_not_all_remembered_nor_said() -> None:
    now = [0.0]
    limit = Limit(lambda: now[0])
    assert sum(bool(limit.due(number)) for number in range(10_000)) == len(limit._said) == 1000
    now[0] = EVERY_SECONDS
    assert limit.due("another") == 1
    assert len(limit._said) == 1

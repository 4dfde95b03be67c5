import io
import json
import logging
from collections.abc import Iterator

import pytest

from common import logs


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

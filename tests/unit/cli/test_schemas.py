"""`ayaflow schemas show`: our .avsc files, for programs that make code of them."""

import json
from typing import Any

import fastavro
import pytest

from cli.main import main
from schemas.avro.registry import NAMES, newest


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["schemas", "show", *words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_printed_as_it_is_written_with(capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, out, err = shown(capsys, name)
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads(newest(name))


def test_without_a_name_all_are_one_schema(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = shown(capsys)
    assert code == 0
    union: Any = fastavro.parse_schema(json.loads(out))
    assert [each["name"] for each in union] == [f"ayaflow.{name}" for name in NAMES]


def test_a_mistyped_name_is_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = shown(capsys, "FlowRecrod")
    assert (code, out) == (2, "")
    assert "did you mean FlowRecord?" in err

"""What `ayaflow replay` says before it is too late."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from cli.replay import _Aged


@pytest.mark.parametrize(("age_days", "said"), [(29, 0), (31, 1)])
def test_packets_that_clickhouse_does_not_keep_are_told_once(
    capsys: pytest.CaptureFixture[str], age_days: int, said: int
) -> None:
    given: list[Any] = []
    feed: Any = SimpleNamespace(earliest_ns=int((time.time() - age_days * 86_400) * 1e9))
    sink: Any = SimpleNamespace(take=given.append, idle=None)
    aged = _Aged(sink, feed, 30)
    for block in ("first", "second"):
        aged.take(block)  # type: ignore[arg-type]
    assert given == ["first", "second"]
    assert capsys.readouterr().err.count("older than clickhouse.flows_retention_days (30)") == said

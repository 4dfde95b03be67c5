"""When the day before of a demo begins."""

import pytest

from deploy.local.demo.yesterday import is_well
from tests.unit.console.answering import answering


@pytest.mark.parametrize(
    ("status", "body", "well"),
    [(200, b'{"ok": true}', True), (503, b'{"ok": false}', False), (200, b"no", False), (200, b"[]", False)],
)
def test_it_waits_for_streams_whatever_proxy_there_is(
    monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, *, well: bool
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with answering(status, body) as address:
        assert is_well(address) is well


def test_it_waits_where_nobody_answers() -> None:
    assert not is_well("127.0.0.1:1")

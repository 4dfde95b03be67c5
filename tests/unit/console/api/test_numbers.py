"""Whole numbers that JavaScript would round are strings where the query asks for it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from console.api.numbers import SAFE, Int64Strings, with_strings

NUMBERS = st.integers(-(2**64), 2**64) | st.sampled_from([SAFE, SAFE + 1, SAFE + 2, -SAFE, -SAFE - 2])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=8,
)


def quoted(value: Any) -> Any:
    if isinstance(value, list):
        return [quoted(each) for each in value]
    if isinstance(value, dict):
        return {name: quoted(each) for name, each in value.items()}
    is_large = isinstance(value, int) and abs(value) > SAFE
    return str(value) if is_large else value


@given(VALUES, st.booleans())
def test_numbers_beyond_2_53_are_strings_and_all_else_stays(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert json.loads(with_strings(text.encode("utf-8", "surrogatepass"))) == quoted(json.loads(text))


def test_text_that_looks_like_a_number_stays() -> None:
    text = b'{"9007199254740993": "a \\" 9007199254740993, \\\\", "b": 0.9007199254740993, "c": 9007199254740993e1}'
    assert with_strings(text) == text


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = FastAPI()

    @app.get("/document")
    async def document() -> dict[str, int]:
        return {"bytes": 2**53 + 1}

    @app.get("/lines")
    async def lines() -> StreamingResponse:
        text = b'{"bytes":9007199254740993}\n{"bytes":1}\n' * 3
        return StreamingResponse((text[i : i + 7] for i in range(0, len(text), 7)), media_type="application/x-ndjson")

    @app.get("/text")
    async def text() -> StreamingResponse:
        return StreamingResponse(iter([b"9007199254740993\n"]), media_type="text/csv")

    @app.websocket("/stream")
    async def stream(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text('{"bytes": 9007199254740993}')
        await socket.close()

    app.add_middleware(Int64Strings)
    with TestClient(app) as opened:
        yield opened


def test_2_53_and_one_is_exact_in_documents_streams_and_web_sockets(client: TestClient) -> None:
    assert client.get("/document?int64=string").json() == {"bytes": "9007199254740993"}
    lines = client.get("/lines?int64=string").text.splitlines()
    assert [json.loads(line)["bytes"] for line in lines] == ["9007199254740993", 1] * 3
    with client.websocket_connect("/stream?int64=string") as socket:
        assert json.loads(socket.receive_text()) == {"bytes": "9007199254740993"}


@pytest.mark.parametrize("query", ["", "?int64=number"])
def test_without_it_numbers_are_numbers(client: TestClient, query: str) -> None:
    assert client.get(f"/document{query}").json() == {"bytes": 2**53 + 1}
    with client.websocket_connect(f"/stream{query}") as socket:
        assert json.loads(socket.receive_text()) == {"bytes": 2**53 + 1}


def test_what_is_not_json_stays(client: TestClient) -> None:
    assert client.get("/text?int64=string").text == "9007199254740993\n"

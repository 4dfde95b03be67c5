"""An endpoint on 127.0.0.1, as OAuth 2.0 has it."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from common.errors import ServiceUnavailable
from common.security.login import OAuth
from common.security.tokens import Tokens


@contextmanager
def endpoint(status: int, body: bytes) -> Iterator[tuple[OAuth, list[tuple[str, str]]]]:
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = self.rfile.read(int(self.headers["Content-Length"])).decode()
            asked.append((self.headers["Authorization"], form))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/"
            yield OAuth(url=url, client_id="me:", client_secret="hu sh", scope="kafka", ca=None), asked
        finally:
            server.shutdown()
            thread.join()


def test_a_token_is_kept_for_most_of_its_time() -> None:
    now = 1000.0
    with endpoint(200, json.dumps({"access_token": "t", "expires_in": 100}).encode()) as (oauth, asked):
        tokens = Tokens(oauth, monotonic=lambda: now)
        assert [tokens.token(), tokens.token()] == ["t", "t"]
        now += 79
        tokens.token()
        assert len(asked) == 1
        now += 2
        tokens.token()
        assert len(asked) == 2
    authorization, form = asked[0]
    assert base64.b64decode(authorization.removeprefix("Basic ")) == b"me%3A:hu%20sh"
    assert form == "grant_type=client_credentials&scope=kafka"


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, b"{}", r"answers 401\. Correct client\.id and client\.secret"),
        (404, b"{}", r"answers 404\. Is the URL whole\?"),
        (200, b"<html>", "answers with no token"),
        (200, b"[]", "answers with no token"),
        (200, b'{"access_token": "' + b"x" * (2 << 20), "answers with no token"),
        (200, b'{"access_token": "t", "expires_in": "soon"}', "answers with no token"),
    ],
)
def test_an_endpoint_that_gives_none_is_a_sentence(status: int, body: bytes, message: str) -> None:
    with endpoint(status, body) as (oauth, _), pytest.raises(ServiceUnavailable, match=message) as error:
        Tokens(oauth).token()
    assert "hu sh" not in str(error.value)


def test_an_endpoint_that_does_not_answer_is_a_sentence() -> None:
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        Tokens(OAuth(url="http://127.0.0.1:1/", client_id="", client_secret="", scope="", ca=None)).token()

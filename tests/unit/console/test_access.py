"""Who may ask the HTTP service, over its own ASGI interface: no network, Kafka and ClickHouse are away."""

import base64
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from common import settings as settings_module
from common.errors import SettingsError
from console import access
from console import app as http

TOKEN = "correct horse"
HASH = access.hash_token(TOKEN)
LOCAL, LAN, ELSEWHERE = "127.0.0.1", "10.1.2.3", "192.0.2.7"


@cache
def application(**values: str) -> FastAPI:
    """With these settings of the console; it may be started again and again."""
    flags = {
        "kafka.bootstrap_servers": "127.0.0.1:1",
        "clickhouse.url": "http://127.0.0.1:1",
        "producer.metrics_listen": "127.0.0.1:1",
        "streams.metrics_listen": "127.0.0.1:1",
        **{f"console.{name}": value for name, value in values.items()},
    }
    return http.build_app(settings_module.load(flags=flags), health_timeout_seconds=0.2)


def client(peer: str = LOCAL, url: str = "http://127.0.0.1:8080", **values: str) -> TestClient:
    return TestClient(application(**values), base_url=url, client=(peer, 40_000))


def status(path: str = "/api/stats", headers: Mapping[str, str] | None = None, **values: str) -> int:
    with client(**values) as opened:
        return opened.get(path, headers=headers).status_code


OPEN: dict[str, Any] = {"listen": "0.0.0.0:8080", "url": "http://gateway:8080"}


@pytest.mark.parametrize(
    ("peer", "allowed", "expected"),
    [
        (LAN, "", 200),
        (LAN, "10.0.0.0/8", 200),
        (ELSEWHERE, "10.0.0.0/8", 403),
        (LOCAL, "10.0.0.0/8", 403),
        ("::ffff:10.1.2.3", "10.0.0.0/8", 200),
        ("::ffff:192.0.2.7", "10.0.0.0/8", 403),
        (LAN, "::ffff:10.0.0.0/104", 200),
        ("2001:db8::1", "10.0.0.0/8,2001:db8::/32", 200),
        ("2001:db9::1", "2001:db8::/32", 403),
        ("fe80::1%eth0", "fe80::/10", 200),
        ("not an address", "0.0.0.0/0,::/0", 403),
    ],
)
def test_the_networks_that_are_listed_may_ask(peer: str, allowed: str, expected: int) -> None:
    with client(peer=peer, allowed_ips=allowed, **OPEN) as opened:
        for path in ("/api/stats", "/", "/metrics", "/openapi.json", "/schema-registry/subjects", "/nope"):
            found = opened.get(path).status_code
            assert found == (404 if path == "/nope" and expected == 200 else expected), path


def test_health_may_be_asked_from_this_machine_whatever_the_list_says() -> None:
    values: dict[str, Any] = {**OPEN, "allowed_ips": "10.0.0.0/8", "tokens": HASH}
    assert status("/api/health", peer=LOCAL, **values) == 503  # all stages are away here
    assert status("/api/health", peer=ELSEWHERE, **values) == 403


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        (ELSEWHERE, LAN, 403),  # not a proxy of ours: what it says is ignored
        (LOCAL, LAN, 200),
        (LOCAL, ELSEWHERE, 403),
        (LOCAL, None, 403),
        (LOCAL, f"{LAN}, {ELSEWHERE}", 403),  # the client wrote the left one itself
        (LOCAL, f"{ELSEWHERE}, {LAN}", 200),
        (LOCAL, f"{LAN}, 172.16.0.9", 200),  # two proxies of ours
        (LOCAL, "nonsense", 403),
        (LOCAL, f"{LAN}:5555", 200),
        (LOCAL, "[2001:db8::5]:443", 200),
    ],
)
def test_only_trusted_proxies_say_who_the_client_is(peer: str, forwarded: str | None, expected: int) -> None:
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    assert (
        status(
            headers=headers,
            peer=peer,
            allowed_ips="10.0.0.0/8,2001:db8::/32",
            trusted_proxies="127.0.0.1,172.16.0.0/12",
            **OPEN,
        )
        == expected
    )


PROXY = "172.16.0.9"
SIGNED_IN: dict[str, Any] = {**OPEN, "user_header": "X-Forwarded-User", "trusted_proxies": f"{PROXY}/32"}


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        (PROXY, {"X-Forwarded-User": "ada"}, 200),
        (PROXY, {"x-forwarded-user": "ada", "X-Forwarded-For": ELSEWHERE}, 200),
        (PROXY, {}, 401),
        (PROXY, {"X-Forwarded-User": " "}, 401),
        (LAN, {"X-Forwarded-User": "ada"}, 403),  # from elsewhere: refused, not only ignored
        (LAN, {"X-Forwarded-User": "ada", "X-Forwarded-For": PROXY}, 403),
        (LAN, {"X-Forwarded-User": ""}, 403),
        (LOCAL, {"X-Forwarded-User": "ada"}, 403),
        (LAN, {}, 401),
        ("not an address", {"X-Forwarded-User": "ada"}, 403),
    ],
)
def test_a_proxy_that_is_trusted_says_who_is_signed_in(peer: str, headers: dict[str, str], expected: int) -> None:
    for path in ("/api/stats", "/metrics", "/schema-registry/subjects"):
        assert status(path, headers=headers, peer=peer, **SIGNED_IN) == expected
    assert status("/", headers=headers, peer=peer, **SIGNED_IN) == (403 if expected == 403 else 200)


def test_a_users_name_that_comes_twice_is_refused() -> None:
    with client(peer=PROXY, **SIGNED_IN) as opened:
        twice = opened.get("/api/stats", headers=[("X-Forwarded-User", "mallory"), ("X-Forwarded-User", "ada")])
    assert twice.status_code == 403
    assert "let the proxy replace" in twice.json()["error"]


def test_beside_users_of_the_proxy_tokens_are_good() -> None:
    values = {**SIGNED_IN, "tokens": HASH}
    assert status(headers={"Authorization": f"Bearer {TOKEN}"}, peer=LAN, **values) == 200
    assert status(headers={"X-Forwarded-User": "ada"}, peer=PROXY, **values) == 200
    with client(peer=LAN, **values) as opened:
        refused = opened.get("/api/stats")
    assert refused.status_code == 401
    assert "X-Forwarded-User" in refused.json()["error"]
    assert "Bearer" in refused.json()["error"]


def test_without_the_setting_the_header_means_nothing() -> None:
    values = {**OPEN, "trusted_proxies": PROXY, "tokens": HASH}
    assert status(headers={"X-Forwarded-User": "ada"}, peer=PROXY, **values) == 401
    assert status(headers={"X-Forwarded-User": "ada"}, peer=PROXY, **OPEN) == 200  # open to all, as before


def test_a_websocket_needs_the_proxy_too() -> None:
    with client(peer=PROXY, **SIGNED_IN) as opened:
        with opened.websocket_connect("/api/stream", headers={"X-Forwarded-User": "ada"}):
            pass
        with pytest.raises(WebSocketDisconnect) as refused, opened.websocket_connect("/api/stream"):
            pass
    assert refused.value.code == 4401


def test_users_without_a_proxy_that_is_trusted_are_a_settings_error() -> None:
    with pytest.raises(SettingsError, match="user_header needs trusted_proxies"):
        settings_module.load(flags={"console.user_header": "X-Forwarded-User"})


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 401),
        ({"Authorization": f"Bearer {TOKEN}"}, 200),
        ({"Authorization": f"bearer  {TOKEN}"}, 200),
        ({"Authorization": f"Bearer {HASH}"}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": f"Bearer {TOKEN} "}, 200),
        ({"Authorization": "Bearer other token"}, 200),
        ({"Authorization": basic(f"anybody:{TOKEN}")}, 200),
        ({"Authorization": basic(f":{TOKEN}")}, 200),
        ({"Authorization": basic(f"{TOKEN}:")}, 401),
        ({"Authorization": basic(TOKEN)}, 401),
        ({"Authorization": "Basic %"}, 401),
        ({"Authorization": "Basic gICA"}, 401),  # no UTF-8
    ],
)
def test_with_tokens_one_of_them_must_be_sent(headers: dict[str, str], expected: int) -> None:
    values: dict[str, Any] = {"tokens": f"{HASH.upper()},{access.hash_token('other token')}"}
    assert status(headers=headers, **values) == expected
    assert status("/metrics", headers=headers, **values) == expected
    assert status("/", headers=headers, **values) == 200  # the page asks for the token; it has no data


def test_an_answer_says_what_is_missing() -> None:
    with client(tokens=HASH) as opened:
        answer = opened.get("/api/stats")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "Bearer" in answer.json()["error"]
    with client(peer=ELSEWHERE, allowed_ips="10.0.0.0/8", **OPEN) as opened:
        assert "allowed_ips" in opened.get("/api/stats").json()["error"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost:8080", 200),
        ("127.0.0.1", 200),
        ("[::1]:8080", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("192.0.2.7:8080", 403),
    ],
)
def test_a_console_of_this_machine_has_no_other_name(host: str, expected: int) -> None:
    assert status(headers={"Host": host}) == expected


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://127.0.0.1:8080", True),
        ("https://evil.example", False),
        ("null", False),
        ("http://127.0.0.1:9999", False),
    ],
)
def test_a_page_of_another_origin_cannot_read_the_stream(origin: str | None, allowed: bool) -> None:
    headers = {"Origin": origin} if origin else {}
    with client() as opened:
        session = opened.websocket_connect("ws://127.0.0.1:8080/api/stream", headers=headers)
        if not allowed:
            with pytest.raises(WebSocketDisconnect):
                session.__enter__()
            return
        with session as stream:
            assert stream.receive_json()["connections"] == []


@pytest.mark.parametrize("path", ["/", "/static/main.js", "/api/stats", "/api/health", "/metrics", "/nope"])
def test_a_page_of_another_origin_gets_nothing_of_us(path: str) -> None:
    with client() as opened:
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            for site in ("cross-site", "same-site", "nonsense"):
                answer = opened.request(method, path, headers={"Sec-Fetch-Site": site, "Sec-Fetch-Dest": "image"})
                assert answer.status_code == 403
                assert method == "HEAD" or "a page of another origin" in answer.json()["error"]
            for site in ("none", "same-origin"):
                assert opened.request(method, path, headers={"Sec-Fetch-Site": site}).status_code != 403
            answer = opened.request(method, path, headers={"Origin": "https://evil.example"})
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers


def test_a_link_of_another_site_opens_the_page_and_nothing_else() -> None:
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert status("/", headers=followed) == 200
    assert status("/api/stats", headers=followed) == 403
    assert status("/", headers={**followed, "Sec-Fetch-Dest": "iframe"}) == 403
    assert status("/", headers={**followed, "Host": "evil.example"}) == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "127.0.0.1:abc"},
        {"Host": "[::1"},
        {"Host": "127.0.0.1:99999999"},
        {"Origin": "http://["},
        {"Origin": "nothing"},
    ],
)
def test_a_header_that_says_nothing_is_a_sentence(headers: dict[str, str]) -> None:
    with client() as opened:
        answer = opened.get("/api/stats", headers=headers)
    assert (answer.status_code, "is no " in answer.json()["error"]) == (400, True)


def test_options_are_answered_and_nobody_is_granted_anything() -> None:
    with client() as opened:
        for path in ("/", "/api/stats", "/static/main.js"):
            answer = opened.options(path)
            assert (answer.status_code, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
            assert "access-control-allow-origin" not in answer.headers
        for path in ("/", "/api/health"):
            assert opened.head(path).status_code == opened.get(path).status_code


def test_a_browser_sends_its_token_as_a_subprotocol() -> None:
    url = "ws://127.0.0.1:8080/api/stream"
    token = "dG9rZW4"
    with client(tokens=access.hash_token(token)) as opened:
        with opened.websocket_connect(url, subprotocols=["ayaflow", f"bearer.{token}"]) as stream:
            assert str(stream.accepted_subprotocol) == "ayaflow"
            stream.receive_json()
        for protocols in ([], ["ayaflow"], ["ayaflow", "bearer.wrong"]):
            with pytest.raises(WebSocketDisconnect):
                opened.websocket_connect(url, subprotocols=protocols).__enter__()


def test_every_answer_has_the_headers_that_keep_a_browser_safe() -> None:
    with client() as opened:
        for path in ("/", "/api/stats", "/nope", "/api/top?by=nothing", "/static/nothing"):
            headers = opened.get(path).headers
            assert headers["x-content-type-options"] == "nosniff"
            policy = headers["content-security-policy"]
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert "http" not in policy


@pytest.mark.parametrize(
    ("values", "warned"),
    [
        ({}, False),
        ({"listen": "0.0.0.0:8080"}, True),
        ({"listen": "[::]:8080"}, True),
        ({"listen": "[::1]:8080"}, False),
        ({"listen": "0.0.0.0:8080", "tokens": HASH}, False),
        ({"listen": "10.0.0.1:80", "allowed_ips": "10.0.0.0/8"}, False),
    ],
)
def test_a_console_that_is_open_to_the_world_says_so(values: dict[str, str], warned: bool) -> None:
    settings = settings_module.load(flags={f"console.{name}": value for name, value in values.items()})
    assert bool(access.warning(settings.console)) is warned


@pytest.mark.parametrize(
    ("name", "value"),
    [("allowed_ips", "10.0.0.0/33"), ("trusted_proxies", "proxy"), ("tokens", "plain"), ("tls_key", "key.pem")],
)
def test_settings_that_would_protect_nothing_are_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError):
        settings_module.load(flags={f"console.{name}": value})

import socket

import pytest

from common.address import Address, listen, names_loopback
from common.errors import EnvironmentProblem, SettingsError


@pytest.mark.parametrize(
    ("text", "host", "port", "again"),
    [
        ("127.0.0.1:80", "127.0.0.1", 80, "127.0.0.1:80"),
        ("[::1]:9464", "::1", 9464, "[::1]:9464"),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80, "[fe80::1%eth0]:80"),
        (" kafka1:65535", "kafka1", 65_535, "kafka1:65535"),
        (":80", "0.0.0.0", 80, "0.0.0.0:80"),
    ],
)
def test_an_address_is_host_and_port(text: str, host: str, port: int, again: str) -> None:
    address = Address.parse(text, "x")
    assert (address.host, address.port, address.text) == (host, port, again)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "80",
        "host",
        "host:",
        "host:65536",
        "host:-1",
        "host:٣",
        "::1:80",
        "[::1]",
        "[::1",
        "[host]:80",
        "a/b:1",
        "u@h:1",
    ],
)
def test_what_is_no_address_is_a_settings_error_that_names_the_setting(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^producer\.metrics_listen: write it as HOST:PORT"):
        Address.parse(text, "producer.metrics_listen")


@pytest.mark.parametrize(
    ("text", "port"), [("host", 80), ("[::1]", 80), ("", 80), ("host:81", 81), ("[::1]:81", 81), ("127.0.0.1", 80)]
)
def test_a_port_may_be_left_out_where_there_is_a_default(text: str, port: int) -> None:
    assert Address.parse(text, "x", default_port=80).port == port


def test_what_listens_on_all_addresses_is_asked_on_loopback() -> None:
    asked = [Address.parse(text, "x").reachable for text in ("0.0.0.0:80", ":80", "[::]:80", "10.0.0.1:80", "[::2]:80")]
    assert asked == ["127.0.0.1:80", "127.0.0.1:80", "[::1]:80", "10.0.0.1:80", "[::2]:80"]


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("[::1]", True),
        ("[::ffff:127.0.0.1]", True),
        ("LocalHost", True),
        ("a.localhost", True),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("0.0.0.0", False),
        ("[::]", False),
        ("10.0.0.1", False),
    ],
)
def test_loopback_is_where_only_this_machine_gets(host: str, loopback: bool) -> None:
    assert Address.parse(f"{host}:80", "x").is_loopback is loopback
    assert names_loopback(host) is loopback


def test_a_host_header_that_is_no_address_names_nobody() -> None:
    assert not names_loopback("[::1")
    assert not names_loopback("localhost:http")


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("[::1]", socket.AF_INET6)])
def test_a_socket_listens_there(host: str, family: int) -> None:
    with listen(Address.parse(f"{host}:0", "x")) as listener:
        assert listener.family == family
        with (
            socket.create_connection(listener.getsockname()[:2], timeout=5),
            pytest.raises(EnvironmentProblem, match=r"^cannot listen on .*: Address already in use\. .* or set x\.y$"),
        ):
            listen(Address.parse(f"{host}:{listener.getsockname()[1]}", "x.y"))

"""Host and method of requests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.names.parsers.http import METHODS, request


@pytest.mark.parametrize(
    ("octets", "method", "host"),
    [
        (b"GET / HTTP/1.1\r\nHost: Www.Example.org\r\n\r\n", "GET", "www.example.org"),
        (b"POST /a HTTP/1.0\r\nUser-Agent: x\r\nhOsT:\texample.org.:8080 \r\n\r\nbody", "POST", "example.org"),
        (b"GET / HTTP/1.1\nHost: a.example\n\n", "GET", "a.example"),
        (b"HEAD / HTTP/1.1\r\nHost: [2001:DB8::1]:80\r\n\r\n", "HEAD", "2001:db8::1"),
        (b"CONNECT mail.example:443 HTTP/1.1\r\n\r\n", "CONNECT", "mail.example"),
        (b"CONNECT mail.example:443 HTTP/1.1\r\nHost: other.example\r\n\r\n", "CONNECT", "other.example"),
        (b"PROPFIND / HTTP/1.1\r\nHost: dav.example\r\n\r\n", "", "dav.example"),
        (b"GET / HTTP/1.0\r\n\r\nHost: in.the.body\r\n", "GET", ""),
        (b"GET / HTTP/1.1\r\nHost: two words\r\n\r\n", "GET", ""),
        (b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n", "GET", ""),
        (b"GET / HTTP/1.1\r\nHost: a\x00b\r\n\r\n", "GET", ""),
        (b"GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n", "GET", ""),
        (b"GET / HTTP/1.1\r\nHost: " + b"x" * 256 + b"\r\n\r\n", "GET", ""),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET", ""),
        (b"GET / HTTP/1.1\r\nX-Host: a.example\r\n\r\n", "GET", ""),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", ""),
    ],
)
def test_requests(octets: bytes, method: str, host: str) -> None:
    found = request(octets)
    assert found is not None
    assert (METHODS[found.method], found.host, found.is_whole) == (method, host, True)


@pytest.mark.parametrize(
    "octets",
    [b"", b"GET", b"GET /", b"get / HTTP/1.1\r\n", b"GET / FTP/1.1\r\n", b"\x16\x03\x01", b"GET  HTTP/1.1\r\n"],
)
def test_what_is_no_request(octets: bytes) -> None:
    assert request(octets) is None


def test_a_head_that_is_cut_is_not_whole_unless_its_host_is_there() -> None:
    whole = b"GET / HTTP/1.1\r\nAccept: */*\r\nHost: www.example.org\r\nCookie: x\r\n\r\n"
    for end in range(15, len(whole)):
        found = request(whole[:end])
        assert found is not None
        assert found.host == ("www.example.org" if end >= whole.index(b"\r\nCookie") + 2 else "")
        assert found.is_whole is bool(found.host)


@given(st.binary(max_size=300))
def test_a_host_is_always_printable(octets: bytes) -> None:
    found = request(b"GET / HTTP/1.1\r\nHost: " + octets + b"\r\n\r\n")
    assert found is not None
    assert found.host.isprintable()
    assert " " not in found.host
    assert len(found.host) <= 255

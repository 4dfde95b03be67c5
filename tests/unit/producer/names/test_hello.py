"""hello.c: by the example in FoxIO's description of JA4, by Python's own TLS, and by what nobody should send."""

import hashlib
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.names.parsers.hello import BROKEN, HAS_ESNI, NO_ECH, OUTER_ECH, READ, SHORT, HelloParser
from tests.unit.producer.names.making import (
    CHROME_CIPHERS,
    CHROME_EXTENSIONS,
    CHROME_JA4,
    GREASE,
    client_hello,
    ech,
    records,
    server_name,
    values,
    vector,
)

PARSER = HelloParser()


def test_the_published_example_of_ja4() -> None:
    found = PARSER.records(records(client_hello()))
    assert (found.outcome, found.name, found.alpn) == (READ, "www.example.org", "h2")
    assert found.ja4 == "t" + CHROME_JA4
    assert PARSER.crypto(client_hello()).ja4 == "q" + CHROME_JA4


def test_grease_does_not_change_ja4() -> None:
    ciphers = (GREASE, *CHROME_CIPHERS)
    found = PARSER.records(records(client_hello(ciphers=ciphers, extensions=(GREASE, *CHROME_EXTENSIONS, 0x7A7A))))
    assert found.ja4 == "t" + CHROME_JA4


@given(
    ciphers=st.lists(st.integers(0, 65_535), max_size=200),
    extensions=st.lists(st.integers(1, 65_535).filter(lambda kind: kind not in (0x10, 0x0D, 0x2B)), max_size=120),
    signatures=st.lists(st.integers(0, 65_535), max_size=20),
    version=st.sampled_from([0x0304, 0x0303, 0x0302, 0x0301, 0x0300, 0x0002, 0x7F1C]),
    name=st.sampled_from([None, b"a.example"]),
)
def test_ja4_is_that_of_its_description(
    ciphers: list[int], extensions: list[int], signatures: list[int], version: int, name: bytes | None
) -> None:
    def is_plain(value: int) -> bool:
        return not (value & 0x0F0F == 0x0A0A and value >> 8 == value & 0xFF)

    def digest(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()[:12] if text else "0" * 12

    listed = [*extensions, 0x0D, 0x2B, 0]
    hello = client_hello(
        name, ciphers=ciphers, extensions=listed, signatures=signatures, versions=(GREASE, version), alpn=()
    )
    kept = [f"{value:04x}" for value in ciphers if is_plain(value)]
    all_extensions = [kind for kind in listed if is_plain(kind) and (kind or name is not None)]
    rest = ",".join(sorted(f"{kind:04x}" for kind in all_extensions if kind))
    if plain := [f"{value:04x}" for value in signatures if is_plain(value)]:
        rest += "_" + ",".join(plain)
    known = {0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3", 0x0002: "s2"}
    counts = f"{min(len(kept), 99):02}{min(len(all_extensions), 99):02}"
    first = f"t{known.get(version, '00')}{'i' if name is None else 'd'}{counts}00"
    found = PARSER.records(records(hello))
    assert found.ja4 == f"{first}_{digest(','.join(sorted(kept)))}_{digest(rest)}"


@pytest.mark.parametrize(
    ("protocol", "characters"),
    [(b"\xab", "ab"), (b" ", "20"), (b"\xab\xcd", "ad"), (b" a", "21"), (b"0\xab", "3b"), (b"a ", "60"),
     (b"01\xab\xcd", "3d"), (b"0\xab\xcd1", "01"), (b"h", "hh"), (b"http/1.1", "h1"), (b"", "00")],
)  # fmt: skip
def test_characters_of_alpn_are_those_of_the_description(protocol: bytes, characters: str) -> None:
    """FoxIO's own programs still say 99 where the first octet is not ASCII; Wireshark does as the description."""
    assert PARSER.records(records(client_hello(alpn=[protocol]))).ja4[8:10] == characters


def test_python_s_own_hello() -> None:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="Www.Example.Org").do_handshake()
    found = PARSER.records(out.read())
    assert (found.outcome, found.name, found.alpn, found.ja4[:4]) == (READ, "www.example.org", "http/1.1", "t13d")


@given(st.integers(1, 700), st.integers(0, 700))
def test_records_of_any_size_and_cut_anywhere(size: int, end: int) -> None:
    octets = records(client_hello(padding=100), size)
    assert PARSER.records(octets).ja4 == "t" + CHROME_JA4
    found = PARSER.records(octets[:end])
    assert found.outcome == (SHORT if end < len(octets) else READ)
    assert found.name in ("", "www.example.org")
    assert found.ja4 in ("", "t" + CHROME_JA4)


def test_a_name_is_kept_that_came_before_the_cut() -> None:
    octets = records(client_hello(padding=1000))
    found = PARSER.records(octets[:-200])
    assert (found.outcome, found.name, found.alpn, found.ja4) == (SHORT, "www.example.org", "h2", "")


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (b"WWW.EXAMPLE.org.", "www.example.org"),
        (b"a\nb", "a\\010b"),
        (b"a b\\c", "a\\032b\\\\c"),
        ("bücher.example".encode(), "b\\195\\188cher.example"),
        (b"x" * 255, "x" * 255),
        (b"x" * 256, ""),
        (b"", ""),
    ],
)
def test_a_name_is_always_text(sent: bytes, shown: str) -> None:
    assert PARSER.records(records(client_hello(sent))).name == shown


def test_of_several_names_the_first_host_counts() -> None:
    body = vector(b"\1" + vector(b"other", 2) + b"\0" + vector(b"first", 2) + b"\0" + vector(b"second", 2), 2)
    assert PARSER.records(records(client_hello(bodies={0: body}))).name == "first"


def test_without_sni_there_is_no_name() -> None:
    found = PARSER.records(records(client_hello(None)))
    assert (found.outcome, found.name, found.ja4[:4]) == (READ, "", "t13i")


def test_ech_is_seen_and_not_judged() -> None:
    def of(kind: int, body: bytes) -> tuple[int, int]:
        found = PARSER.records(records(client_hello(extensions=(*CHROME_EXTENSIONS, kind), bodies={kind: body})))
        return found.ech, found.ech_config

    assert of(0xFE0D, ech(config=201)) == (OUTER_ECH, 201)
    assert of(0xFE0D, ech(kind=1)) == (OUTER_ECH, -1)
    assert of(0xFE0D, b"") == (OUTER_ECH, -1)
    assert of(0xFE0A, b"") == (OUTER_ECH, -1)
    assert of(0xFFCE, b"") == (HAS_ESNI, -1)
    assert of(0x1234, b"") == (NO_ECH, -1)


def test_a_hello_of_before_extensions() -> None:
    body = b"\x03\x01" + bytes(32) + b"\0" + vector(values([0x2F]), 2) + b"\x01\0"
    found = PARSER.records(records(b"\x01" + vector(body, 3)))
    assert (found.outcome, found.name) == (READ, "")
    assert found.ja4 == "t10i010000_" + hashlib.sha256(b"002f").hexdigest()[:12] + "_000000000000"


# --- what public bug reports are about


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"\x16\x03\x01\0\0", id="a record of length 0"),
        pytest.param(b"\x16\x03\x01\0\0" * 400, id="many of them"),
        pytest.param(records(client_hello())[:40] + b"\x16\x03\x01\0\0", id="one inside of a hello, cut"),
        pytest.param(b"\x17\x03\x03\0\x05hello", id="application data"),
        pytest.param(b"\x16\x03\x03\0\x04\x02\0\0\0", id="a ServerHello"),
        pytest.param(b"\x16\x03\x01\xff\xff\x01\xff\xff\xff" + bytes(2000), id="a hello of 16 MB"),
        pytest.param(
            records(b"\x01" + vector(b"\x03\x03" + bytes(32) + b"\xff" + bytes(300), 3)), id="a session of 255"
        ),
        pytest.param(records(b"\x01\0\0\0"), id="an empty hello"),
        pytest.param(records(b"\x01" + vector(b"\x7f\x7f" + bytes(60), 3)), id="a version that never was"),
        pytest.param(records(client_hello(bodies={})[:-1] + b""), id="nothing behind"),
    ],
)
def test_what_cannot_be_a_hello_has_no_name(octets: bytes) -> None:
    found = PARSER.records(octets)
    assert found.ja4 == ""
    assert found.outcome in (BROKEN, SHORT)


def test_records_of_length_0_are_refused_and_not_waited_for() -> None:
    assert PARSER.records(b"\x16\x03\x01\0\0").outcome == BROKEN
    hello = client_hello()
    assert PARSER.records(records(hello[:50]) + b"\x16\x03\x01\0\0" + records(hello[50:])).outcome == BROKEN


def test_lists_that_end_behind_the_hello_are_broken_when_it_is_whole() -> None:
    hello = bytearray(client_hello())
    at = hello.index(server_name(b"www.example.org"))
    hello[at - 2 : at] = b"\xff\xff"
    assert PARSER.records(records(bytes(hello))).outcome == BROKEN
    hello = bytearray(client_hello())
    hello[39 + 32 : 41 + 32] = b"\xff\xfe"  # ciphers
    assert PARSER.records(records(bytes(hello))).outcome == BROKEN


@pytest.mark.parametrize("body", [b"", b"\0", b"\xff\xff", b"\0\5\0\xff\xffab", b"\0\1\0", b"\0\3\0\0\0"])
def test_an_sni_whose_lengths_lie_is_no_name(body: bytes) -> None:
    found = PARSER.records(records(client_hello(bodies={0: body})))
    assert (found.outcome, found.name) == (READ, "")


def test_more_than_a_thousand_ciphers_have_no_ja4() -> None:
    found = PARSER.records(records(client_hello(ciphers=range(1, 2000))))
    assert (found.outcome, found.name, found.ja4) == (READ, "www.example.org", "")
    assert PARSER.records(records(client_hello(extensions=[0, *range(0x100, 0x400)]))).ja4 == ""


def test_a_hello_of_16_kilooctets_is_the_longest() -> None:
    longest = 16_384 - len(client_hello(padding=0))
    assert PARSER.records(records(client_hello(padding=longest))).outcome == READ
    assert PARSER.records(records(client_hello(padding=longest + 1))).outcome == BROKEN

import ipaddress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import DecodeError
from schemas.addresses import from_text, to_text
from tests.unit.schemas.strategies import SEEDS, addresses


@given(SEEDS, st.integers(0, 50))
def test_octets_come_back_through_text(seed: int, n: int) -> None:
    octets = addresses(np.random.default_rng(seed), n)
    assert np.array_equal(from_text(to_text(octets)), octets)


@given(st.integers(0, 2**128 - 1))
def test_the_text_is_that_of_the_standard_library(number: int) -> None:
    address = ipaddress.IPv6Address(number)
    octets = np.frombuffer(address.packed, np.uint8).reshape(1, 16)
    # inet_ntop writes ::a.b.c.d for the deprecated IPv4-compatible range; the address is the same
    assert ipaddress.ip_address(to_text(octets)[0]) in {address, address.ipv4_mapped}


@pytest.mark.parametrize(
    ("text", "packed"),
    [
        ("192.0.2.1", b"\0" * 10 + b"\xff\xff\xc0\x00\x02\x01"),
        ("::ffff:192.0.2.1", b"\0" * 10 + b"\xff\xff\xc0\x00\x02\x01"),
        ("2001:db8::1", b"\x20\x01\x0d\xb8" + b"\0" * 11 + b"\x01"),
        ("::", b"\0" * 16),
    ],
)
def test_text_is_read_into_network_order(text: str, packed: bytes) -> None:
    assert from_text([text]).tobytes() == packed


@pytest.mark.parametrize("text", ["", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.x", "1::2::3", "host", "-1.2.3.4"])
def test_what_is_no_address_is_a_decode_error(text: str) -> None:
    with pytest.raises(DecodeError, match="not an IP address"):
        from_text(["10.0.0.1", text])

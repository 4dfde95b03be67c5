"""Whatever octets a name has, it is shown as text that can be printed, and as no other name is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.interfaces.names import MOST_OCTETS, shown, shown_in
from producer.kernel.abi import INTERFACE, interface

INTERFACES = st.binary(min_size=1, max_size=15).filter(lambda name: b"/" not in name and b"\0" not in name)
NAMESPACES = st.binary(min_size=1, max_size=255).filter(lambda name: b"/" not in name and b"\0" not in name)


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"eth0.5", "eth0.5"),
        ("größe".encode(), "größe"),
        (b"bad\xffname", "bad\\xffname"),
        (b"bad\\xffname", "bad\\\\xffname"),
        (b"\x1b[31m", "\\x1b[31m"),
        ("\u202egpj".encode(), "\\xe2\\x80\\xaegpj"),
        ("\x85".encode(), "\\xc2\\x85"),
        (b"\x85", "\\x85"),
    ],
)
def test_what_cannot_be_printed_is_escaped(octets: bytes, text: str) -> None:
    assert shown(octets) == text


@given(NAMESPACES, INTERFACES)
def test_a_name_is_text_that_fits_and_is_in_the_kernel_whole(namespace: bytes, name: bytes) -> None:
    text = shown_in(namespace, shown(name))
    assert text.isprintable()
    assert len(text.encode()) <= MOST_OCTETS
    assert np.frombuffer(interface(0, 0, text), INTERFACE)["name"][0].decode() == text
    assert text.rpartition("/")[2] == shown(name)


@given(st.tuples(NAMESPACES, INTERFACES), st.tuples(NAMESPACES, INTERFACES))
def test_two_names_are_never_shown_alike(one: tuple[bytes, bytes], other: tuple[bytes, bytes]) -> None:
    names = [shown_in(namespace, shown(name)) for namespace, name in (one, other)]
    assert (names[0] == names[1]) == (one == other)


def test_long_names_that_begin_alike_differ_and_none_is_what_another_is_cut_to() -> None:
    long, longer = shown_in(b"n" * 200, "eth0"), shown_in(b"n" * 201, "eth0")
    assert long != longer
    assert long.startswith("nnnn")
    cut = long.removesuffix("/eth0").encode()
    assert shown_in(cut, "eth0") != long

"""IP addresses between 16 octets (IPv4 as ::ffff:a.b.c.d) and RFC 5952 text, many at a time.

IPv4 takes a vectorised way (tens of nanoseconds an address); IPv6 goes through the C library.
"""

import socket
from collections.abc import Sequence
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from common.errors import DecodeError
from schemas.packets import MAPPED_PREFIX, U8, is_ipv4


@cache
def _decimal() -> pa.Array:
    return pa.array([str(value) for value in range(256)])


def to_arrow(octets: U8) -> pa.Array:
    """Octets of shape (n, 16) to an Arrow string array of n addresses."""
    four = is_ipv4(octets)
    columns = [_decimal().take(pa.array(octets[:, 12 + i])) for i in range(4)]
    text = pc.binary_join_element_wise(*columns, ".")
    if four.all():
        return text
    six = [socket.inet_ntop(socket.AF_INET6, row.tobytes()) for row in octets[~four]]
    return pc.replace_with_mask(text, pa.array(~four), pa.array(six, pa.string()))


def to_text(octets: U8) -> list[str]:
    """Octets of shape (n, 16) to n strings."""
    texts: list[str] = to_arrow(octets).to_pylist()
    return texts


def from_arrow(texts: pa.Array) -> U8:
    """An Arrow string array of n addresses to octets of shape (n, 16). Raises DecodeError."""
    octets = np.zeros((len(texts), 16), np.uint8)
    if not len(texts):
        return octets
    six = pc.match_substring(texts, ":").to_numpy(zero_copy_only=False)
    four_texts = texts.filter(pa.array(~six)) if six.any() else texts
    try:
        parts = pc.split_pattern(four_texts, ".")
        if len(four_texts) and pc.any(pc.not_equal(pc.list_value_length(parts), 4)).as_py():
            raise DecodeError("not an IP address: four numbers or a colon are needed")
        octets[~six, 12:] = parts.flatten().cast(pa.uint8()).to_numpy().reshape(-1, 4)
        octets[~six, :12] = np.frombuffer(MAPPED_PREFIX, np.uint8)
        if six.any():
            rows = b"".join(socket.inet_pton(socket.AF_INET6, text) for text in texts.filter(pa.array(six)).to_pylist())
            octets[six] = np.frombuffer(rows, np.uint8).reshape(-1, 16)
    except (pa.ArrowInvalid, OSError) as error:
        raise DecodeError(f"not an IP address: {error}") from error
    return octets


def from_text(texts: Sequence[str]) -> U8:
    """n strings to octets of shape (n, 16). Raises DecodeError."""
    return from_arrow(pa.array(texts, pa.string()))

"""IP addresses between 16 octets (IPv4 as ::ffff:a.b.c.d) and RFC 5952 text, many at a time.

IPv4 takes a vectorised way (tens of nanoseconds an address); IPv6 goes through the C library.
"""

import socket
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from common.errors import DecodeError
from schemas.packets import MAPPED_PREFIX, U8, is_ipv4

_DOT, _COLON = ord("."), ord(":")
_ROWS = 2048  # texts at a time: they stay in the CPU's cache
_PREFIX_END = int.from_bytes(MAPPED_PREFIX[8:], "little")  # the third word of an address


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
    offsets, data = _buffers(texts)
    if not (data == _COLON).any():
        return _of_ipv4(offsets, data)
    octets = np.empty((len(texts), 16), np.uint8)
    six = pc.match_substring(texts, ":")
    rows = six.to_numpy(zero_copy_only=False)
    octets[~rows] = _of_ipv4(*_buffers(texts.filter(pc.invert(six))))
    octets[rows] = _of_ipv6(texts.filter(six))
    return octets


def _buffers(texts: pa.Array) -> tuple[npt.NDArray[np.int32], U8]:
    """Where each text begins and the last one ends, shape (n + 1,), and all octets of all texts."""
    if not len(texts):
        return np.zeros(1, np.int32), np.zeros(0, np.uint8)
    _, places, data = (texts if pa.types.is_string(texts.type) else texts.cast(pa.string())).buffers()
    offsets = np.frombuffer(places, np.int32, len(texts) + 1, texts.offset * 4)
    first, last = int(offsets[0]), int(offsets[-1])
    octets = np.frombuffer(data, np.uint8, last - first, first) if last > first else np.zeros(0, np.uint8)
    return offsets - first, octets


def _of_ipv4(offsets: npt.NDArray[np.int32], data: U8) -> U8:
    """Texts a.b.c.d as `_buffers` gives them to octets of shape (n, 16)."""
    n = len(offsets) - 1
    words = np.zeros((n, 4), "<u4")
    words[:, 2] = _PREFIX_END
    octets = words.view(np.uint8)
    for begin in range(0, n, _ROWS):
        places = offsets[begin : begin + _ROWS + 1]
        numbers = _four_numbers(places - places[0], data[places[0] : places[-1]])
        for i in range(4):
            octets[begin : begin + _ROWS, 12 + i] = numbers[i]
    return octets


def _four_numbers(offsets: npt.NDArray[np.int32], data: U8) -> npt.NDArray[np.uint16]:
    """Of texts a.b.c.d, shape (4, n): four octets of text at a time as a number."""
    n = len(offsets) - 1
    dots = np.flatnonzero(data == _DOT)
    if len(dots) != 3 * n:
        raise DecodeError("not an IP address: four numbers or a colon are needed")
    ends = np.empty((4, n), np.int32)  # of each number
    ends[:3], ends[3] = dots.reshape(n, 3).T, offsets[1:]
    digits = np.empty((4, n), np.int32)  # how many; 1 to 3 only when each text has its own three dots
    digits[0], digits[1:] = ends[0] - offsets[:-1], ends[1:] - ends[:3] - 1
    if not 1 <= int(digits.min()) <= int(digits.max()) <= 3:
        raise DecodeError("not an IP address: four numbers of one to three digits are needed")
    padded = np.concatenate([np.zeros(4, np.uint8), data])
    before = np.ndarray((len(data) + 1,), "<u4", padded, strides=(1,))  # the four octets before each place
    text = before.take(ends).byteswap(inplace=True)  # the first one highest
    text = (text ^ np.uint32(0x30303030)) & (np.uint32(0xFFFFFF) >> (24 - 8 * digits).astype(np.uint32))
    numbers = _numbers().take(text, mode="clip")
    if int(numbers.max()) > 255:
        raise DecodeError("not an IP address: a number is not one of 0 to 255")
    return numbers


@cache
def _numbers() -> npt.NDArray[np.uint16]:
    """What digits are as a number, by an index of which each octet is a digit, the last one lowest; 256: above 255."""
    table = np.full(0x020505 + 2, 256, np.uint16)
    for number in range(256):
        table[number // 100 << 16 | number // 10 % 10 << 8 | number % 10] = number
    return table


def _of_ipv6(texts: pa.Array) -> U8:
    """Texts with a colon to octets of shape (n, 16); each different one is read once."""
    encoded = texts.dictionary_encode()
    try:
        rows = b"".join(socket.inet_pton(socket.AF_INET6, text) for text in encoded.dictionary.to_pylist())
    except (OSError, ValueError) as error:
        raise DecodeError(f"not an IP address: {error}") from error
    known = np.frombuffer(rows, np.uint8).reshape(-1, 16)
    octets: U8 = known[encoded.indices.to_numpy(zero_copy_only=False)]
    return octets


def from_text(texts: Sequence[str]) -> U8:
    """n strings to octets of shape (n, 16). Raises DecodeError."""
    return from_arrow(pa.array(texts, pa.string()))

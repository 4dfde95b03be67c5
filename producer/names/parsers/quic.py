"""QUIC's first packets (RFC 9000, 9001, 9369 and the drafts from 22 on): what their CRYPTO frames carry. Pure.

Anybody who sees the connection's first packet has the keys of these. A packet that was copied whole is believed when
its tag is right; of one that was cut, the octets that are there are decrypted without it.
"""

import hmac
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_V2 = 0x6B3343CF
_SALTS = {
    1: bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"),
    _V2: bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"),
    29: bytes.fromhex("afbfec289993d24c9e9786f19c6111e04390a899"),
    23: bytes.fromhex("c3eef712c72ebb5a11a7d2432bb46365bef9f502"),
    22: bytes.fromhex("7fbcdb0e7c66bbe9193a96cd21519ebd7a02644a"),
}
_OTHERS = {0x709A50C4: _V2, 0xFACEB001: 22, 0xFACEB003: 29, 0xFACEB013: 29}
_TAG_BYTES, _SAMPLE_BYTES, _MOST_ID = 16, 16, 20
_MOST_FRAMES, _MOST_OFFSET = 64, 65_536
_LONG = 0x80
_GREASE_MASK, _GREASE = 0x0F0F0F0F, 0x0A0A0A0A


class _Keys(NamedTuple):
    key: bytes
    iv: int
    mask: bytes  # key of the header's protection


class Initial(NamedTuple):
    """An Initial packet of a datagram."""

    families: tuple[int, ...]  # of versions that have one salt; of a version that is none, those that it may be made by
    destination_id: bytes
    packet: bytes  # from its first octet to its end, or to where the copy ends
    number_at: int  # where the packet number stands in it
    is_whole: bool


class Frames(NamedTuple):
    """CRYPTO frames of a packet."""

    is_genuine: bool  # the tag was right; else there was none to look at
    pieces: list[tuple[int, bytes]]  # (offset in the stream, octets)


def families(version: int) -> tuple[int, ...]:
    """Which salts a version has: none of those that we do not know.

    One that only provokes the server to say its own (RFC 9000, 15) has those that clients take for it.
    """
    if version in (1, _V2):
        return (version,)
    if version >> 8 == 0xFF0000:
        draft = version & 0xFF
        return (29,) if 29 <= draft <= 34 else (23,) if 23 <= draft <= 28 else (22,) if draft == 22 else ()
    if version & _GREASE_MASK == _GREASE:
        return (1, 29)
    if version in _OTHERS:
        return (_OTHERS[version],)
    return (23,) if version >> 8 == 0xFACEB0 else ()  # Facebook's


def is_known(datagram: bytes) -> bool:
    """Whether it begins with a long header of a version that has a salt."""
    return bool(datagram[0] & _LONG) and bool(families(int.from_bytes(datagram[1:5], "big")))


def initials(datagram: bytes) -> Iterator[Initial]:
    """The Initial packets of a datagram, which may be cut. Ends at what is none of a long header, or cannot be."""
    at = 0
    try:
        while at + 7 < len(datagram) and datagram[at] & _LONG:
            known = families(int.from_bytes(datagram[at + 1 : at + 5], "big"))
            if not known:
                return
            packet_type = datagram[at] >> 4 & 3
            is_initial = packet_type == (1 if _V2 in known else 0)
            if packet_type == (0 if _V2 in known else 3):  # Retry has no length, and nothing behind it
                return
            size = datagram[at + 5]
            destination = datagram[at + 6 : at + 6 + size]
            place = at + 6 + size
            source_size = datagram[place]
            if size > _MOST_ID or source_size > _MOST_ID:
                return
            place += 1 + source_size
            if is_initial:
                token, place = _number(datagram, place)
                place += token
            length, place = _number(datagram, place)
            end = place + length
            if is_initial and length >= _TAG_BYTES + 4 and place < len(datagram):
                yield Initial(known, destination, datagram[at:end], place - at, end <= len(datagram))
            at = end
    except IndexError:
        return


def frames(initial: Initial, destination_id: bytes) -> Frames | None:
    """What a client's Initial carries, by the keys of this connection id; None when these are not its keys.

    A packet that was cut gives no certainty: None there means that its octets cannot be frames.
    """
    found = (_frames(initial, _keys(known, destination_id)) for known in initial.families)
    return next((read for read in found if read is not None), None)


def _frames(initial: Initial, keys: _Keys) -> Frames | None:
    packet, at = initial.packet, initial.number_at
    sample = packet[at + 4 : at + 4 + _SAMPLE_BYTES]
    if len(sample) < _SAMPLE_BYTES:
        return None
    mask = Cipher(algorithms.AES(keys.mask), modes.ECB()).encryptor().update(sample)  # noqa: S305  as RFC 9001 has it
    first = packet[0] ^ (mask[0] & 0x0F)
    number_bytes = (first & 3) + 1
    number = bytes(octet ^ key for octet, key in zip(packet[at : at + number_bytes], mask[1:5], strict=False))
    nonce = (keys.iv ^ int.from_bytes(number, "big")).to_bytes(12, "big")
    body = packet[at + number_bytes :]
    if initial.is_whole:
        try:
            plain = AESGCM(keys.key).decrypt(nonce, body, bytes((first,)) + packet[1:at] + number)
        except InvalidTag:
            return None
    else:
        plain = Cipher(algorithms.AES(keys.key), modes.CTR(nonce + b"\0\0\0\2")).encryptor().update(body)
    pieces = _crypto(plain)
    return None if pieces is None else Frames(initial.is_whole, pieces)


def _number(octets: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer and where it ends. Raises IndexError when it is cut."""
    size = 1 << (octets[at] >> 6)
    if at + size > len(octets):
        raise IndexError
    return int.from_bytes(octets[at : at + size], "big") & ((1 << (8 * size - 2)) - 1), at + size


def _crypto(plain: bytes) -> list[tuple[int, bytes]] | None:
    """CRYPTO frames up to the first frame of another kind than an Initial may have; None when that is at the begin."""
    pieces: list[tuple[int, bytes]] = []
    at = 0
    try:
        for _ in range(_MOST_FRAMES):
            at = len(plain) - len(plain[at:].lstrip(b"\0\1"))  # PADDING, PING
            if at >= len(plain):
                break
            kind = plain[at]
            if kind == 6:
                offset, at = _number(plain, at + 1)
                size, at = _number(plain, at)
                if offset > _MOST_OFFSET:
                    break
                pieces.append((offset, plain[at : at + size]))
                at += size
            elif kind in (2, 3):
                at = _behind_ack(plain, at)
            elif kind in (0x1C, 0x1D):  # closed before it began
                return pieces
            else:
                return pieces or None
    except IndexError:
        pass
    return pieces


def _behind_ack(plain: bytes, at: int) -> int:
    kind = plain[at]
    _, at = _number(plain, at + 1)
    _, at = _number(plain, at)
    ranges, at = _number(plain, at)
    for _ in range(1 + 2 * min(ranges, 64) + (3 if kind == 3 else 0)):
        _, at = _number(plain, at)
    return at


@lru_cache(1024)  # the datagrams of a hello have the same
def _keys(known: int, destination_id: bytes) -> _Keys:
    """The client's (RFC 9001, 5.2)."""
    initial = hmac.digest(_SALTS[known], destination_id, "sha256")
    client = _expand(initial, b"client in", 32)
    prefix = b"quicv2 " if known == _V2 else b"quic "
    return _Keys(
        _expand(client, prefix + b"key", 16),
        int.from_bytes(_expand(client, prefix + b"iv", 12), "big"),
        _expand(client, prefix + b"hp", 16),
    )


def _expand(secret: bytes, label: bytes, size: int) -> bytes:
    """HKDF-Expand-Label of at most 32 octets (RFC 8446, 7.1)."""
    label = b"tls13 " + label
    info = size.to_bytes(2, "big") + bytes((len(label),)) + label + b"\0"
    return hmac.digest(secret, info + b"\1", "sha256")[:size]

"""ClientHellos and QUIC's first packets, made by the RFCs."""

from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from producer.names.parsers import quic

CHROME_CIPHERS = (
    0x1301,
    0x1302,
    0x1303,
    0xC02B,
    0xC02F,
    0xC02C,
    0xC030,
    0xCCA9,
    0xCCA8,
    0xC013,
    0xC014,
    0x9C,
    0x9D,
    0x2F,
    0x35,
)
CHROME_EXTENSIONS = (0x1B, 0, 0x33, 0x10, 0x4469, 0x17, 0x2D, 0x0D, 5, 0x23, 0x12, 0x2B, 0xFF01, 0x0B, 0x0A, 0x15)
CHROME_SIGNATURES = (0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601)
"""Those of the example in FoxIO's description of JA4, which is t13d1516h2_8daaf6152771_e5627efa2ab1."""
CHROME_JA4 = "13d1516h2_8daaf6152771_e5627efa2ab1"
GREASE = 0x3A3A


def vector(octets: bytes, width: int) -> bytes:
    return len(octets).to_bytes(width, "big") + octets


def values(numbers: Sequence[int]) -> bytes:
    return b"".join(number.to_bytes(2, "big") for number in numbers)


def server_name(name: bytes) -> bytes:
    return vector(b"\0" + vector(name, 2), 2)


def ech(config: int = 7, *, kind: int = 0) -> bytes:
    """An encrypted_client_hello extension, as GREASE and real ones look."""
    return bytes((kind, 0, 1, 0, 1, config)) + vector(bytes(32), 2) + vector(bytes(144), 2)


def client_hello(
    name: bytes | None = b"www.example.org",
    *,
    ciphers: Sequence[int] = CHROME_CIPHERS,
    extensions: Sequence[int] = CHROME_EXTENSIONS,
    signatures: Sequence[int] = CHROME_SIGNATURES,
    alpn: Sequence[bytes] = (b"h2", b"http/1.1"),
    versions: Sequence[int] = (GREASE, 0x0304, 0x0303),
    bodies: dict[int, bytes] | None = None,
    padding: int = 0,
) -> bytes:
    """A handshake message; with a name of None no SNI is in it."""
    known = {
        0: server_name(name or b""),
        0x10: vector(b"".join(vector(protocol, 1) for protocol in alpn), 2),
        0x0D: vector(values(signatures), 2),
        0x2B: vector(values(versions), 1),
        0x15: bytes(padding),
        **(bodies or {}),
    }
    listed = [kind for kind in extensions if kind or name is not None]
    body = b"\x03\x03" + bytes(32) + vector(bytes(32), 1) + vector(values(ciphers), 2) + b"\x01\0"
    body += vector(b"".join(values([kind]) + vector(known.get(kind, b""), 2) for kind in listed), 2)
    return b"\x01" + vector(body, 3)


def records(message: bytes, most: int = 1 << 14) -> bytes:
    """The message in TLS records of at most so many octets."""
    return b"".join(b"\x16\x03\x01" + vector(message[at : at + most], 2) for at in range(0, len(message), most))


def with_ech(name: bytes, config: int = 7) -> bytes:
    """Records of a hello that has ECH, or looks so."""
    return records(client_hello(name, extensions=(*CHROME_EXTENSIONS, 0xFE0D), bodies={0xFE0D: ech(config)}))


def number(value: int) -> bytes:
    """A variable-length integer of QUIC."""
    for size, first in ((1, 0), (2, 0x40), (4, 0x80), (8, 0xC0)):
        if value < 1 << (8 * size - 2):
            return bytes((value >> 8 * (size - 1) | first,)) + (value & ((1 << 8 * (size - 1)) - 1)).to_bytes(
                size - 1, "big"
            )
    raise AssertionError(value)


def crypto(offset: int, octets: bytes) -> bytes:
    return b"\x06" + number(offset) + number(len(octets)) + octets


def initial(
    payload: bytes,
    *,
    destination: bytes = bytes.fromhex("8394c8f03e515708"),
    keys_of: bytes | None = None,
    version: int = 1,
    packet_number: int = 2,
    token: bytes = b"",
    least: int = 1200,
) -> bytes:
    """A client's Initial packet with these frames, padded to a datagram of `least` octets."""
    known = quic.families(version)[-1]
    keys = quic._keys(known, destination if keys_of is None else keys_of)
    first = 0xC3 | (0x10 if known == 0x6B3343CF else 0)
    head = bytes((first,)) + version.to_bytes(4, "big") + vector(destination, 1) + b"\0" + number(len(token)) + token
    payload += bytes(max(4, least - len(head) - 2 - 4 - 16 - len(payload)))
    head += (len(payload) + 4 + 16 | 0x4000).to_bytes(2, "big")
    at, clear = len(head), packet_number.to_bytes(4, "big")
    sealed = AESGCM(keys.key).encrypt((keys.iv ^ packet_number).to_bytes(12, "big"), payload, head + clear)
    packet = bytearray(head + clear + sealed)
    mask = Cipher(algorithms.AES(keys.mask), modes.ECB()).encryptor().update(bytes(packet[at + 4 : at + 20]))
    packet[0] ^= mask[0] & 0x0F
    for place in range(4):
        packet[at + place] ^= mask[1 + place]
    return bytes(packet)

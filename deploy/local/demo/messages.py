"""What the demo's hosts say to each other: DNS messages, and the first that a client of TLS says. Pure."""

import contextlib
import ssl
import struct
from ipaddress import ip_address

A, AAAA, NXDOMAIN = 1, 28, 3
_TTL_SECONDS = 300


def question(number: int, name: str, kind: int) -> bytes:
    """A DNS query, recursion desired (RFC 1035). `number`: its id, 16 bits."""
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + _name(name) + struct.pack(">HH", kind, 1)


def answer(query: bytes, address: str | None) -> bytes:
    """The answer to one of `question`'s; None: there is no such name. An address of another kind is none."""
    number = query[:2]
    asked = query[12:]
    (kind,) = struct.unpack_from(">H", asked, len(asked) - 4)
    octets = ip_address(address).packed if address else b""
    fits = len(octets) == {A: 4, AAAA: 16}.get(kind)
    flags = 0x8180 if address else 0x8180 | NXDOMAIN
    head = number + struct.pack(">HHHHH", flags, 1, int(fits), 0, 0)
    record = struct.pack(">HHHIH", 0xC00C, kind, 1, _TTL_SECONDS, len(octets)) + octets if fits else b""
    return head + asked + record


def name_of(query: bytes) -> str:
    """What a query asks for. Raises ValueError for what is none."""
    labels, at = [], 12
    while at < len(query) and query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii"))
        at += 1 + query[at]
    if at + 5 > len(query):
        raise ValueError("a query that is cut off")
    return ".".join(labels).lower()


def address_in(response: bytes) -> str | None:
    """The address of an answer of ours; None: it has none."""
    count = struct.unpack_from(">H", response, 6)[0]
    if not count:
        return None
    (length,) = struct.unpack_from(">H", response, response.index(b"\0", 12) + 5 + 10)
    return str(ip_address(response[-length:]))


def client_hello(name: str) -> bytes:
    """What a client of TLS sends first to a server of that name: OpenSSL's own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2", "http/1.1"])
    said = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), said, server_hostname=name).do_handshake()
    return said.read()


def _name(name: str) -> bytes:
    return b"".join(bytes((len(label),)) + label.encode("ascii") for label in name.split(".")) + b"\0"

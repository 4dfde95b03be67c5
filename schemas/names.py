"""NameBatch as columns: what a producer read of names, and the streams app stores. Pure; numpy only.

Addresses are 16 octets, IPv4 as ::ffff:a.b.c.d. Times are in nanoseconds since the Unix epoch unless a name says
otherwise.
"""

from dataclasses import dataclass

import numpy as np

from schemas.columnar import Columnar, columnar
from schemas.packets import I64, U8

NAME_KINDS = ("dns", "mdns", "llmnr", "tls", "quic", "http")
"""The texts in Avro, and the symbols of ClickHouse's Enum8, by value."""
NAME_STATUSES = ("named", "incomplete", "malformed", "encrypted", "nameless")
"""Likewise."""
ECH = ("none", "offered", "real")
"""Likewise."""
NOTHING = -1
"""Of a place in a list, a response code or a latency: there is none."""
MOST_DOMAIN = 1_024
"""Characters of a name: 255 octets, each of which takes up to four where it cannot be printed."""

MOST_COPIES = 2**40
"""Of one message: more than any ring holds. Those of millions of messages add up in 64 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NameColumn:
    """A column of NameBatch that has a value a row; schemas/avro/NameBatch.N.avsc says what it means."""

    name: str
    numpy: str
    lowest: int
    highest: int
    texts: tuple[str, ...] = ()  # the values are places in these
    list_of: str = ""  # the values are places in this member


def _number(name: str, numpy: str, lowest: int, highest: int) -> NameColumn:
    return NameColumn(name=name, numpy=numpy, lowest=lowest, highest=highest)


def _choice(name: str, texts: tuple[str, ...]) -> NameColumn:
    return NameColumn(name=name, numpy="u1", lowest=0, highest=len(texts) - 1, texts=texts)


def _place(name: str, list_of: str, *, lowest: int = NOTHING) -> NameColumn:
    return NameColumn(name=name, numpy="<i4", lowest=lowest, highest=2**31 - 1, list_of=list_of)


NAME_COLUMNS = (
    _number("time_offset_ns", "<i8", -(2**62), 2**62),
    _number("ring_offset", "<i8", 0, 2**53),
    _choice("kind", NAME_KINDS),
    _choice("status", NAME_STATUSES),
    _place("interface", "interface_names", lowest=0),
    _choice("direction", ("ingress", "egress")),
    _number("protocol", "u1", 0, 255),
    _place("client", "clients", lowest=0),
    _number("client_port", "<u2", 0, 65_535),
    _place("server", "servers", lowest=0),
    _number("server_port", "<u2", 0, 65_535),
    _place("name", "names"),
    _number("qtype", "<u2", 0, 65_535),
    _number("rcode", "<i2", NOTHING, 4_095),
    _number("latency_us", "<i8", NOTHING, 2**32 - 1),
    _number("ttl", "<u4", 0, 2**32 - 1),
    _place("answers", "answer_sets"),
    _place("ja4", "ja4s"),
    _place("alpn", "alpns"),
    _choice("ech", ECH),
    _number("row_count", "<i4", 0, 2**31 - 1),
    _number("row_copies", "<i4", 0, 2**31 - 1),
)
"""The columns of rows, in the order of the schema."""


@columnar({column.name: column.numpy for column in NAME_COLUMNS})
class NameBatch(Columnar):
    """What names one node read in a fraction of a second, a column each of NAME_COLUMNS, all of shape (n,).

    A row is a DNS transaction or a handshake. open_copies of the batch before + copies = sum(row_copies) +
    unused_copies + open_copies, within a run of the producer.
    """

    node: str
    ring_id: int
    ring_start: int  # place in the ring of copies, bytes since its start
    ring_end: int
    sequence: int
    clock_ns: int  # when the message was made
    base_ns: int
    copies: int  # between ring_start and ring_end
    open_copies: int  # up to ring_end, in no row yet
    unused_copies: int  # that make no row
    epoch: I64  # of the copies between ring_start and ring_end, shape (m,)
    epoch_copies: I64  # how many were made in each, shape (m,)
    interface_names: tuple[str, ...]
    names: tuple[str, ...]
    clients: U8  # addresses, shape (k, 16)
    servers: U8  # likewise
    answer_sets: tuple[str, ...]  # the answers of a response in their order, one space between two
    ja4s: tuple[str, ...]
    alpns: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.kind)


def no_rows() -> dict[str, "np.ndarray[tuple[int], np.dtype[np.int64]]"]:
    """The columns of a NameBatch without rows."""
    return {column.name: np.zeros(0, column.numpy) for column in NAME_COLUMNS}

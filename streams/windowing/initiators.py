"""Which side began a connection: by its ports and addresses, and what is remembered where packets said otherwise. Pure.

`by_rule` knows nothing but the two ends, and so says the same at any time and everywhere. A TCP connection whose SYN
showed the other side is *turned*. Initiators remembers the turned ones, which are few, from window to window: what it
learns are the rows of windows, as they are stored, so that after a restart the flows table can tell it the same.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from schemas.community_id import TCP
from schemas.packets import I32, U8, U16, U32
from streams.windowing.keys import U64, seeded_hash, stir
from streams.windowing.services import RANKS

Bools = npt.NDArray[np.bool_]

MOST = 1 << 20  # connections, of 16 octets each
GRACE_SECONDS = 600
_FIRST_BITS = 20


class End(NamedTuple):
    """One side of n connections."""

    address: U64  # shape (n, 2): the 16 octets as little-endian words
    port: U16

    @classmethod
    def of(cls, address: U8, port: U16) -> "End":
        """From addresses of shape (n, 16)."""
        return cls(np.ascontiguousarray(address).view("<u8"), port)

    def at(self, places: npt.NDArray[np.intp]) -> "End":
        """Some of them."""
        return End(self.address.take(places, axis=0), self.port.take(places))


def by_rule(a: End, b: End) -> Bools:
    """Whether `a` began, as far as ports and addresses tell. Asked the other way round it says the opposite.

    The side whose port is less likely a service's (services.RANKS) began, of two alike the one with the lower address
    or, of one address, the lower port. Multicast and broadcast addresses do not begin.
    """
    rank_a, rank_b = RANKS[a.port], RANKS[b.port]
    a_began: Bools = rank_b < rank_a
    alike = np.flatnonzero(rank_a == rank_b)
    a_began[alike] = ~greater(a.at(alike), b.at(alike))
    a_many, b_many = _to_many(a), _to_many(b)
    return np.where(a_many ^ b_many, b_many, a_began)


def greater(a: End, b: End) -> Bools:
    """a > b: addresses compared as big-endian numbers, then ports."""
    high_a, high_b = a.address[:, 0].byteswap(), b.address[:, 0].byteswap()
    low_a, low_b = a.address[:, 1].byteswap(), b.address[:, 1].byteswap()
    found: Bools = (high_a > high_b) | ((high_a == high_b) & ((low_a > low_b) | ((low_a == low_b) & (a.port > b.port))))
    return found


def _to_many(end: End) -> Bools:
    """Addresses of more than one machine: ff00::/8, 224.0.0.0/4 and 255.255.255.255."""
    high, low = end.address[:, 0], end.address[:, 1]
    mapped = (high == 0) & (low & np.uint64(0xFFFFFFFF) == np.uint64(0xFFFF0000))
    last = low >> np.uint64(32)  # the IPv4 address, its first octet lowest
    found: Bools = high & np.uint64(0xFF) == np.uint64(0xFF)
    found |= mapped & ((last & np.uint64(0xF0) == np.uint64(0xE0)) | (last == np.uint64(0xFFFFFFFF)))
    return found


def identities(node_names: tuple[str, ...], node: I32 | U32, a: End, b: End) -> U64:
    """A 64-bit hash of each connection: its node and its two ends, in either order, wherever it is seen.

    Two connections of one hash would share an initiator: no worse than a forged SYN, and far harder to make.
    """
    nodes = np.array([hash(name) & (1 << 64) - 1 for name in node_names], np.uint64)
    first, second = (seeded_hash(end.address[:, 0], end.address[:, 1], end.port) for end in (a, b))
    both = first + second
    stir(both, nodes[node])
    return both


class Connections(Protocol):
    """Rows of windows, src being the initiator: FlowColumns, or what the flows table tells."""

    @property
    def node_names(self) -> tuple[str, ...]:
        """Names by number."""

    @property
    def node(self) -> I32:
        """Number of a name."""

    @property
    def protocol(self) -> U8:
        """By IANA's number."""

    @property
    def src_addr(self) -> U8:
        """Shape (n, 16)."""

    @property
    def dst_addr(self) -> U8:
        """Shape (n, 16)."""

    @property
    def src_port(self) -> U16:
        """Of the initiator."""

    @property
    def dst_port(self) -> U16:
        """Of the responder."""

    @property
    def window_begin(self) -> int | U32:
        """Seconds since the Unix epoch, of all rows or of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredConnections:
    """n rows of the flows table, as Connections."""

    node_names: tuple[str, ...]
    node: I32
    protocol: U8
    src_addr: U8
    dst_addr: U8
    src_port: U16
    dst_port: U16
    window_begin: U32


class _Turned(NamedTuple):
    identity: U64  # ascending, each once
    since: U32  # start of the first window with a row, seconds since the Unix epoch
    window: U32  # of the last one

    def at(self, places: npt.NDArray[np.intp]) -> "_Turned":
        return _Turned(self.identity[places], self.since[places], self.window[places])

    def and_then(self, identity: U64, window: U32) -> "_Turned":
        """With rows that came later, connections several times and in any order."""
        since, last = np.concatenate([self.since, window]), np.concatenate([self.window, window])
        return _Turned(np.concatenate([self.identity, identity]), since, last)


_NOBODY = _Turned(np.zeros(0, np.uint64), np.zeros(0, np.uint32), np.zeros(0, np.uint32))


class Initiators:
    """The turned connections of a partition: those whose newest row has another src than `by_rule` says.

    Of more than `most` those are forgotten whose newest row is the oldest. What lasted for some time counts as so much
    newer, up to GRACE_SECONDS: a flood of SYNs does not push out the connections that live. One thread learns; others
    may ask meanwhile.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._turned = _NOBODY  # replaced, never changed

    def __len__(self) -> int:
        return len(self._turned.identity)

    def copy(self) -> "Initiators":
        """One that learns by itself from now on."""
        other = Initiators(self._most)
        other._turned = self._turned
        return other

    def turned(self, identity: U64) -> Bools:
        """Which connections are turned; all others are as by_rule says, or not known."""
        return _among(self._turned.identity, identity)

    def learn(self, rows: Connections) -> None:
        """Take in rows. Of a connection those of the newest window count; of one window, those that come later."""
        tcp = np.flatnonzero(rows.protocol == TCP)
        a, b = End.of(rows.src_addr, rows.src_port).at(tcp), End.of(rows.dst_addr, rows.dst_port).at(tcp)
        turned = ~by_rule(a, b)
        if not len(self) and not turned.any():
            return
        identity = identities(rows.node_names, rows.node[tcp], a, b)
        new = np.flatnonzero(self.turned(identity) | perhaps_among(identity[turned], identity))
        if not len(new):
            return
        window = np.broadcast_to(np.asarray(rows.window_begin, np.uint32), len(rows.protocol))[tcp[new]]
        was = np.ones(len(self), np.bool_)
        self._turned = self._newest(self._turned.and_then(identity[new], window), np.append(was, turned[new]))

    def _newest(self, rows: _Turned, turned: Bools) -> _Turned:
        order = np.lexsort((rows.window, rows.identity))  # stable: what came later stays behind
        changes = np.diff(rows.identity[order]) != 0
        first, last = order[np.append(True, changes)], order[np.append(changes, True)]
        kept = np.flatnonzero(turned[last])
        found = rows.at(last[kept])._replace(since=rows.since[first[kept]])
        if len(found.identity) <= self._most:
            return found
        counts_as = found.window + np.minimum(found.window - found.since, GRACE_SECONDS)
        return found.at(np.sort(np.argsort(counts_as, kind="stable")[-self._most :]))


def perhaps_among(known: U64, asked: U64) -> Bools:
    """Which of `asked` may be in `known`: all that are, and a few more."""
    first_bits = np.uint64(64 - _FIRST_BITS)
    there = np.zeros(1 << _FIRST_BITS, np.bool_)
    there[known >> first_bits] = True
    perhaps: Bools = there[asked >> first_bits]
    return perhaps


def _among(known: U64, asked: U64) -> Bools:
    """Which of `asked` are in `known`, which ascends."""
    found = np.zeros(len(asked), np.bool_)
    if len(known):
        perhaps = np.flatnonzero(perhaps_among(known, asked))  # a binary search is dear
        values = asked[perhaps]
        found[perhaps] = known[np.minimum(np.searchsorted(known, values), len(known) - 1)] == values
    return found

"""Numbers that stand for what flows are about: a domain with its source, and a client's TLS. Pure; numpy only.

A number is `mark << 32 | place << 3 | rank`; 0 is nothing. The rank is how good the source is, so that merging needs no
table. The mark follows from the texts: it decides between two of one moment, so that whoever reads again decides alike.
"""

import zlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.fields import DOMAIN_RANKS
from schemas.packets import I64, PacketBatch
from streams.windowing.keys import U64, Groups, Names

RANK = np.uint64(7)
MANY = 1 << 16  # anybody can ask for made-up names: from here on those that are not in use are forgotten
MOST_OCTETS = 16 << 20  # of texts, likewise
_ENTRY_OCTETS = 200  # of an entry, besides its text


class Domain(NamedTuple):
    """A name, and how it is known."""

    domain: str
    source: int  # place in DOMAIN_SOURCES
    names: int  # that the address had


class Hello(NamedTuple):
    """What a client's TLS says of it."""

    ja4: str
    alpn: str


class Table(NamedTuple):
    """What numbers stand for, by their place, from 1."""

    domains: tuple[Domain, ...]
    hellos: tuple[Hello, ...]


NO_NAMES = Table((), ())


class Numbers(NamedTuple):
    """Of each flow of a dictionary, shape (n,); empty where none has a name."""

    domain: U64
    hello: U64


NO_NUMBERS = Numbers(np.zeros(0, np.uint64), np.zeros(0, np.uint64))


class Naming:
    """The names of the flows of one partition. A name keeps its number as long as it is in use."""

    def __init__(self, many: int = MANY, most_octets: int = MOST_OCTETS) -> None:
        self._domains, self._hellos = Names[Domain](many), Names[Hello](many)
        self._most = self._limit = most_octets
        self.nbytes = 0

    def numbers(self, batch: PacketBatch) -> Numbers:
        """Of the flows of a batch."""
        flows = batch.flows
        if not batch.named or not len(flows.domain):
            return NO_NUMBERS
        keys = flows.domain.astype(np.int64) << 24 | flows.domain_source.astype(np.int64) << 16 | flows.domain_count
        domain = np.zeros(len(flows), np.uint64)
        for rows, key in _each(keys, flows.domain >= 0):
            source = key >> 16 & 0xFF
            name = Domain(batch.domains[key >> 24], source, key & 0xFFFF)
            domain[rows] = self._number(self._domains, name) | DOMAIN_RANKS[source]
        keys = (flows.ja4.astype(np.int64) + 1) << 32 | (flows.alpn.astype(np.int64) + 1)
        hello = np.zeros(len(flows), np.uint64)
        for rows, key in _each(keys, keys > 0):
            ja4, alpn = (key >> 32) - 1, (key & 0xFFFFFFFF) - 1
            text = Hello(batch.ja4s[ja4] if ja4 >= 0 else "", batch.alpns[alpn] if alpn >= 0 else "")
            hello[rows] = self._number(self._hellos, text)
        return Numbers(domain, hello)

    def _number(self, names: Names[Any], name: Domain | Hello) -> int:
        before = len(names)
        place = names.number(name) + 1
        if len(names) > before:
            self.nbytes += _octets(name)
        return zlib.crc32(repr(name).encode()) << 32 | place << 3

    def table(self) -> Table:
        """What the numbers so far stand for."""
        return Table(self._domains.all(), self._hellos.all())

    @property
    def crowded(self) -> bool:
        """Whether it is time for `keep`."""
        return self._domains.crowded or self._hellos.crowded or self.nbytes > self._limit

    def keep(self, domain: U64, hello: U64) -> None:
        """Forget all but those of these numbers; the numbers of the others are given to new ones."""
        for names, numbers in ((self._domains, domain), (self._hellos, hello)):
            names.keep(_places(numbers[numbers > 0]) - 1)
        known: list[Domain | Hello] = [*self._domains, *self._hellos]
        self.nbytes = sum(map(_octets, known))
        self._limit = max(self._most, 2 * self.nbytes)


def _octets(name: Domain | Hello) -> int:
    return _ENTRY_OCTETS + sum(len(each) for each in name if isinstance(each, str))


def _each(keys: I64, which: npt.NDArray[np.bool_]) -> list[tuple[npt.NDArray[np.intp], int]]:
    """Rows of equal keys, and their key."""
    rows = np.flatnonzero(which)
    distinct, inverse = np.unique(keys[rows], return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    parts = np.split(rows[order], np.cumsum(np.bincount(inverse, minlength=len(distinct)))[:-1])
    return list(zip(parts, distinct.tolist(), strict=False))


def best(groups: Groups, numbers: U64, seen_ns: I64) -> tuple[U64, I64]:
    """Of each group the number of the highest rank, of equals the one seen last; and when."""
    found, found_ns = np.zeros(len(groups), np.uint64), np.zeros(len(groups), np.int64)
    ordered = numbers.take(groups.order)
    places = np.flatnonzero(ordered)
    if len(places):
        rows = groups.order[places]
        group = np.searchsorted(groups.starts, places, side="right") - 1
        order = np.lexsort((numbers[rows], seen_ns[rows], numbers[rows] & RANK, group))
        group, rows = group[order], rows[order]
        last = np.flatnonzero(np.append(group[1:] != group[:-1], True))
        found[group[last]], found_ns[group[last]] = numbers[rows[last]], seen_ns[rows[last]]
    return found, found_ns


def columns(table: Table, numbers: Numbers, count: int) -> dict[str, Any]:
    """The members of FlowColumns that say what `count` flows are about."""
    domain, hello = (each if len(each) else np.zeros(count, np.uint64) for each in numbers)
    used, index = np.unique(_places(domain), return_inverse=True)
    domains = [table.domains[place - 1] if place else Domain("", 0, 0) for place in used.tolist()]
    domain_names, domain_index = _listed([each.domain for each in domains])
    used, hello_index = np.unique(_places(hello), return_inverse=True)
    hellos = [table.hellos[place - 1] if place else Hello("", "") for place in used.tolist()]
    ja4_names, ja4_index = _listed([each.ja4 for each in hellos])
    alpn_names, alpn_index = _listed([each.alpn for each in hellos])
    return {
        "domain_names": domain_names,
        "ja4_names": ja4_names,
        "alpn_names": alpn_names,
        "domain": domain_index[index],
        "domain_source": np.array([each.source for each in domains], np.uint8)[index],
        "domain_count": np.array([each.names for each in domains], np.uint16)[index],
        "ja4": ja4_index[hello_index],
        "alpn": alpn_index[hello_index],
    }


def _places(numbers: U64) -> I64:
    return (numbers & np.uint64(0xFFFFFFFF)).astype(np.int64) >> 3


def _listed(texts: list[str]) -> tuple[tuple[str, ...], npt.NDArray[np.int32]]:
    """Each text once, the empty one first, and where each of them is."""
    places = {text: place for place, text in enumerate(dict.fromkeys(["", *texts]))}
    return tuple(places), np.array([places[text] for text in texts], np.int32)

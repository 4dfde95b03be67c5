"""Which name a flow has: by its own hello or request, else by the answer that its client got for its address. Pure.

The clock is that of the packets (ktime), so the same packets give the same names.
"""

import secrets
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from producer.names.columns import DNS, ENCRYPTED, HTTP, MALFORMED, NAMED, NONE, QUIC, TLS, Names, chosen
from schemas.fields import DOMAIN_RANKS, DOMAIN_SOURCES
from schemas.packets import I32, I64, U8, U16

_SNI, _HTTP, _QUIC, _DNS = (DOMAIN_SOURCES.index(source) for source in ("sni", "http", "quic", "dns"))
_SOURCE = np.zeros(6, np.uint8)  # of a row's kind
_SOURCE[[TLS, HTTP, QUIC]] = _SNI, _HTTP, _QUIC
_RANK = np.array(DOMAIN_RANKS)  # of a source: the better one stays

_SECOND = 1_000_000_000
_SHORTEST_NS, _LONGEST_NS = 60 * _SECOND, 3_600 * _SECOND
_SILENT_NS = 300 * _SECOND
_NAMES_OF_ADDRESS = 4  # of which the newest is looked for, and that are counted
_MIX = np.array([secrets.randbits(64) | 1 for _ in range(6)], np.uint64)  # nobody outside can make two keys meet
_SHIFT = np.uint64(32)

_ANSWER = np.dtype(
    [("key", "=u8"), ("first", "=i8"), ("last", "=i8"), ("until", "=i8"), ("name", "=i4"), ("unused", "=i4")]
)
"""A name that answers behind each other gave one client for one address: when the first and the last of them came, and
when that has expired. In order of key and time."""
_FLOW = np.dtype(
    [
        ("key", "=u8"),
        ("seen", "=i8"),  # its newest packet
        ("name", "=i4"),
        ("ja4", "=i4"),
        ("alpn", "=i4"),
        ("count", "=u2"),
        ("source", "u1"),
        ("unused", "u1"),
    ]
)
"""A flow, both ways, that has a name or JA4. In order of key."""

Keys = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
Entries = npt.NDArray[np.void]


class FlowNames(NamedTuple):
    """n flows' names; all columns have shape (n,)."""

    domains: list[str]
    flow_domain: I32  # in domains, -1: none
    flow_domain_source: U8  # place in DOMAIN_SOURCES
    flow_domain_count: U16  # names that the client's answers had for that address; 1 when it is the flow's own
    ja4s: list[str]
    flow_ja4: I32  # in ja4s, -1: none
    alpns: list[str]
    flow_alpn: I32  # in alpns, -1: none


class DomainTable:
    """What is known of names: at most `most` of answers and as many of flows, in `most_octets` of text; 20 MB in all.

    An answer's name holds from then on for twice its TTL, at least a minute and at most an hour. A flow that has a name
    keeps it until it was silent for five minutes.
    """

    def __init__(self, most: int = 65_536, most_octets: int = 4_194_304) -> None:
        self._most, self._most_octets = most, most_octets
        self._answers, self._flows = np.zeros(0, _ANSWER), np.zeros(0, _FLOW)
        self._names, self._ja4s, self._alpns = _Texts(), _Texts(), _Texts()

    def __len__(self) -> int:
        """Names of answers and flows."""
        return len(self._answers) + len(self._flows)

    def learn(self, names: Names) -> None:
        """Rows of a NameReader. Of DNS only what answers a query that was seen: nobody else can name an address."""
        if len(names.rows):
            self._learn_answers(names)
            self._learn_flows(names)
            self._tidy()

    def of_flows(
        self, *, src: U8, dst: U8, src_port: U16, dst_port: U16, protocol: U8, first_ns: I64, last_ns: I64
    ) -> FlowNames:
        """The names of n flows, of which packets were seen from first_ns to last_ns.

        src, dst: shape (n, 16); the others (n,). Either end may be the client; both ways have the same name.
        """
        keys = _flow_keys(src, dst, src_port, dst_port, protocol)
        places = _places(self._flows["key"], keys)
        found = np.zeros(len(keys), _FLOW)
        found["name"] = found["ja4"] = found["alpn"] = NONE
        known = np.flatnonzero(places >= 0)
        known = known[first_ns[known] - self._flows["seen"][places[known]] <= _SILENT_NS]
        found[known] = chosen(self._flows, places[known])
        self._flows["seen"][places[known]] = np.maximum(self._flows["seen"][places[known]], last_ns[known])
        without = np.flatnonzero(found["name"] < 0)
        if len(without) and len(self._answers):
            self._by_answers(found, without, _ends(src, dst, src_port < dst_port), first_ns)
            named = without[found["name"][without] >= 0]
            new = chosen(found, named)
            new["key"], new["seen"] = keys[named], last_ns[named]
            self._put_flows(new)
        result = FlowNames(
            *_listed(self._names, found["name"]),
            found["source"].copy(),
            found["count"].copy(),
            *_listed(self._ja4s, found["ja4"]),
            *_listed(self._alpns, found["alpn"]),
        )
        self._tidy()
        return result

    # --- what comes in

    def _learn_answers(self, names: Names) -> None:
        rows = names.rows
        if not len(names.address_row):
            return
        is_good = (rows["kind"] == DNS) & (rows["status"] == NAMED) & (rows["latency_us"] >= 0) & (rows["name"] >= 0)
        which = np.flatnonzero(is_good[names.address_row])
        of = names.address_row[which]
        new = np.zeros(len(which), _ANSWER)
        new["key"] = _pair_keys(rows["client"][of], names.address[which])
        new["first"] = new["last"] = rows["time_ns"][of]
        new["until"] = new["first"] + np.clip(2 * _SECOND * rows["ttl"][of], _SHORTEST_NS, _LONGEST_NS)
        new["name"] = self._names.numbers(names.names, rows["name"][of])
        if (np.diff(new["first"]) < 0).any():  # of what came in parts
            new = chosen(new, np.argsort(new["first"], kind="stable"))
        new = _runs(chosen(new, np.argsort(new["key"], kind="stable")))
        # a run goes on with the newest one that is known, or is put behind it
        behind = np.searchsorted(self._answers["key"], new["key"], side="right")
        if len(self._answers):
            before = np.maximum(behind - 1, 0)
            is_first = np.ones(len(new), np.bool_)
            is_first[1:] = new["key"][1:] != new["key"][:-1]
            goes_on = is_first & (behind > 0) & _goes_on(self._answers, before, new)
            for time in ("last", "until"):
                self._answers[time][before[goes_on]] = np.maximum(
                    self._answers[time][before[goes_on]], new[time][goes_on]
                )
            new, behind = chosen(new, ~goes_on), behind[~goes_on]
        self._answers = _inserted(self._answers, behind, new)

    def _learn_flows(self, names: Names) -> None:
        rows = names.rows
        which = np.flatnonzero((_SOURCE[rows["kind"]] > 0) & (rows["status"] != MALFORMED))
        if not len(which):
            return
        rows = chosen(rows, which)
        new = np.zeros(len(rows), _FLOW)
        ends = (rows[name] for name in ("client", "server", "client_port", "server_port", "protocol"))
        new["key"] = _flow_keys(*ends)
        new["seen"] = rows["time_ns"]
        new["name"] = self._names.numbers(names.names, rows["name"])
        new["name"][rows["status"] == ENCRYPTED] = NONE
        new["ja4"] = self._ja4s.numbers(names.ja4s, rows["ja4"])
        new["alpn"] = self._alpns.numbers(names.alpns, rows["alpn"])
        new["source"] = np.where(new["name"] >= 0, _SOURCE[rows["kind"]], 0)
        new["count"] = new["source"] > 0
        self._put_flows(new)

    def _put_flows(self, new: Entries) -> None:
        """Adds flows. Of several of one key the one with the better source counts, of equals the later one."""
        order = np.lexsort((np.arange(len(new)), _RANK[new["source"]], new["key"]))
        new = chosen(new, order)
        last = np.ones(len(new), np.bool_)
        last[:-1] = new["key"][1:] != new["key"][:-1]
        new = chosen(new, last)
        places = _places(self._flows["key"], new["key"])
        known = places >= 0
        old = self._flows["source"][places[known]], self._flows["seen"][places[known]]
        is_silent = new["seen"][known] - old[1] > _SILENT_NS
        better = known.copy()
        better[known] = is_silent | (_RANK[new["source"][known]] >= _RANK[old[0]])
        self._flows[places[better]] = new[better]
        new = chosen(new, ~known)
        self._flows = _inserted(self._flows, np.searchsorted(self._flows["key"], new["key"]), new)

    def _tidy(self) -> None:
        """Forgets what is oldest when there is too much: a good part at a time, so that it is seldom done."""
        least = self._most - self._most // 16
        if max(len(self._answers), len(self._flows)) > self._most:
            self._forget(least, least)
        if self._names.count > 3 * self._most or self._names.octets > self._most_octets:
            self._keep_names()
            if self._names.octets > self._most_octets:
                self._forget(len(self._answers) // 2, len(self._flows) // 2)
                self._keep_names()
        for texts, index in ((self._ja4s, "ja4"), (self._alpns, "alpn")):
            if texts.count > 2 * self._most:
                self._flows[index] = texts.keep(self._flows[index])[self._flows[index]]

    def _forget(self, answers: int, flows: int) -> None:
        """All but the newest so many."""
        self._answers = _newest(self._answers, "last", answers)
        self._flows = _newest(self._flows, "seen", flows)

    def _keep_names(self) -> None:
        moved = self._names.keep(np.concatenate([self._answers["name"], self._flows["name"]]))
        self._answers["name"], self._flows["name"] = moved[self._answers["name"]], moved[self._flows["name"]]

    # --- what goes out

    def _by_answers(self, found: Entries, which: Places, ends: tuple[U8, U8], first_ns: I64) -> None:
        """Names for those that have none of their own, by their client and server; then the other way."""
        for client, server in (ends, ends[::-1]):
            left = which[found["name"][which] < 0]
            name, count = self._newest_answer(_pair_keys(client[left], server[left]), first_ns[left])
            named, is_named = left[name >= 0], name >= 0
            found["name"][named], found["count"][named], found["source"][named] = name[is_named], count[is_named], _DNS

    def _newest_answer(self, keys: Keys, first_ns: I64) -> tuple[I32, U16]:
        """By pair, the name of the newest answer before that time that still held then, and how many names did."""
        answers = self._answers
        name, count = np.full(len(keys), NONE, np.int32), np.zeros(len(keys), np.uint16)
        begin = np.searchsorted(answers["key"], keys, side="left")
        hits = np.flatnonzero(answers["key"][np.minimum(begin, len(answers) - 1)] == keys)
        begin, first_ns = begin[hits], first_ns[hits]
        end = np.searchsorted(answers["key"], keys[hits], side="right")
        newest, names = np.full(len(hits), NONE, np.int32), np.zeros(len(hits), np.uint16)
        before: list[I32] = []
        for back in range(1, _NAMES_OF_ADDRESS + 1):  # the newest is the last one
            at = np.maximum(end - back, 0)
            holds = (end - back >= begin) & (answers["first"][at] <= first_ns) & (first_ns <= answers["until"][at])
            here = np.where(holds, answers["name"][at], np.int32(NONE))
            is_new = holds.copy()
            for other in before:
                is_new &= here != other
            names += is_new
            newest = np.where(newest >= 0, newest, here)
            before.append(here)
        name[hits], count[hits] = newest, names
        return name, count


class _Texts:
    """Each text once, by a number."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._numbers: dict[str, int] = {}
        self.octets = 0

    @property
    def count(self) -> int:
        return len(self._texts)

    def numbers(self, texts: list[str], which: I32) -> I32:
        """Of the texts at these places; NONE is NONE, and so is an address in the place of a name."""
        found = np.full(len(texts) + 1, NONE, np.int32)  # the last place is NONE's
        is_used = np.zeros(len(texts) + 1, np.bool_)
        is_used[which] = True
        for at in np.flatnonzero(is_used[:-1]).tolist():
            text = texts[at]
            if text and not _is_address(text):
                number = found[at] = self._numbers.setdefault(text, len(self._texts))
                if number == len(self._texts):
                    self._texts.append(text)
                    self.octets += len(text)
        return found[which]

    def at(self, numbers: list[int]) -> list[str]:
        return [self._texts[number] for number in numbers]

    def keep(self, used: I32) -> I32:
        """Forgets all but these. Returns what each number is now, at its place; NONE stays at -1."""
        now = np.full(len(self._texts) + 1, NONE, np.int32)
        which = np.unique(used[used >= 0])
        now[which] = np.arange(len(which))
        self._texts = self.at(which.tolist())
        self._numbers = {text: number for number, text in enumerate(self._texts)}
        self.octets = sum(map(len, self._texts))
        return now


def _is_address(name: str) -> bool:
    return ":" in name or name.replace(".", "").isdigit()


def _listed(texts: _Texts, numbers: I32) -> tuple[list[str], I32]:
    """The texts of these numbers, each once, and the place of each number's."""
    which, place = np.unique(numbers, return_inverse=True)
    without = int(len(which) > 0 and which[0] < 0)
    return texts.at(which[without:].tolist()), (place - without).astype(np.int32)


def _goes_on(before: Entries, at: Places, new: Entries) -> npt.NDArray[np.bool_]:
    """Whether each of `new` is of the same client, address and name as that one, which has not expired."""
    found: npt.NDArray[np.bool_] = (
        (before["key"][at] == new["key"]) & (before["name"][at] == new["name"]) & (new["first"] <= before["until"][at])
    )
    return found


def _runs(answers: Entries) -> Entries:
    """Of ordered answers, those that say the same behind each other as one."""
    if not len(answers):
        return answers
    begins = np.ones(len(answers), np.bool_)
    begins[1:] = ~_goes_on(answers, np.arange(len(answers) - 1), answers[1:])
    at = np.flatnonzero(begins)
    runs = chosen(answers, at)
    for time in ("last", "until"):
        runs[time] = np.maximum.reduceat(answers[time], at)
    return runs


def _inserted(entries: Entries, at: Places, new: Entries) -> Entries:
    """With the new ones before the entries at these places."""
    if not len(new):
        return entries
    opaque = np.dtype((np.void, entries.itemsize))
    found: Entries = np.insert(entries.view(opaque), at, new.view(opaque)).view(entries.dtype)
    return found


def _newest(entries: Entries, time: str, most: int) -> Entries:
    if len(entries) <= most:
        return entries
    return chosen(entries, np.sort(np.argsort(entries[time], kind="stable")[len(entries) - most :]))


def _mixed(words: list[npt.NDArray[np.uint64]]) -> Keys:
    found = np.zeros(len(words[0]), np.uint64)
    for word, odd in zip(words, _MIX, strict=False):
        found = (found ^ word) * odd
        found ^= found >> _SHIFT
    return found


def _words(addresses: U8) -> list[npt.NDArray[np.uint64]]:
    return list(np.ascontiguousarray(addresses).view(np.uint64).T)


def _pair_keys(client: U8, other: U8) -> Keys:
    return _mixed([*_words(client), *_words(other)])


def _ends(src: U8, dst: U8, is_answer: npt.NDArray[np.bool_]) -> tuple[U8, U8]:
    """Clients and servers: where the source has the lower port, it is taken as the server."""
    turned = is_answer[:, np.newaxis]
    return np.where(turned, dst, src), np.where(turned, src, dst)


def _flow_keys(src: U8, dst: U8, src_port: U16, dst_port: U16, protocol: U8) -> Keys:
    """The same both ways."""
    ends = [_mixed([*_words(address), port.astype(np.uint64)]) for address, port in ((src, src_port), (dst, dst_port))]
    return _mixed([np.minimum(*ends), np.maximum(*ends), protocol.astype(np.uint64)])


def _places(ordered: Keys, keys: Keys) -> Places:
    """Where each key is; -1: nowhere."""
    if not len(ordered):
        return np.full(len(keys), -1, np.int64)
    at = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
    return np.where(ordered[at] == keys, at, -1)

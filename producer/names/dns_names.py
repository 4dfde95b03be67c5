"""DNS copies to rows: queries wait for their answers here. Pure."""

import numpy as np
import numpy.typing as npt

from producer.names import copies
from producer.names.columns import (
    DNS,
    INCOMPLETE,
    LLMNR,
    MALFORMED,
    MDNS,
    NAMED,
    NAMELESS,
    NONE,
    Names,
    Rows,
    chosen,
    no_names,
    put_together,
)
from producer.names.copies import turned
from producer.names.ech import EchConfigs
from producer.names.limits import Limits
from producer.names.matching import Asked, Transactions, keys
from producer.names.parsers import dns
from schemas.packets import I64, U8, U16

_STATUS = np.array([NAMELESS, INCOMPLETE, MALFORMED], np.uint8)  # of a copy without a row, by its outcome


class DnsNames:
    """Messages of UDP, TCP, mDNS and LLMNR. Raises EnvironmentProblem where dns.c was not compiled."""

    def __init__(self, limits: Limits, configs: EchConfigs) -> None:
        self._parser = dns.DnsParser()
        self._transactions = Transactions(limits.queries, limits.query_ns)
        self._configs = configs
        self.unused = 0
        self.discarded = 0

    @property
    def open(self) -> int:
        """Copies of queries without an answer yet."""
        return self._transactions.copies

    def read(
        self, octets: memoryview, offsets: I64, lengths: U16, cut: U8, base: Rows, *, is_stream: bool = False
    ) -> Names:
        """Copies and their rows of `base`, whose `kind` is set; of the answers' the sender becomes the server."""
        if not len(base):
            return no_names()
        base["kind"] = _kinds(base)
        framings = np.where(base["kind"] == MDNS, dns.MULTICAST, dns.STREAM if is_stream else dns.DATAGRAM)
        parsed = self._parser.read(octets, offsets, lengths, framings.astype(np.uint8), cut)
        rows = _rows(parsed, base)
        is_response = parsed.rows["is_response"].astype(np.bool_)
        is_plain = (rows["kind"] == DNS) & (rows["status"] == NAMED)
        named = np.array(parsed.names, np.object_)
        tried = np.flatnonzero(is_plain)
        candidates = chosen(rows, tried)
        batch = Asked(
            keys(candidates, parsed.rows["id"][tried], parsed.rows["name_hash"][tried]),
            candidates,
            named[candidates["name"]] if len(named) else named,
        )
        matched = self._transactions.match(batch, is_response[tried])
        self.unused += matched.unused
        answered = tried[matched.rows]
        rows["latency_us"][answered] = matched.latency_us
        rows["copies"][answered] += matched.copies.astype(np.int32)
        self._learn(parsed.rows[answered[matched.latency_us >= 0]], octets, offsets)
        kept = ~is_plain
        kept[answered] = True
        places = np.flatnonzero(kept)
        begins, counts = parsed.rows["address"][places].astype(np.int64), parsed.rows["addresses"][places]
        address_row = np.repeat(np.arange(len(places)), counts)
        within = np.arange(len(address_row)) - np.repeat(np.cumsum(counts) - counts, counts)
        return no_names()._replace(
            rows=put_together([chosen(rows, kept), _nameless(parsed, base)]),
            names=parsed.names,
            answer_sets=parsed.answers,
            address=parsed.addresses[np.repeat(begins, counts) + within],
            address_row=address_row,
        )

    def expire(self, now_ns: int) -> Names:
        """Queries that nobody answered, and those that are too many."""
        found, surplus = self._transactions.expire(now_ns)
        self.discarded += surplus
        return found

    def _learn(self, answers: Rows, octets: memoryview, offsets: I64) -> None:
        """Of answers to queries that were seen: whoever else sends one must not decide which hellos are encrypted."""
        for row in answers[answers["ech"] >= 0]:
            begin = int(offsets[row["copy"]]) + int(row["ech"])
            self._configs.learn(bytes(octets[begin : begin + int(row["ech_bytes"])]))


def _rows(parsed: dns.DnsRows, base: Rows) -> Rows:
    found = parsed.rows
    rows = chosen(base, found["copy"])
    rows["name"], rows["qtype"], rows["answers"] = found["name"], found["type"], found["answers"]
    is_response = found["is_response"] == 1
    turned(rows, is_response)
    rows["rcode"] = np.where(is_response, found["rcode"].astype(np.int16), NONE)
    rows["ttl"] = found["ttl"]
    rows["status"] = np.where(found["outcome"] == dns.BROKEN, MALFORMED, NAMED)
    further = np.zeros(len(rows), np.bool_)
    further[1:] = found["copy"][1:] == found["copy"][:-1]
    rows["copies"][further] = 0
    return rows


def _nameless(parsed: dns.DnsRows, base: Rows) -> Rows:
    """A row for each copy of which no name came."""
    without = np.ones(len(base), np.bool_)
    without[parsed.rows["copy"]] = False
    rows = chosen(base, without)
    rows["status"] = _STATUS[parsed.outcomes[without]]
    return rows


def _kinds(rows: Rows) -> npt.NDArray[np.uint8]:
    """By the ports: a client of DNS may have any, also that of the other two."""

    def either(port: int) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = (rows["client_port"] == port) | (rows["server_port"] == port)
        return found

    kinds = np.where(either(copies.PORT_MDNS), MDNS, np.where(either(copies.PORT_LLMNR), LLMNR, DNS))
    return np.where(either(copies.PORT_DNS), DNS, kinds).astype(np.uint8)

"""Copies of payload to names. Pure: the clock is that of the copies, so the same copies give the same rows."""

from collections import Counter

import numpy as np

from producer.kernel.abi import MORE_FRAGMENTS
from producer.names import copies
from producer.names.columns import (
    HTTP,
    INCOMPLETE,
    MALFORMED,
    NAMED,
    NAMELESS,
    Collected,
    Names,
    Rows,
    chosen,
    joined,
    put_together,
)
from producer.names.copies import Copy, Heads, base_rows, flow_keys
from producer.names.dns_names import DnsNames
from producer.names.ech import EchConfigs
from producer.names.fragments import Fragments
from producer.names.hellos import Hellos
from producer.names.limits import Limits
from producer.names.parsers import http
from producer.names.reassembly import Waiting
from producer.names.streams import Streams
from schemas.packets import I64


def ready() -> None:
    """Raises EnvironmentProblem, with what to do, when a part of this package was not compiled."""
    NameReader(Limits(queries=0, flows=0, finished=0))


class NameReader:
    """The names of one producer.

    Each copy becomes part of one row, is `unused`, or still `open`; so of any number of calls
    copies = sum(rows["copies"]) + unused + open.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        limits = limits or Limits()
        self._found = Collected()
        configs = EchConfigs()
        self._dns = DnsNames(limits, configs)
        self._hellos = Hellos(limits, configs, self._found)
        self._fragments, self._streams = Fragments(limits), Streams(limits)
        self._requests: Waiting[bytes, int] = Waiting(limits.finished)  # sequence number of each flow's last one
        self._unused = 0

    @property
    def unused(self) -> int:
        """Copies that made no row: they came twice, are a server's, belong to nothing that has a name."""
        parts = (self._dns, self._hellos, self._fragments, self._streams)
        return self._unused + sum(part.unused for part in parts)

    @property
    def open(self) -> int:
        """Copies that wait: queries for their answers, parts for the rest."""
        return sum(part.open for part in (self._dns, self._hellos, self._fragments, self._streams))

    @property
    def discarded(self) -> Counter[str]:
        """What was thrown out because there was too much of it, by what it was."""
        return self._hellos.discarded + Counter(
            queries_too_many=self._dns.discarded,
            datagrams_too_many=self._fragments.discarded,
            messages_unfinished=self._streams.discarded,
        )

    def read(self, heads: Heads, payload: memoryview, offsets: I64) -> Names:
        """Copies in their order: heads[i]["copied"] octets each from payload[offsets[i]] on.

        heads: shape (n,), of producer.kernel.abi.COPY; offsets: shape (n,). Raises ValueError when a copy reaches
        behind `payload`.
        """
        if not len(heads):
            return joined([])
        lengths = heads["copied"]
        if int(offsets.min()) < 0 or int((offsets + lengths).max()) > len(payload):
            raise ValueError("a copy reaches behind what was read of the ring")
        rows, kinds = base_rows(heads), heads["kind"]
        is_cut = (heads["payload_bytes"] > lengths).astype(np.uint8)
        direct = np.flatnonzero(kinds == copies.DNS)
        parts = [self._dns.read(payload, offsets[direct], lengths[direct], is_cut[direct], chosen(rows, direct))]
        others = np.flatnonzero(kinds != copies.DNS)
        if len(others):
            parts += self._others(heads[others], payload, offsets[others], chosen(rows, others))
        return joined(parts)

    def expire(self, now_ns: int) -> Names:
        """What waited too long, at this ktime: queries without an answer (rcode -1), and what is there of parts."""
        self._hellos.expire(now_ns)
        self._streams.expire(now_ns)
        opened = [found for copy in self._fragments.expire(now_ns) for found in self._read(copy, len(copy.octets))]
        return joined([*self._joined_dns(opened), self._dns.expire(now_ns), self._taken()])

    def _others(self, heads: Heads, payload: memoryview, offsets: I64, rows: Rows) -> list[Names]:
        names = ("kind", "seq", "copied", "payload_bytes", "fragment_offset", "flags")
        columns = (heads[name].tolist() for name in names)
        dns: list[Copy] = []
        for at, (key, begin, kind, seq, copied, size, fragment, flags) in enumerate(
            zip(flow_keys(rows), offsets.tolist(), *columns, strict=True)
        ):
            if not copied:
                self._unused += 1
                continue
            copy = Copy(
                kind=kind,
                row=rows[at : at + 1],
                key=key,
                seq=seq,
                octets=bytes(payload[begin : begin + copied]),
                is_cut=size > copied,
            )
            if kind == copies.FRAGMENT:
                whole = self._fragments.add(copy, fragment, is_last=not flags & MORE_FRAGMENTS)
                dns += [] if whole is None else self._read(whole, len(whole.octets))
            else:
                dns += self._read(copy, size)
        return [*self._joined_dns(dns), self._taken()]

    def _read(self, copy: Copy, size: int) -> list[Copy]:
        """Reads what is not DNS, of `size` octets on the wire; what is DNS comes back, whole messages of it."""
        if copy.kind == copies.DNS:
            return [copy]
        if copy.kind == copies.TCP_DNS:
            messages = self._streams.add(copy, size)
            return [] if messages is None else [messages]
        if copy.kind in (copies.TLS, copies.CONTINUATION):
            self._hellos.tls(copy)
        elif copy.kind == copies.QUIC:
            self._hellos.quic(copy)
        elif copy.kind == copies.HTTP:
            self._http(copy)
        else:  # of a newer kernel program
            self._unused += copy.count
        return []

    def _http(self, copy: Copy) -> None:
        if self._requests.get(copy.key) == copy.seq:
            self._unused += copy.count
            return
        self._requests.pop(copy.key)
        self._requests.put(copy.key, copy.seq)
        request = http.request(copy.octets)
        row = copy.row
        row["kind"] = HTTP
        if request is None:
            row["status"] = MALFORMED
            self._found.add(row)
            return
        row["method"] = request.method
        row["status"] = NAMED if request.host else NAMELESS if request.is_whole else INCOMPLETE
        self._found.add(row, name=request.host, alpn=request.version)

    def _joined_dns(self, found: list[Copy]) -> list[Names]:
        """DNS messages that stand in octets of their own; those of TCP are read apart."""
        parts = []
        for is_stream in (False, True):
            messages = [copy for copy in found if (copy.kind == copies.TCP_DNS) is is_stream]
            if messages:
                lengths = np.array([len(copy.octets) for copy in messages], np.uint16)
                offsets = np.cumsum(lengths, dtype=np.int64) - lengths
                cut = np.array([copy.is_cut for copy in messages], np.uint8)
                octets = memoryview(b"".join(copy.octets for copy in messages))
                rows = put_together([copy.row for copy in messages])
                parts.append(self._dns.read(octets, offsets, lengths, cut, rows, is_stream=is_stream))
        return parts

    def _taken(self) -> Names:
        found = self._found.names()
        self._found.clear()
        return found

"""IP datagrams that were copied in fragments, put together, and what is in them. Pure.

Everything of it may be forged: pieces that overlap change nothing of what is there, and what is whole is looked at like
any other payload.
"""

from typing import NamedTuple

from producer.names import copies
from producer.names.columns import Rows, alone
from producer.names.copies import Copy
from producer.names.limits import Limits
from producer.names.parsers import quic
from producer.names.reassembly import Unfinished, Waiting, prefix

_UDP_BYTES, _TCP_BYTES = 8, 20
_LONG = 0xC0  # how QUIC's long headers begin

_Key = tuple[bytes, int, int]  # flow, protocol, identification


class _Datagram(NamedTuple):
    key: bytes
    unfinished: Unfinished


class Fragments:
    """Datagrams of which a fragment is missing."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: Waiting[_Key, _Datagram] = Waiting(limits.flows)
        self.unused = 0
        self.discarded = 0

    @property
    def open(self) -> int:
        """Copies of datagrams that are not whole."""
        return sum(datagram.unfinished.copies for datagram in self._waiting.values())

    def add(self, copy: Copy, offset: int, *, is_last: bool) -> Copy | None:
        """What is in the datagram that is whole with this fragment.

        `copy.seq` is the datagram's identification, `offset` in octets.
        """
        key = (copy.key, int(copy.row["protocol"][0]), copy.seq)
        datagram = self._waiting.get(key)
        if datagram is None:
            datagram = _Datagram(copy.key, Unfinished(row=copy.row, begun_ns=copy.time_ns))
            pushed = self._waiting.put(key, datagram)
            if pushed is not None:
                self._lose(pushed)
        state = datagram.unfinished
        state.row = alone(copy.row)
        state.copies += 1
        state.is_cut |= copy.is_cut
        if is_last:
            state.begin = offset + len(copy.octets)  # of a datagram: where it ends
        state.add(offset, copy.octets)
        octets = prefix(state.pieces, 0)
        ended = state.begin is not None and len(octets) >= state.begin
        if ended or (state.is_cut and octets) or len(state.pieces) >= self._limits.parts:
            self._waiting.pop(key)
            return self._opened(datagram, octets, is_cut=not ended)
        return None

    def expire(self, now_ns: int) -> list[Copy]:
        """What is there of those whose rest does not come."""
        found = []
        for datagram in self._waiting.taken(
            lambda datagram: now_ns - datagram.unfinished.begun_ns > self._limits.part_ns
        ):
            opened = self._opened(datagram, prefix(datagram.unfinished.pieces, 0), is_cut=True)
            if opened is not None:
                opened.row["copy"] = -1
                found.append(opened)
        return found

    def _opened(self, datagram: _Datagram, octets: bytes, *, is_cut: bool) -> Copy | None:
        state = datagram.unfinished
        state.row["copies"] = state.copies
        found = _payload(datagram.key, state.row, octets, is_cut=is_cut)
        if found is None:
            self.unused += state.copies
        return found

    def _lose(self, datagram: _Datagram) -> None:
        self.unused += datagram.unfinished.copies
        self.discarded += 1


def _payload(key: bytes, row: Rows, octets: bytes, *, is_cut: bool) -> Copy | None:
    """Behind a transport header; None when nothing of it can be read."""
    protocol = int(row["protocol"][0])
    seq = 0
    if protocol == copies.UDP and len(octets) > _UDP_BYTES:
        payload = octets[_UDP_BYTES:]
        kind = copies.QUIC if payload[0] >= _LONG and quic.is_known(payload) else copies.DNS
    elif protocol == copies.TCP and len(octets) > _TCP_BYTES:
        payload = octets[4 * (octets[12] >> 4) :]
        seq = int.from_bytes(octets[4:8], "big")
        is_dns = copies.PORT_DNS in (int(row["client_port"][0]), int(row["server_port"][0]))
        kind = copies.TCP_DNS if is_dns else copies.TLS if payload[:1] == b"\x16" else copies.HTTP
    else:
        return None
    return Copy(kind=kind, row=row, key=key, seq=seq, octets=payload, is_cut=is_cut) if payload else None

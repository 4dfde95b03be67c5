"""ClientHellos of TLS and QUIC, over as many segments, records and datagrams as they take. Pure."""

from collections import Counter
from dataclasses import dataclass

from producer.names.columns import (
    ENCRYPTED,
    INCOMPLETE,
    MALFORMED,
    NAMED,
    NAMELESS,
    QUIC,
    REAL_ECH,
    TLS,
    Collected,
    Rows,
    alone,
)
from producer.names.copies import CONTINUATION, Copy, turned_key
from producer.names.ech import EchConfigs
from producer.names.limits import Limits
from producer.names.parsers import quic
from producer.names.parsers.hello import BROKEN, READ, SHORT, Hello, HelloParser
from producer.names.reassembly import Unfinished, Waiting, prefix

_SERIAL = 1 << 32  # of sequence numbers
_MOST_HELLO = 16_384


@dataclass(frozen=True, slots=True)
class _Finished:
    """A hello that has its row."""

    begin: int  # sequence number; 0 of QUIC
    ids: frozenset[bytes]
    name: str
    time_ns: int


class Hellos:
    """Both kinds wait here for what they lack. Raises EnvironmentProblem where hello.c was not compiled."""

    def __init__(self, limits: Limits, configs: EchConfigs, found: Collected) -> None:
        self._limits, self._configs, self.found = limits, configs, found
        self._parser = HelloParser()
        self._tls: Waiting[bytes, Unfinished] = Waiting(limits.flows)
        self._quic: Waiting[bytes, Unfinished] = Waiting(limits.flows)
        self._finished: Waiting[tuple[int, bytes], _Finished] = Waiting(limits.finished)
        self._second, self._initials = 0, 0  # that QUIC's first packets were decrypted in, and how many
        self.unused = 0
        self.discarded: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """Copies of hellos that are not finished."""
        return sum(hello.copies for waiting in (self._tls, self._quic) for hello in waiting.values())

    # --- TLS

    def tls(self, copy: Copy) -> None:
        """A segment that begins like a hello, or one that may belong to it."""
        known = self._finished.get((TLS, copy.key))
        is_behind = known is not None and (copy.seq - known.begin) % _SERIAL < _MOST_HELLO
        if known and is_behind and (copy.kind == CONTINUATION or copy.seq == known.begin):
            self.unused += copy.count
            return
        state = self._tls.get(copy.key)
        if state is None and copy.kind != CONTINUATION:
            hello = self._parser.records(copy.octets)
            if known and is_behind and hello.outcome == READ and hello.name == known.name:
                self.unused += copy.count  # again, as a HelloRetryRequest asked for it
                return
            if hello.outcome != SHORT or (copy.is_cut and hello.name):
                self._emit(copy.row, TLS, copy.key, hello, begin=copy.seq)
                return
        if state is not None and copy.kind != CONTINUATION and self._is_another(state, copy):
            self._tls.pop(copy.key)
            self._give_up(state, TLS)
            state = None
        if state is None:
            state = Unfinished(row=copy.row, begun_ns=copy.time_ns)
            self._put(self._tls, copy.key, state, TLS)
        if copy.kind != CONTINUATION:
            state.begin = copy.seq
        self._add(state, copy)
        state.add(copy.seq, copy.octets)
        begin, hello = self._tls_hello(state)
        if (
            hello.outcome == READ
            or (hello.outcome == BROKEN and state.begin is not None)
            or self._is_full(state, hello)
        ):
            self._tls.pop(copy.key)
            if state.begin is None and hello.outcome == BROKEN:
                self.unused += state.copies
            else:
                self._emit(_row(state), TLS, copy.key, hello, begin=begin)

    def _is_another(self, state: Unfinished, copy: Copy) -> bool:
        """Whether a hello begins far from the one that waits: an older connection had the same ends."""
        if state.begin is None:
            return all((seq - copy.seq) % _SERIAL >= _MOST_HELLO for seq in state.pieces)
        return (copy.seq - state.begin) % _SERIAL >= _MOST_HELLO

    def _tls_hello(self, state: Unfinished) -> tuple[int, Hello]:
        begin = state.begin
        if begin is None:  # the lowest so far
            first = next(iter(state.pieces))
            begin = (
                first + min((seq - first + _SERIAL // 2) % _SERIAL for seq in state.pieces) - _SERIAL // 2
            ) % _SERIAL
        return begin, self._parser.records(prefix(state.pieces, begin, _SERIAL))

    # --- QUIC

    def quic(self, copy: Copy) -> None:
        """A datagram with an Initial packet."""
        second = copy.time_ns // 1_000_000_000
        if second != self._second:
            self._second, self._initials = second, 0
        self._initials += 1
        if self._initials > self._limits.initials_per_second:
            self.unused += copy.count
            self.discarded["initials_over_budget"] += 1
            return
        known = self._finished.get((QUIC, copy.key))
        state = self._quic.get(copy.key)
        initials = list(quic.initials(copy.octets))
        if known and all(initial.destination_id in known.ids for initial in initials):
            self.unused += copy.count  # it came twice, or acknowledges
            return
        ids = [] if state is None else list(state.ids)
        pieces: list[tuple[int, bytes]] = []
        for initial in initials:
            for destination in dict.fromkeys((*ids, initial.destination_id)):
                read = quic.frames(initial, destination)
                if read is not None:
                    ids = list(dict.fromkeys((*ids, destination)))
                    pieces += read.pieces
                    break
        if state is None and not pieces:
            self._nothing(copy, has_keys=bool(ids) or known is not None, is_quic=bool(initials))
            return
        if state is None:
            state = Unfinished(row=copy.row, begun_ns=copy.time_ns)
            self._put(self._quic, copy.key, state, QUIC)
        self._add(state, copy)
        state.ids = ids[: self._limits.parts]
        for offset, octets in pieces:
            state.add(offset, octets)
        hello = self._parser.crypto(prefix(state.pieces, 0))
        if hello.outcome != SHORT or self._is_full(state, hello):
            self._quic.pop(copy.key)
            if known and known.name == hello.name and copy.time_ns - known.time_ns < self._limits.part_ns:
                self.unused += state.copies  # again, as a Retry asked for it
            else:
                self._emit(_row(state), QUIC, copy.key, hello, ids=frozenset(ids))

    def _nothing(self, copy: Copy, *, has_keys: bool, is_quic: bool) -> None:
        """A datagram without a piece of a hello: a server's, a later one, or one whose connection began unseen."""
        back = turned_key(copy.key)
        if has_keys or self._quic.get(back) or self._finished.get((QUIC, back)):
            self.unused += copy.count
            return
        copy.row["kind"], copy.row["status"] = QUIC, INCOMPLETE if is_quic else MALFORMED
        self.found.add(copy.row)

    # --- both

    def expire(self, now_ns: int) -> None:
        """Hellos that waited too long for the rest."""
        for waiting, kind in ((self._tls, TLS), (self._quic, QUIC)):
            for state in waiting.taken(lambda state: now_ns - state.begun_ns > self._limits.part_ns):
                self._give_up(state, kind)

    def _put(self, waiting: Waiting[bytes, Unfinished], key: bytes, state: Unfinished, kind: int) -> None:
        pushed = waiting.put(key, state)
        if pushed is not None:
            self.discarded["hellos_too_many"] += 1
            self._give_up(pushed, kind)

    def _add(self, state: Unfinished, copy: Copy) -> None:
        state.row = alone(copy.row)
        state.copies += copy.count
        state.parts += 1
        state.is_cut |= copy.is_cut

    def _is_full(self, state: Unfinished, hello: Hello) -> bool:
        full = state.parts >= self._limits.parts or state.octets >= self._limits.octets
        return full or bool(state.is_cut and hello.name)

    def _give_up(self, state: Unfinished, kind: int) -> None:
        """What is there of a hello whose rest does not come."""
        if kind == QUIC:
            hello = self._parser.crypto(prefix(state.pieces, 0))
        else:
            _, hello = self._tls_hello(state)
            if state.begin is None and hello.outcome == BROKEN:
                self.unused += state.copies  # segments that belong to no hello
                return
        row = _row(state)
        row["copy"] = -1
        self._emit(row, kind, None, hello)

    def _emit(
        self,
        row: Rows,
        kind: int,
        key: bytes | None,
        hello: Hello,
        *,
        begin: int = 0,
        ids: frozenset[bytes] = frozenset(),
    ) -> None:
        row["kind"] = kind
        row["ech"] = ech = self._configs.of(hello)
        if hello.outcome == BROKEN:
            row["status"] = MALFORMED
        elif ech == REAL_ECH:
            row["status"] = ENCRYPTED
        elif hello.name:
            row["status"] = NAMED
        else:
            row["status"] = NAMELESS if hello.outcome == READ else INCOMPLETE
        self.found.add(row, name=hello.name, alpn=hello.alpn, ja4=hello.ja4)
        if key is not None:
            self._finished.pop((kind, key))
            self._finished.put((kind, key), _Finished(begin, ids, hello.name, int(row["time_ns"][0])))


def _row(state: Unfinished) -> Rows:
    state.row["copies"] = state.copies
    return state.row

"""DNS over TCP: segments to whole messages, which stand behind their lengths (RFC 1035, 4.2.2). Pure."""

from dataclasses import dataclass, replace

from producer.names.copies import Copy
from producer.names.limits import Limits
from producer.names.reassembly import Waiting

_SERIAL = 1 << 32
_WINDOW = 1 << 16  # what lies further back is another connection's
_LENGTH_BYTES = 2


@dataclass(slots=True, kw_only=True)
class _Stream:
    next_seq: int
    begun_ns: int  # when the part came of which the rest is missing
    octets: bytes = b""  # of a message that is not there whole
    copies: int = 0  # of which these are
    parts: int = 0
    passed: int = 0  # octets of a message too long to be kept that are still to come


class Streams:
    """One a flow and direction, as long as it is not silent for long."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: Waiting[bytes, _Stream] = Waiting(limits.flows)
        self.unused = 0
        self.discarded = 0

    @property
    def open(self) -> int:
        """Copies of messages that are not whole."""
        return sum(stream.copies for stream in self._waiting.values())

    def add(self, copy: Copy, bytes_on_wire: int) -> Copy | None:
        """The messages that are whole with this segment, of `bytes_on_wire`; the last one may be cut."""
        state = self._waiting.pop(copy.key)
        if state is not None and state.next_seq != copy.seq:
            if (state.next_seq - copy.seq) % _SERIAL <= _WINDOW:  # it came twice
                self.unused += copy.count
                self._keep(copy, state)
                return None
            self._lose(state)
            state = None
        if state is None:
            state = _Stream(next_seq=copy.seq, begun_ns=copy.time_ns)
        state.next_seq = (copy.seq + bytes_on_wire) % _SERIAL
        if state.passed:
            passed = min(state.passed, bytes_on_wire)
            state.passed -= passed
            state.octets = copy.octets[passed:]
            if state.passed or not state.octets:
                self.unused += copy.count
                self._keep(copy, state)
                return None
        else:
            state.octets += copy.octets
        state.copies += copy.count
        state.parts += 1
        return self._whole(copy, state)

    def _whole(self, copy: Copy, state: _Stream) -> Copy | None:
        octets, end = state.octets, 0
        while end + _LENGTH_BYTES <= len(octets):
            size = int.from_bytes(octets[end : end + _LENGTH_BYTES], "big") + _LENGTH_BYTES
            if end + size > len(octets):
                break
            end += size
        rest = octets[end:]
        if not rest:  # where it goes on is kept, so that a segment that comes again is known
            copies, state.copies, state.parts, state.octets = state.copies, 0, 0, b""
            self._keep(copy, state)
            return _messages(copy, octets, copies)
        missing = int.from_bytes(rest[:_LENGTH_BYTES], "big") + _LENGTH_BYTES - len(rest) if len(rest) > 1 else 0
        full = state.parts >= self._limits.parts or len(rest) + missing > self._limits.octets
        if copy.is_cut or full:  # what is here is read as it is; the rest of it passes by
            state.passed = max(0, missing - (self._not_copied(copy, state)))
            copies, state.copies, state.parts, state.octets = state.copies, 0, 0, b""
            self._keep(copy, state)
            return _messages(copy, octets, copies)
        if end:
            copies, state.copies, state.parts, state.octets = state.copies, 0, 0, rest
            self._keep(copy, state)
            return _messages(copy, octets[:end], copies)
        self._keep(copy, state)
        return None

    @staticmethod
    def _not_copied(copy: Copy, state: _Stream) -> int:
        return (state.next_seq - copy.seq) % _SERIAL - len(copy.octets)

    def expire(self, now_ns: int) -> None:
        """Messages whose rest does not come."""
        for state in self._waiting.taken(lambda state: now_ns - state.begun_ns > self._limits.part_ns):
            self._lose(state)

    def _keep(self, copy: Copy, state: _Stream) -> None:
        state.begun_ns = copy.time_ns
        pushed = self._waiting.put(copy.key, state)
        if pushed is not None:
            self._lose(pushed)

    def _lose(self, state: _Stream) -> None:
        self.unused += state.copies
        self.discarded += bool(state.octets)


def _messages(copy: Copy, octets: bytes, copies: int) -> Copy:
    copy.row["copies"] = copies
    return replace(copy, octets=octets)

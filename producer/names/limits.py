"""How much of what comes in parts, or waits, is kept. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one NameReader: 16 MB with all of it full."""

    queries: int = 16_384  # that wait for their answer
    query_ns: int = 10_000_000_000
    flows: int = 1_024  # of which a hello, a datagram or a message is unfinished; each kind by itself
    parts: int = 4  # segments, datagrams or fragments of one
    octets: int = 8_192  # of one
    part_ns: int = 5_000_000_000
    finished: int = 4_096  # flows that are remembered to know again what comes twice
    initials_per_second: int = 1_000  # QUIC's first packets that are read: a fifth of a core at worst
